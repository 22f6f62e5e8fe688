//! Records by their description: what can be done with a message without knowing its Rust type. Patching by field
//! mask, looking for a text, reading a field by name (spec databroker.md 3.1, 3.2, 6.4).

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, ReflectMessage, SerializeOptions, Value};
use prost_types::Any;
use serde_json::Value as Json;

use crate::databroker::Error;

/// Every message of the services, as a `FileDescriptorSet`.
pub static FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// How deep messages are looked into.
const DEEPEST: usize = 32;

/// The descriptions of [`FILE_DESCRIPTOR_SET`]; none if they cannot be read, which the tests would show.
pub fn descriptors() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default());
    &POOL
}

/// The message inside `any`; `None` when its type is not known, or its bytes are not of it.
pub fn decode(any: &Any) -> Option<DynamicMessage> {
    let name = any.type_url.rsplit('/').next()?;
    let message = descriptors().get_message_by_name(name)?;
    DynamicMessage::decode(message, any.value.as_slice()).ok()
}

/// `live` with the fields that `mask` names taken from `new`: one that is absent there is cleared. A name swallows
/// those inside it.
///
/// Errors with [`Error::Invalid`] when the types differ or are not known, or a name is none of the message.
pub fn patched(live: &Any, new: &Any, mask: &[String]) -> Result<Any, Error> {
    if live.type_url != new.type_url {
        let (live, new) = (&live.type_url, &new.type_url);
        return Err(Error::Invalid(format!(
            "the record holds a {live}, the patch a {new}"
        )));
    }
    let unreadable = || Error::Invalid(format!("a {} cannot be patched here", live.type_url));
    let mut into = decode(live).ok_or_else(unreadable)?;
    let from = decode(new).ok_or_else(unreadable)?;
    patch(&mut into, &from, mask)?;
    Ok(Any {
        type_url: live.type_url.clone(),
        value: into.encode_to_vec(),
    })
}

/// [`patched`] for messages of one type.
///
/// Errors with [`Error::Invalid`] when a name is none of the message.
pub fn patch(into: &mut DynamicMessage, from: &DynamicMessage, mask: &[String]) -> Result<(), Error> {
    for name in outermost(mask) {
        let path: Vec<&str> = name.split('.').collect();
        copy(into, Some(from), &path).map_err(|what| Error::Invalid(format!("field mask {name}: {what}")))?;
    }
    Ok(())
}

fn outermost(mask: &[String]) -> impl Iterator<Item = &String> {
    let inside = |name: &str, other: &str| name.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'));
    mask.iter()
        .filter(move |name| !mask.iter().any(|other| inside(name, other)))
}

fn copy(into: &mut DynamicMessage, from: Option<&DynamicMessage>, path: &[&str]) -> Result<(), &'static str> {
    let Some((name, inner)) = path.split_first() else {
        return Err("it is empty");
    };
    let field = into
        .descriptor()
        .get_field_by_name(name)
        .ok_or("there is no such field")?;
    let given = from.filter(|from| from.has_field(&field));
    if inner.is_empty() {
        match given {
            Some(from) => into.set_field(&field, from.get_field(&field).into_owned()),
            None => into.clear_field(&field),
        }
        return Ok(());
    }
    if field.is_list() || field.is_map() || field.kind().as_message().is_none() {
        return Err("it leads through a field that is no single message");
    }
    if given.is_none() && !into.has_field(&field) {
        return known(&field, inner);
    }
    let given = given.map(|from| from.get_field(&field).into_owned());
    let given = given.as_ref().and_then(Value::as_message);
    let target = into.get_field_mut(&field).as_message_mut();
    copy(
        target.ok_or("it leads through a field that is no single message")?,
        given,
        inner,
    )
}

/// Whether a path names a field, where there is nothing to copy.
fn known(field: &prost_reflect::FieldDescriptor, path: &[&str]) -> Result<(), &'static str> {
    let mut message = field.kind();
    for name in path {
        let inner = message
            .as_message()
            .and_then(|message| message.get_field_by_name(name))
            .ok_or("there is no such field")?;
        message = inner.kind();
    }
    Ok(())
}

/// Whether some text inside `any` contains `wanted`, which is in lower case. Names of fields and keys of maps do
/// not count; a type that is not known contains nothing.
pub fn contains_text(any: &Any, wanted: &str) -> bool {
    decode(any).is_some_and(|message| message_contains(&message, wanted, DEEPEST))
}

fn message_contains(message: &DynamicMessage, wanted: &str, depth: usize) -> bool {
    message
        .fields()
        .any(|(_, value)| value_contains(value, wanted, depth))
}

fn value_contains(value: &Value, wanted: &str, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    match value {
        Value::String(text) => text.to_lowercase().contains(wanted),
        Value::Message(message) => message_contains(message, wanted, depth),
        Value::List(values) => values.iter().any(|value| value_contains(value, wanted, depth)),
        Value::Map(values) => values.values().any(|value| value_contains(value, wanted, depth)),
        _ => false,
    }
}

