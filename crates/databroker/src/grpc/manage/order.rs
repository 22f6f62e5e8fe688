//! The order of lists: names of fields, separated by commas, each with `-` before it for the other way round.

use std::cmp::Ordering;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage, Value};

use super::entity::Entity;

/// By which fields, in this order.
pub(super) struct Order(Vec<By>);

struct By {
    path: Vec<FieldDescriptor>,
    descending: bool,
}

impl Order {
    /// Reads an order over the fields of `message`; an empty text is the order there is.
    pub(super) fn read(text: &str, message: &MessageDescriptor) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let by = |part: &str| {
            let part = part.trim();
            let (name, descending) = match part.strip_prefix('-') {
                Some(name) => (name.trim(), true),
                None => (part, false),
            };
            Ok(By {
                path: path(name, message)?,
                descending,
            })
        };
        text.split(',').map(by).collect::<Result<_, _>>().map(Self)
    }

    /// Entities that agree in all fields stay in the order they are in.
    pub(super) fn sorted(&self, entities: Vec<Entity>) -> Vec<Entity> {
        if self.0.is_empty() {
            return entities;
        }
        let keys = |entity: &Entity| -> Vec<Key> {
            let by = self.0.iter();
            by.map(|by| key_at(entity.message(), &by.path)).collect()
        };
        let mut keyed: Vec<(Vec<Key>, Entity)> = entities
            .into_iter()
            .map(|entity| (keys(&entity), entity))
            .collect();
        keyed.sort_by(|(one, _), (other, _)| self.compare(one, other));
        keyed.into_iter().map(|(_, entity)| entity).collect()
    }

    fn compare(&self, one: &[Key], other: &[Key]) -> Ordering {
        let keys = self.0.iter().zip(one.iter().zip(other));
        keys.map(|(by, (one, other))| match by.descending {
            true => other.cmp(one),
            false => one.cmp(other),
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
    }
}

fn path(name: &str, message: &MessageDescriptor) -> Result<Vec<FieldDescriptor>, String> {
    let mut path: Vec<FieldDescriptor> = Vec::new();
    for part in name.split('.') {
        let unknown = || format!("order_by: there is no field {name:?}");
        let message = match path.last() {
            None => message.clone(),
            Some(outer) if outer.is_list() => return Err(unknown()),
            Some(outer) => outer.kind().as_message().ok_or_else(unknown)?.clone(),
        };
        let field = message.get_field_by_name(part).ok_or_else(unknown)?;
        if field.is_map() {
            return Err(format!("order_by: {name:?} is a map, which has no order"));
        }
        path.push(field);
    }
    Ok(path)
}

/// A value that can be compared with those of the same field.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i128),
    Text(Vec<u8>),
    Time(i64, i32),
    List(Vec<Key>),
}

fn key_at(message: &DynamicMessage, path: &[FieldDescriptor]) -> Key {
    let Some((field, inner)) = path.split_first() else {
        return Key::Text(Vec::new());
    };
    let value = message.get_field(field);
    match (&*value, inner) {
        (Value::Message(message), [_, ..]) => key_at(message, inner),
        (value, _) => key(value),
    }
}

fn key(value: &Value) -> Key {
    match value {
        Value::Bool(value) => Key::Number((*value).into()),
        Value::I32(value) | Value::EnumNumber(value) => Key::Number((*value).into()),
        Value::I64(value) => Key::Number((*value).into()),
        Value::U32(value) => Key::Number((*value).into()),
        Value::U64(value) => Key::Number((*value).into()),
        Value::F32(value) => float(f64::from(*value)),
        Value::F64(value) => float(*value),
        Value::String(text) => Key::Text(text.as_bytes().to_vec()),
        Value::Bytes(bytes) => Key::Text(bytes.to_vec()),
        Value::Message(message) => message_key(message),
        Value::List(values) => Key::List(values.iter().map(key).collect()),
        // Never asked for: see `path`.
        Value::Map(_) => Key::Number(0),
    }
}

/// Floats in the order of their total order.
fn float(value: f64) -> Key {
    let bits = value.to_bits().cast_signed();
    Key::Number((if bits < 0 { bits ^ i64::MAX } else { bits }).into())
}

fn message_key(message: &DynamicMessage) -> Key {
    let name = message.descriptor();
    match name.full_name() {
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            let seconds = message
                .get_field_by_name("seconds")
                .and_then(|value| value.as_i64());
            let nanos = message
                .get_field_by_name("nanos")
                .and_then(|value| value.as_i32());
            Key::Time(seconds.unwrap_or(0), nanos.unwrap_or(0))
        }
        _ => Key::Text(message.encode_to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::manage::entity::Kind;

    #[test]
    fn orders_are_names_of_fields() {
        let route = Kind::named("Route").unwrap().entity;
        for good in [
            "",
            " ",
            "id",
            "-id, name",
            "redirect.host_redirect",
            "to",
            "timeout,-created_at",
        ] {
            assert!(Order::read(good, &route).is_ok(), "{good}");
        }
        for bad in [
            "nonsense",
            "name asc",
            ",",
            "name,",
            "--id",
            "set_request_headers",
            "to.x",
            "name.x",
            "redirect.nope",
            "policies.name",
        ] {
            assert!(Order::read(bad, &route).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_compared_by_what_they_are() {
        assert!(key(&Value::F64(-2.0)) < key(&Value::F64(-1.0)));
        assert!(key(&Value::F64(-1.0)) < key(&Value::F64(0.5)));
        assert!(key(&Value::Bool(false)) < key(&Value::Bool(true)));
        assert!(key(&Value::U64(u64::MAX)) > key(&Value::U64(1)));
        assert!(key(&Value::String("a".into())) < key(&Value::String("b".into())));
        let list = |texts: &[&str]| {
            let values = texts.iter().map(|text| Value::String((*text).into()));
            key(&Value::List(values.collect()))
        };
        assert!(list(&["a"]) < list(&["a", "b"]));
        assert!(list(&["b"]) > list(&["a", "z"]));
    }
}
