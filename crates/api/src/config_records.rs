//! Configuration kept as records (`pomerium.config.Route` and the like), read and written as JSON.
//!
//! They are read by description instead of generated types: their hundred fields carry the names of the options
//! of a file, and one decoder reads both. What the options mean is not known here.

use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::databroker::{Error, Record};
use crate::described::descriptors;

/// What the type of each such record begins with; the name of the message follows.
pub const PREFIX: &str = "type.googleapis.com/pomerium.config.";

/// The message in a record. Names are those of the fields, unset fields are absent, 64-bit numbers are
/// numbers, durations are text (`1.5s`).
///
/// Errors with [`Error::Invalid`] when it is of no known type or cannot be decoded.
pub fn to_json(record: &Record) -> Result<Value, Error> {
    let invalid = |what: String| Error::Invalid(format!("record {}: {what}", record.id));
    let message = descriptor(&record.r#type)?;
    let data = record
        .data
        .as_ref()
        .ok_or_else(|| invalid("it is empty".into()))?;
    let message =
        DynamicMessage::decode(message, data.value.as_slice()).map_err(|error| invalid(error.to_string()))?;
    message_json(&message).map_err(|error| invalid(error.to_string()))
}

/// A message in the form of [`to_json`].
///
/// # Errors
/// When it holds what JSON cannot, such as a moment out of range.
pub fn message_json(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options)
}

/// The live record of a message given as JSON, the reverse of [`to_json`]. `kind` is the name of the message,
/// such as `Route`.
///
/// Errors with [`Error::Invalid`] when the JSON is no such message.
pub fn from_json(kind: &str, id: &str, message: &Value) -> Result<Record, Error> {
    let r#type = format!("{PREFIX}{kind}");
    let descriptor = descriptor(&r#type)?;
    let decoded = DynamicMessage::deserialize_with_options(descriptor, message, &DeserializeOptions::new())
        .map_err(|error| Error::Invalid(format!("{kind} {id}: {error}")))?;
    Ok(Record {
        id: id.to_owned(),
        data: Some(prost_types::Any {
            type_url: r#type.clone(),
            value: decoded.encode_to_vec(),
        }),
        r#type,
        ..Record::default()
    })
}

fn descriptor(type_url: &str) -> Result<MessageDescriptor, Error> {
    let name = type_url.rsplit('/').next().unwrap_or_default();
    let unknown = || Error::Invalid(format!("there are no records of type {type_url}"));
    descriptors().get_message_by_name(name).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Field numbers are what other programs rely on; a few of them, by their bytes.
    #[test]
    fn the_wire_form_is_the_one_of_the_tables() {
        for (route, bytes) in [
            (json!({"from": "a"}), &b"\x12\x01a"[..]),
            (json!({"to": ["a", "b"]}), b"\x1a\x01a\x1a\x01b"),
            (json!({"allow_public_unauthenticated_access": true}), b"\x58\x01"),
            (json!({"timeout": "2s"}), b"\x62\x02\x08\x02"),
            (json!({"pass_identity_headers": false}), b"\xc8\x01\x00"),
            (
                json!({"redirect": {"host_redirect": "h"}}),
                b"\x92\x02\x03\x1a\x01h",
            ),
            (json!({"regex_priority_order": 5}), b"\xe8\x03\x05"),
            (json!({"response": {"status": 204}}), b"\xf2\x03\x03\x08\xcc\x01"),
            (json!({"policy_ids": ["p"]}), b"\xb2\x05\x01p"),
            (
                json!({"allow_upgrades": {"values": ["x"]}}),
                b"\xea\x05\x03\x0a\x01x",
            ),
        ] {
            let record = from_json("Route", "id", &route).unwrap();
            assert_eq!(record.data.as_ref().unwrap().value, bytes, "{route}");
            assert_eq!(to_json(&record).unwrap(), route);
        }
    }

    #[test]
    fn a_field_that_is_not_known_is_left_out_and_garbage_is_refused() {
        let mut record = from_json("Route", "id", &json!({"from": "a"})).unwrap();
        let value = &mut record.data.as_mut().unwrap().value;
        value.extend_from_slice(b"\xa2\x02\x01x");
        assert_eq!(to_json(&record).unwrap(), json!({"from": "a"}));
        record.data.as_mut().unwrap().value = vec![0xff];
        assert!(to_json(&record).is_err());
        assert!(from_json("NoSuchThing", "id", &json!({})).is_err());
        assert!(from_json("Route", "id", &json!({"no_such_field": 1})).is_err());
    }

    #[test]
    fn values_of_every_sort_keep_their_form() {
        let route = json!({
            "allowed_idp_claims": {"groups": ["a", "b"]},
            "healthy_panic_threshold": 30,
            "load_balancing_policy": "LOAD_BALANCING_POLICY_MAGLEV",
            "health_checks": [{"timeout": "1.500s", "unhealthy_threshold": 3, "reuse_connection": false}],
            "ppl_policies": [{"raw": "e30="}],
        });
        let record = from_json("Route", "id", &route).unwrap();
        assert_eq!(to_json(&record).unwrap(), route);
    }
}
