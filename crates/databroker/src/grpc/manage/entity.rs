//! What is managed: the messages, the records they are kept as, and how one becomes the other.

use jiff::Timestamp;
use pomerium_api::databroker::Record;
use pomerium_api::described::descriptors;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use prost_types::Any;
use tonic::Status;

use super::accounts;

const PACKAGE: &str = "pomerium.config";

/// One of the kinds of things that are managed.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    /// The message of callers.
    pub(super) entity: MessageDescriptor,
    /// The message that is kept; another one for service accounts.
    pub(super) kept: MessageDescriptor,
    /// The field of requests and responses that holds one.
    pub(super) field: String,
    /// The field of lists.
    pub(super) list: String,
}

impl Kind {
    /// By the name of its message.
    pub(super) fn named(name: &str) -> Option<Self> {
        let entity = descriptors().get_message_by_name(&format!("{PACKAGE}.{name}"))?;
        let kept = match name {
            "ServiceAccount" => descriptors().get_message_by_name(accounts::KEPT)?,
            _ => entity.clone(),
        };
        let field = snake(name);
        Some(Self {
            entity,
            kept,
            field,
            list: String::new(),
        })
    }

    /// By a message that holds a list of them.
    pub(super) fn of_list(output: &MessageDescriptor) -> Option<Self> {
        let list = output.fields().find(|field| field.is_list())?;
        let entity = list.kind().as_message()?.clone();
        Some(Self {
            list: list.name().to_owned(),
            ..Self::named(entity.name())?
        })
    }

    pub(super) fn is_account(&self) -> bool {
        self.entity != self.kept
    }

    pub(super) fn is_settings(&self) -> bool {
        self.entity.name() == "Settings"
    }

    pub(super) fn record_type(&self) -> String {
        format!("type.googleapis.com/{}", self.kept.full_name())
    }

    /// The entity of a request.
    pub(super) fn given(&self, request: &DynamicMessage) -> Result<Entity, Status> {
        let missing = || Status::invalid_argument(format!("{} is required", self.field));
        let value = request.get_field_by_name(&self.field).ok_or_else(missing)?;
        if !request.has_field_by_name(&self.field) {
            return Err(missing());
        }
        value.as_message().cloned().map(Entity).ok_or_else(missing)
    }

    /// The record an entity is kept as.
    pub(super) fn record(&self, mut entity: Entity, id: &str, version: u64) -> Record {
        entity.0.clear_field_by_name("modified_at");
        let kept = match self.is_account() {
            true => accounts::kept(&entity.0, &self.kept),
            false => entity.0,
        };
        Record {
            version,
            r#type: self.record_type(),
            id: id.to_owned(),
            data: Some(Any {
                type_url: self.record_type(),
                value: kept.encode_to_vec(),
            }),
            ..Record::default()
        }
    }

    /// The entity in a record, with the time of its last change.
    pub(super) fn read(&self, record: &Record) -> Result<Entity, Status> {
        let broken = |why: &dyn std::fmt::Display| {
            Status::internal(format!(
                "{} {} cannot be read: {why}; delete it, or write it anew by an update without update_mask",
                self.field, record.id
            ))
        };
        let data = record.data.as_ref().ok_or_else(|| broken(&"it is empty"))?;
        if data.type_url.rsplit('/').next() != Some(self.kept.full_name()) {
            return Err(broken(&format_args!("it holds a {}", data.type_url)));
        }
        let kept = DynamicMessage::decode(self.kept.clone(), data.value.as_slice())
            .map_err(|error| broken(&error))?;
        let mut entity = Entity(match self.is_account() {
            true => accounts::entity(&kept, &self.entity),
            false => kept,
        });
        entity.set_proto_time("modified_at", record.modified_at);
        // Other writers may leave it to the record.
        if entity.id().is_none() {
            entity.set("id", Value::String(record.id.clone()));
        }
        Ok(entity)
    }
}

/// A thing that is managed, as callers see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entity(DynamicMessage);

impl Entity {
    pub(super) fn empty(kind: &Kind) -> Self {
        Self(DynamicMessage::new(kind.entity.clone()))
    }

    pub(super) fn message(&self) -> &DynamicMessage {
        &self.0
    }

    pub(super) fn message_mut(&mut self) -> &mut DynamicMessage {
        &mut self.0
    }

    pub(super) fn into_message(self) -> DynamicMessage {
        self.0
    }

    /// Its id; `None` when it has none, which is something else than an empty one.
    pub(super) fn id(&self) -> Option<String> {
        text(&self.0, "id")
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.0.set_field_by_name(name, value);
    }

    pub(super) fn set_time(&mut self, name: &str, at: Timestamp) {
        self.set_proto_time(name, Some(pomerium_api::records::to_proto_time(at)));
    }

    fn set_proto_time(&mut self, name: &str, at: Option<prost_types::Timestamp>) {
        self.0.clear_field_by_name(name);
        let (Some(at), Some(field)) = (at, self.0.descriptor().get_field_by_name(name)) else {
            return;
        };
        if let Value::Message(time) = self.0.get_field_mut(&field) {
            time.set_field_by_name("seconds", Value::I64(at.seconds));
            time.set_field_by_name("nanos", Value::I32(at.nanos));
        }
    }

    /// The seconds of a time field, if it is set.
    pub(super) fn seconds(&self, name: &str) -> Option<i64> {
        if !self.0.has_field_by_name(name) {
            return None;
        }
        let value = self.0.get_field_by_name(name)?;
        value.as_message()?.get_field_by_name("seconds")?.as_i64()
    }

    /// Takes a field over from another entity of the kind, also that it is unset.
    pub(super) fn take(&mut self, name: &str, from: &Self) {
        match from.0.has_field_by_name(name) {
            true => {
                if let Some(value) = from.0.get_field_by_name(name) {
                    self.set(name, value.into_owned());
                }
            }
            false => self.0.clear_field_by_name(name),
        }
    }

    /// Whether two entities of the kind agree in a field.
    pub(super) fn agrees(&self, name: &str, other: &Self) -> bool {
        self.0.has_field_by_name(name) == other.0.has_field_by_name(name)
            && self.0.get_field_by_name(name) == other.0.get_field_by_name(name)
    }
}

/// A field of text, if it is set.
pub(super) fn text(message: &DynamicMessage, name: &str) -> Option<String> {
    if !message.has_field_by_name(name) {
        return None;
    }
    message.get_field_by_name(name)?.as_str().map(str::to_owned)
}

/// `ServiceAccount` as `service_account`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
