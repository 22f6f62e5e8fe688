//! Typed records: how a message becomes a databroker record and back, and what its claims look like.

use jiff::Timestamp;
use prost::{Message, Name};
use serde_json::Value;

use crate::databroker::{Error, Record};
use crate::json;
use crate::pb;

/// A message that is stored as a databroker record.
pub trait RecordMessage: Message + Default + Clone {
    /// The record type: the type URL of the message.
    const TYPE: &'static str;
    /// The record id.
    fn record_id(&self) -> &str;
}

macro_rules! record_message {
    ($message:ty, $type:literal) => {
        impl RecordMessage for $message {
            const TYPE: &'static str = concat!("type.googleapis.com/", $type);
            fn record_id(&self) -> &str {
                &self.id
            }
        }
        impl Name for $message {
            const NAME: &'static str = $type;
            const PACKAGE: &'static str = "";
            fn full_name() -> String {
                $type.into()
            }
            fn type_url() -> String {
                Self::TYPE.into()
            }
        }
    };
}

record_message!(pb::session::Session, "session.Session");
record_message!(pb::user::User, "user.User");
record_message!(pb::user::ServiceAccount, "user.ServiceAccount");
record_message!(pb::device::Type, "pomerium.device.Type");
record_message!(pb::device::Enrollment, "pomerium.device.Enrollment");
record_message!(pb::device::Credential, "pomerium.device.Credential");
record_message!(pb::pomerium::events::LastError, "pomerium.events.LastError");

/// The live record that holds `message`.
pub fn to_record<M: RecordMessage>(message: &M) -> Record {
    Record {
        r#type: M::TYPE.to_owned(),
        id: message.record_id().to_owned(),
        data: Some(prost_types::Any {
            type_url: M::TYPE.to_owned(),
            value: message.encode_to_vec(),
        }),
        ..Record::default()
    }
}

/// The tombstone of a message: its data is kept, so that readers of the change log know what went.
pub fn to_tombstone<M: RecordMessage>(message: &M, now: Timestamp) -> Record {
    Record {
        deleted_at: Some(to_proto_time(now)),
        ..to_record(message)
    }
}

/// Type URL of the data of a record without a type of its own.
pub const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
/// Type of the records of people in a directory: `id`, `group_ids`, `display_name`, `email`.
pub const DIRECTORY_USER: &str = "pomerium.io/DirectoryUser";
/// Type of the records of groups in a directory: `id`, `name`, `email`.
pub const DIRECTORY_GROUP: &str = "pomerium.io/DirectoryGroup";
/// Type of the records that say where a network is.
pub const GEOIP: &str = "pomerium.io/GeoIP";

/// The live record of type `kind` that holds the JSON object `data`; anything else than an object is an empty
/// one.
pub fn struct_record(kind: &str, id: &str, data: &Value) -> Record {
    Record {
        r#type: kind.to_owned(),
        id: id.to_owned(),
        data: Some(prost_types::Any {
            type_url: STRUCT.to_owned(),
            value: json::to_struct(data).encode_to_vec(),
        }),
        ..Record::default()
    }
}

/// The tombstone of such a record.
pub fn struct_tombstone(kind: &str, id: &str, now: Timestamp) -> Record {
    Record {
        deleted_at: Some(to_proto_time(now)),
        ..struct_record(kind, id, &Value::Null)
    }
}

/// The message a record holds.
///
/// Errors with [`Error::Invalid`] when the record is of another type or its bytes do not decode.
pub fn from_record<M: RecordMessage>(record: &Record) -> Result<M, Error> {
    if record.r#type != M::TYPE {
        return Err(Error::Invalid(format!(
            "record {} is a {}, not a {}",
            record.id,
            record.r#type,
            M::TYPE
        )));
    }
    let data = record
        .data
        .as_ref()
        .ok_or_else(|| Error::Invalid(format!("record {} is empty", record.id)))?;
    M::decode(data.value.as_slice()).map_err(|error| Error::Invalid(format!("record {}: {error}", record.id)))
}

/// A protobuf timestamp.
pub fn to_proto_time(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// A moment, unless it is out of range.
pub fn from_proto_time(at: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}
