//! Names in JSON messages: none may be there twice. Of two, a reader takes one, and another reader the other.

use std::collections::HashSet;
use std::fmt;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// Messages with a JSON form of their own.
const WELL_KNOWN: &str = "google.protobuf";

/// Reads JSON and refuses objects that say something twice.
#[derive(Clone)]
pub(super) enum Names {
    /// Of a message: each field goes by two names.
    Message(MessageDescriptor),
    /// Keys of a map, with what its values are.
    Map(Box<Names>),
    /// Of something that has no description.
    Free,
}

/// What was named.
#[derive(PartialEq, Eq, Hash)]
enum Named {
    Field(u32),
    Key(String),
}

impl Names {
    fn of(field: &FieldDescriptor) -> Self {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                Self::Map(Box::new(Self::of(&entry.map_entry_value_field())))
            }
            Kind::Message(message) if message.package_name() != WELL_KNOWN => Self::Message(message),
            _ => Self::Free,
        }
    }

    /// What `key` names, and what is inside it.
    fn named(&self, key: String) -> (Named, Self) {
        match self {
            Self::Map(values) => (Named::Key(key), Self::clone(values)),
            Self::Free => (Named::Key(key), Self::Free),
            Self::Message(message) => {
                let field = message
                    .get_field_by_json_name(&key)
                    .or_else(|| message.get_field_by_name(&key));
                match field {
                    Some(field) => (Named::Field(field.number()), Self::of(&field)),
                    None => (Named::Key(key), Self::Free),
                }
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Names {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let text = key.clone();
            let (named, inside) = self.named(key);
            if !seen.insert(named) {
                return Err(Error::custom(format_args!("{text:?} is there twice")));
            }
            map.next_value_seed(inside)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self.clone())?.is_some() {}
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pomerium_api::described::descriptors;

    use super::*;

    fn check(json: &str) -> Result<(), String> {
        let message = descriptors()
            .get_message_by_name("pomerium.config.CreateRouteRequest")
            .unwrap();
        let mut read = serde_json::Deserializer::from_str(json);
        let checked = Names::Message(message).deserialize(&mut read);
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn a_field_goes_by_two_names_and_is_there_once() {
        for good in [
            r#"{"route": {"name": "a", "allowWebsockets": true, "to": ["a", "b"], "id": null}}"#,
            r#"{"route": {"setRequestHeaders": {"a_b": "1", "aB": "2"}, "from": "x"}}"#,
            r#"{"route": {"nonsense": {"x": 1, "y": [1.5, -2]}}}"#,
        ] {
            check(good).unwrap();
        }
        for bad in [
            r#"{"route": {"name": "a", "name": "b"}}"#,
            r#"{"route": {"allow_websockets": true, "allowWebsockets": false}}"#,
            r#"{"route": {}, "route": {}}"#,
            r#"{"route": {"set_request_headers": {"a": "1", "a": "2"}}}"#,
            r#"{"route": {"policies": [{"name": "a", "name": "a"}]}}"#,
            r#"{"route": {"nonsense": {"x": 1, "x": 1}}}"#,
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains("is there twice"), "{bad}: {error}");
        }
    }
}