/// The text of a field by its dotted name; empty when it is unset, or none of the message. Keys of maps count as names, and
/// so do those of a `google.protobuf.Struct`. `None` when there is something that is no text.
pub fn text_field(message: &DynamicMessage, name: &str) -> Option<String> {
    match message.descriptor().full_name() {
        "google.protobuf.Value" => return value_text(message, name),
        // Its keys, and the way there that its description gives.
        "google.protobuf.Struct" if !name.starts_with("fields.") => {
            return text_field(message, &format!("fields.{name}"));
        }
        _ => {}
    }
    let (first, rest) = first_name(name);
    let field = message.descriptor().get_field_by_name(first);
    match field.filter(|field| message.has_field(field)) {
        Some(field) => text_in(&message.get_field(&field), rest),
        None => Some(String::new()),
    }
}

/// The text that a value is, or that is inside it at `name`.
fn text_in(value: &Value, name: Option<&str>) -> Option<String> {
    match (name, value) {
        (None, Value::String(text)) => Some(text.clone()),
        (None, Value::Message(inner)) if inner.descriptor().full_name() == "google.protobuf.Value" => {
            value_text(inner, "")
        }
        (Some(name), Value::Message(inner)) => text_field(inner, name),
        (Some(name), Value::Map(entries)) => {
            let (first, rest) = first_name(name);
            match entries.get(&MapKey::String(first.to_owned())) {
                Some(inner) => text_in(inner, rest),
                None => Some(String::new()),
            }
        }
        _ => None,
    }
}

/// [`text_field`] of a `google.protobuf.Value`: the text that it is where `name` is empty, else inside the map that it is.
fn value_text(value: &DynamicMessage, name: &str) -> Option<String> {
    let (field, inner) = match value.fields().next() {
        None => return Some(String::new()),
        Some((field, inner)) => (field.name().to_owned(), inner),
    };
    match (field.as_str(), name) {
        ("null_value", _) => Some(String::new()),
        ("string_value", "" | "string_value") => text_in(inner, None),
        ("struct_value", "") => None,
        ("struct_value", name) => text_in(inner, Some(name)),
        _ => None,
    }
}

fn first_name(name: &str) -> (&str, Option<&str>) {
    match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    }
}

