//! Records as JSON, the form in which policies look at them (spec policy.md 6.2).
//!
//! Field names are those of the message, unset and empty fields are left out, moments are
//! `{seconds, nanos}`, claims are plain lists. The member of a `oneof` stands under the name of the `oneof`,
//! both with a capital: deployed policies read it there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage};
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

use crate::described::descriptors;
use crate::records::RecordMessage;

/// Deepest nesting that is read; deeper parts become null.
const DEEPEST: usize = 32;

/// A value without a type of its own.
pub fn from_value(value: &prost_types::Value) -> Value {
    value_at(value, DEEPEST)
}

/// A list of such values.
pub fn from_list(list: &prost_types::ListValue) -> Vec<Value> {
    list.values.iter().map(from_value).collect()
}

/// An object of such values.
pub fn from_struct(fields: &prost_types::Struct) -> Value {
    object_at(fields, DEEPEST)
}

/// A JSON value as records hold it.
pub fn to_value(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.iter().map(to_value).collect(),
        }),
        Value::Object(_) => Kind::StructValue(to_struct(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A JSON object as records hold it; anything else is an empty one.
pub fn to_struct(value: &Value) -> prost_types::Struct {
    let fields = value.as_object().into_iter().flatten();
    prost_types::Struct {
        fields: fields
            .map(|(name, value)| (name.clone(), to_value(value)))
            .collect(),
    }
}

fn value_at(value: &prost_types::Value, depth: usize) -> Value {
    match &value.kind {
        _ if depth == 0 => Value::Null,
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => number(*value),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => list
            .values
            .iter()
            .map(|value| value_at(value, depth - 1))
            .collect(),
        Some(Kind::StructValue(fields)) => object_at(fields, depth - 1),
    }
}

fn object_at(fields: &prost_types::Struct, depth: usize) -> Value {
    let entry = |(name, value): (&String, &prost_types::Value)| (name.clone(), value_at(value, depth));
    Value::Object(fields.fields.iter().map(entry).collect())
}

/// Records hold every number as a float; a whole one is shown without `.0`. What is not finite is null.
#[allow(
    clippy::cast_possible_truncation,
    reason = "only whole floats that are exact as i64 are cast"
)]
fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A typed record. None if there is no description of it, which is a mistake in this program.
pub(crate) fn from_message<M: RecordMessage>(message: &M) -> Option<Value> {
    let name = M::TYPE.rsplit('/').next().unwrap_or_default();
    let descriptor = descriptors().get_message_by_name(name)?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()?;
    Some(message_at(&message, DEEPEST))
}

fn message_at(message: &DynamicMessage, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(free) = free_form(message) {
        return free;
    }
    let mut fields = Map::new();
    for (field, value) in message.fields() {
        let value = field_at(value, depth - 1);
        match field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            Some(oneof) => {
                let member = Map::from_iter([(capital(field.name()), value)]);
                fields.insert(capital(oneof.name()), Value::Object(member));
            }
            None => {
                fields.insert(field.name().to_owned(), value);
            }
        }
    }
    Value::Object(fields)
}

/// Messages whose meaning is a JSON value.
fn free_form(message: &DynamicMessage) -> Option<Value> {
    match message.descriptor().full_name() {
        "google.protobuf.ListValue" => {
            let list: prost_types::ListValue = message.transcode_to().ok()?;
            Some(Value::Array(from_list(&list)))
        }
        "google.protobuf.Struct" => {
            let fields: prost_types::Struct = message.transcode_to().ok()?;
            Some(from_struct(&fields))
        }
        "google.protobuf.Value" => {
            let value: prost_types::Value = message.transcode_to().ok()?;
            Some(from_value(&value))
        }
        _ => None,
    }
}

