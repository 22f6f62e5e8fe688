//! Claims as providers send them, and as sessions and users keep them.

use std::collections::HashMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Value};

/// Claims that say what a token is, not who someone is. User info cannot change them.
pub(crate) const PROTOCOL: [&str; 13] = [
    "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "azp", "at_hash", "c_hash", "s_hash", "typ",
];

/// Claims that say when and how somebody signed in. The signed ID token of the sign-in says so and nothing else:
/// user info may hold what a person wrote into their own profile, and a refresh is no sign-in.
pub(crate) const AUTHENTICATION: [&str; 3] = ["auth_time", "acr", "amr"];

/// The form in which claims are stored and judged (spec authentication.md 8): members of nested objects
/// get dotted names, and every value is a list.
pub fn flatten_claims(claims: &Map<String, Value>) -> HashMap<String, ListValue> {
    let mut flat = HashMap::new();
    flatten_into(&mut flat, "", claims);
    flat
}

fn flatten_into(flat: &mut HashMap<String, ListValue>, prefix: &str, claims: &Map<String, Value>) {
    for (name, value) in claims {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Object(members) => flatten_into(flat, &path, members),
            Value::Array(items) => {
                flat.insert(
                    path,
                    ListValue {
                        values: items.iter().map(to_proto).collect(),
                    },
                );
            }
            scalar => {
                flat.insert(
                    path,
                    ListValue {
                        values: vec![to_proto(scalar)],
                    },
                );
            }
        }
    }
}

fn to_proto(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_proto).collect(),
        }),
        Value::Object(members) => {
            let fields = members
                .iter()
                .map(|(name, value)| (name.clone(), to_proto(value)))
                .collect();
            Kind::StructValue(Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

/// Lays user info over the claims of the ID token; what a token says of itself stays.
pub fn overlay(id_token: &Map<String, Value>, userinfo: &Map<String, Value>) -> Map<String, Value> {
    let mut claims = id_token.clone();
    for (name, value) in userinfo {
        let name_of_token = PROTOCOL.contains(&name.as_str()) && claims.contains_key(name);
        if !name_of_token && !AUTHENTICATION.contains(&name.as_str()) {
            claims.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// Evens out what providers do differently: `email_verified` as text becomes a truth value, and `mail`
/// serves as `email` when there is none.
pub fn tidy(claims: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = claims.get("email_verified") {
        let verified = text.trim().eq_ignore_ascii_case("true") || text.trim() == "1";
        claims.insert("email_verified".into(), Value::Bool(verified));
    }
    let has_email = matches!(claims.get("email"), Some(Value::String(email)) if !email.is_empty());
    if !has_email
        && let Some(Value::String(mail)) = claims.get("mail")
        && mail.contains('@')
    {
        claims.insert("email".into(), Value::String(mail.clone()));
    }
}

/// A claim that is a text.
pub fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::object;

    fn plain(value: &prost_types::Value) -> Value {
        match value.kind.as_ref().unwrap() {
            Kind::NullValue(_) => Value::Null,
            Kind::NumberValue(number) => json!(number),
            Kind::StringValue(text) => json!(text),
            Kind::BoolValue(flag) => json!(flag),
            Kind::ListValue(list) => list.values.iter().map(plain).collect(),
            Kind::StructValue(members) => members
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
        }
    }

    #[test]
    fn claims_are_flattened() {
        let claims = object(json!({
            "a": {"b": 1, "c": {"d": ["x", "y"]}, "empty": {}},
            "groups": ["staff", {"id": 7, "tags": [true]}],
            "none": null,
            "list": [],
            "a.b2": "dotted",
        }));
        let flat: Map<String, Value> = flatten_claims(&claims)
            .iter()
            .map(|(name, list)| (name.clone(), list.values.iter().map(plain).collect()))
            .collect();
        let expected = json!({
            "a.b": [1.0],
            "a.c.d": ["x", "y"],
            "groups": ["staff", {"id": 7.0, "tags": [true]}],
            "none": [null],
            "list": [],
            "a.b2": ["dotted"],
        });
        assert_eq!(Value::Object(flat), expected);
    }

    #[test]
    fn only_the_id_token_says_how_somebody_signed_in() {
        let token = object(json!({"sub": "s", "auth_time": 5, "amr": ["pwd"]}));
        let userinfo = object(json!({"sub": "s", "auth_time": 900, "acr": "gold", "amr": ["hwk"]}));
        assert_eq!(overlay(&token, &userinfo), token);
    }

    #[test]
    fn user_info_wins_except_over_the_protocol() {
        let token = object(json!({"iss": "a", "sub": "s", "email": "old", "name": "N"}));
        let userinfo =
            object(json!({"iss": "b", "sub": "t", "email": "new", "auth_time": 1, "azp": "new here"}));
        let expected = json!({"iss": "a", "sub": "s", "email": "new", "name": "N", "azp": "new here"});
        assert_eq!(Value::Object(overlay(&token, &userinfo)), expected);
    }
}