/// The text of any field inside `any` by its dotted path, in the JSON form of the message: numbers and booleans as they are
/// written there, enums by name. Names may be those of the message or of its JSON form, keys of maps and positions in
/// lists count as names. `None` when it is unset, no single value, or of a type that is not known.
pub fn text_at(any: &Any, path: &str) -> Option<String> {
    let message = decode(any)?;
    let well_known = message.descriptor().package_name() == "google.protobuf";
    let json = message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .ok()?;
    // The JSON form of an `Any` keeps such messages under that name.
    let inside = path.strip_prefix("value.").filter(|_| well_known);
    let found = at(&json, path).or_else(|| at(&json, inside?))?;
    match found {
        Json::String(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        // A whole number is written without a point.
        Json::Number(number) if number.is_f64() => number.as_f64().map(|number| number.to_string()),
        Json::Number(number) => Some(number.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn at<'j>(json: &'j Json, path: &str) -> Option<&'j Json> {
    path.split('.').try_fold(json, |json, name| match json {
        Json::Object(fields) => fields.get(name).or_else(|| fields.get(&camel_case(name))),
        Json::Array(values) => values.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The name of a field in JSON: `user_id` is `userId` there.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut camel, part| {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
        camel
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::session::{IdToken, OAuthToken, Session};
    use crate::records::{from_record, to_record};

    fn session() -> Session {
        Session {
            id: "s1".into(),
            user_id: "u1".into(),
            id_token: Some(IdToken {
                issuer: "https://idp.example.com".into(),
                subject: "u1".into(),
                ..IdToken::default()
            }),
            ..Session::default()
        }
    }

    fn patch(live: &Session, new: &Session, mask: &[&str]) -> Result<Session, Error> {
        let any = |session| to_record(session).data.unwrap();
        let mask: Vec<String> = mask.iter().map(|name| (*name).to_owned()).collect();
        let data = patched(&any(live), &any(new), &mask)?;
        let record = crate::databroker::Record {
            data: Some(data),
            ..to_record(live)
        };
        from_record(&record)
    }

    #[test]
    fn named_fields_are_taken_and_what_is_absent_is_cleared() {
        let new = Session {
            user_id: "u2".into(),
            oauth_token: Some(OAuthToken {
                access_token: "a".into(),
                ..OAuthToken::default()
            }),
            ..Session::default()
        };
        let done = patch(&session(), &new, &["oauth_token", "id_token.subject"]).unwrap();
        assert_eq!(done.user_id, "u1", "not named");
        assert_eq!(done.oauth_token, new.oauth_token);
        let id_token = done.id_token.unwrap();
        assert_eq!(
            (id_token.issuer.as_str(), id_token.subject.as_str()),
            ("https://idp.example.com", "")
        );
        assert_eq!(
            patch(&session(), &new, &["id_token", "id_token.issuer"])
                .unwrap()
                .id_token,
            None
        );
        assert_eq!(patch(&session(), &new, &[]).unwrap(), session());
        let bare = Session::default();
        assert_eq!(
            patch(&bare, &bare, &["id_token.subject"]).unwrap(),
            bare,
            "no empty message comes to be"
        );
    }

    #[test]
    fn wrong_names_and_types_are_refused() {
        for mask in [
            "nope",
            "id_token.nope",
            "user_id.x",
            "device_credentials.type_id",
            "claims.x",
            "",
        ] {
            let error = patch(&session(), &session(), &[mask]);
            assert!(matches!(error, Err(Error::Invalid(_))), "{mask}: {error:?}");
        }
        let user = to_record(&crate::pb::user::User::default()).data.unwrap();
        let session = to_record(&session()).data.unwrap();
        assert!(matches!(patched(&session, &user, &[]), Err(Error::Invalid(_))));
        let strange = Any {
            type_url: "type.googleapis.com/example.Unknown".into(),
            value: Vec::new(),
        };
        assert!(matches!(patched(&strange, &strange, &[]), Err(Error::Invalid(_))));
    }

    #[test]
    fn any_field_is_found_by_its_path() {
        let mut session = session();
        session.refresh_disabled = true;
        session.audience = vec!["a".into(), "b".into()];
        let any = to_record(&session).data.unwrap();
        for (path, text) in [
            ("user_id", Some("u1")),
            ("userId", Some("u1")),
            ("id_token.subject", Some("u1")),
            ("refresh_disabled", Some("true")),
            ("audience.1", Some("b")),
            ("audience", None),
            ("id_token", None),
            ("oauth_token.access_token", None),
            ("nope", None),
            ("value.user_id", None),
            ("", None),
        ] {
            assert_eq!(text_at(&any, path).as_deref(), text, "{path}");
        }
        let plain =
            serde_json::json!({ "seats": 5, "half": 0.5, "made_by": { "name": "kim" }, "gone": null });
        let plain = crate::records::struct_record("t", "i", &plain).data.unwrap();
        for (path, text) in [
            ("seats", Some("5")),
            ("half", Some("0.5")),
            ("made_by.name", Some("kim")),
            ("value.made_by.name", Some("kim")),
            ("gone", None),
        ] {
            assert_eq!(text_at(&plain, path).as_deref(), text, "{path}");
        }
    }

    #[test]
    fn texts_are_found_in_any_case_and_depth() {
        let any = to_record(&session()).data.unwrap();
        assert!(contains_text(&any, "idp.example"));
        assert!(contains_text(&any, "u1"));
        assert!(!contains_text(&any, "issuer"), "names do not count");
        let message = decode(&any).unwrap();
        assert_eq!(text_field(&message, "user_id").as_deref(), Some("u1"));
        assert_eq!(text_field(&message, "id_token.subject").as_deref(), Some("u1"));
        assert_eq!(
            text_field(&message, "oauth_token.access_token").as_deref(),
            Some("")
        );
        for unset in ["claims", "claims.group", "nope", "id_token.nope", "expires_at"] {
            assert_eq!(text_field(&message, unset).as_deref(), Some(""), "{unset}");
        }
        assert_eq!(text_field(&message, "id_token"), None);
        assert_eq!(text_field(&message, "user_id.inside"), None);
    }

    #[test]
    fn keys_of_maps_count_as_names_of_fields() {
        let details = serde_json::json!({"team": "blue", "size": 3, "at": {"city": "Bern"}, "none": null});
        let any = Any {
            type_url: "type.googleapis.com/google.protobuf.Struct".into(),
            value: crate::json::to_struct(&details).encode_to_vec(),
        };
        let message = decode(&any).unwrap();
        for (name, text) in [
            ("team", Some("blue")),
            ("fields.team", Some("blue")),
            ("at.city", Some("Bern")),
            ("at.country", Some("")),
            ("nope", Some("")),
            ("none", Some("")),
            ("size", None),
            ("at", None),
        ] {
            assert_eq!(text_field(&message, name).as_deref(), text, "{name}");
        }
        let claims = Session {
            claims: [("group".to_owned(), Default::default())].into(),
            ..session()
        };
        let message = decode(&to_record(&claims).data.unwrap()).unwrap();
        assert_eq!(text_field(&message, "claims.group"), None, "a list");
        assert_eq!(text_field(&message, "claims.other").as_deref(), Some(""));
    }
}