fn field_at(value: &prost_reflect::Value, depth: usize) -> Value {
    use prost_reflect::Value as Field;
    match value {
        Field::Bool(value) => Value::from(*value),
        Field::I32(value) | Field::EnumNumber(value) => Value::from(*value),
        Field::I64(value) => Value::from(*value),
        Field::U32(value) => Value::from(*value),
        Field::U64(value) => Value::from(*value),
        Field::F32(value) => number(f64::from(*value)),
        Field::F64(value) => number(*value),
        Field::String(text) => Value::from(text.as_str()),
        Field::Bytes(bytes) => Value::from(STANDARD.encode(bytes)),
        Field::Message(message) => message_at(message, depth),
        Field::List(values) => values.iter().map(|value| field_at(value, depth)).collect(),
        Field::Map(entries) => {
            let entry = |(key, value): (&MapKey, &Field)| (key_text(key), field_at(value, depth));
            Value::Object(entries.iter().map(entry).collect())
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// `webauthn` as `Webauthn`.
fn capital(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pb::device::{Credential, credential};
    use crate::pb::session::session::{DeviceCredential, device_credential};
    use crate::pb::session::{OAuthToken, Session};
    use crate::pb::user::ServiceAccount;

    fn value(kind: Kind) -> prost_types::Value {
        prost_types::Value { kind: Some(kind) }
    }

    #[test]
    fn free_values() {
        let fields = [("n".to_owned(), value(Kind::NumberValue(0.5)))].into();
        let list = prost_types::ListValue {
            values: vec![
                value(Kind::NumberValue(3.0)),
                value(Kind::NumberValue(f64::NAN)),
                value(Kind::StructValue(prost_types::Struct { fields })),
                prost_types::Value { kind: None },
            ],
        };
        assert_eq!(
            serde_json::to_string(&from_list(&list)).unwrap(),
            r#"[3,null,{"n":0.5},null]"#
        );
    }

    #[test]
    fn deep_values_end_somewhere() {
        let mut deep = value(Kind::BoolValue(true));
        for _ in 0..200 {
            deep = value(Kind::ListValue(prost_types::ListValue { values: vec![deep] }));
        }
        assert!(!from_value(&deep).to_string().contains("true"));
    }

    #[test]
    fn a_session() {
        let claims = prost_types::ListValue {
            values: vec![
                value(Kind::StringValue("staff".into())),
                value(Kind::NumberValue(3.0)),
            ],
        };
        let session = Session {
            id: "s1".into(),
            user_id: "u1".into(),
            expires_at: Some(prost_types::Timestamp {
                seconds: 1_800_000_000,
                nanos: 7,
            }),
            issued_at: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            oauth_token: Some(OAuthToken {
                access_token: "at".into(),
                ..OAuthToken::default()
            }),
            claims: [("groups".to_owned(), claims)].into(),
            impersonate_session_id: Some("s2".into()),
            device_credentials: vec![
                DeviceCredential {
                    type_id: "any".into(),
                    credential: Some(device_credential::Credential::Id("c1".into())),
                },
                DeviceCredential {
                    type_id: "enclave_only".into(),
                    credential: Some(device_credential::Credential::Unavailable(())),
                },
            ],
            ..Session::default()
        };
        assert_eq!(
            from_message(&session).unwrap(),
            json!({
                "id": "s1", "user_id": "u1",
                "expires_at": {"seconds": 1_800_000_000, "nanos": 7},
                "issued_at": {"seconds": 1_700_000_000},
                "oauth_token": {"access_token": "at"},
                "claims": {"groups": ["staff", 3]},
                "impersonate_session_id": "s2",
                "device_credentials": [
                    {"type_id": "any", "Credential": {"Id": "c1"}},
                    {"type_id": "enclave_only", "Credential": {"Unavailable": {}}},
                ],
            })
        );
    }

    #[test]
    fn a_device_and_a_service_account() {
        let webauthn = credential::WebAuthn {
            id: vec![1, 2].into(),
            ..credential::WebAuthn::default()
        };
        let credential = Credential {
            id: "c1".into(),
            enrollment_id: "e1".into(),
            specifier: Some(credential::Specifier::Webauthn(webauthn)),
            ..Credential::default()
        };
        assert_eq!(
            from_message(&credential).unwrap(),
            json!({"id": "c1", "enrollment_id": "e1", "Specifier": {"Webauthn": {"id": "AQI="}}})
        );
        let account = ServiceAccount {
            id: "sa".into(),
            description: Some(String::new()),
            ..ServiceAccount::default()
        };
        assert_eq!(
            from_message(&account).unwrap(),
            json!({"id": "sa", "description": ""})
        );
    }
}
