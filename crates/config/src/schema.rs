//! JSON schema (2020-12) of the config file, made from the key table: editors complete and check with it.

mod messages;

use serde_json::{Map, Value, json};

use crate::spec::keys::{self, Effect, FLAGS, Key, Kind};

/// The schema of a config file.
pub fn schema() -> Value {
    let mut schema = object(keys::global());
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Pomerium configuration");
    schema["$defs"] = json!({
        "route": object(keys::ROUTE.iter()),
        "text": { "type": ["string", "number", "boolean"] },
        "duration": {
            "anyOf": [
                { "type": "string", "pattern": "^[-+]?(0|([0-9]*\\.?[0-9]+(ns|us|µs|ms|s|m|h))+)$" },
                { "type": "integer", "description": "Nanoseconds." },
            ],
        },
        "policy": policy(),
    });
    schema
}

fn object(keys: impl Iterator<Item = &'static Key>) -> Value {
    let properties: Map<String, Value> = keys.map(|key| (key.name.to_owned(), property(key))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn property(key: &'static Key) -> Value {
    let mut schema = match key.kind {
        Kind::Free => messages::of_option(key.name),
        kind => of_kind(kind),
    };
    let mut text = key.meaning.to_owned();
    match key.effect {
        Effect::Built => {}
        Effect::NotBuilt => {
            text.push_str(" Not built yet: the program does not start with it.");
            schema["deprecated"] = json!(true);
        }
        Effect::Tuning => {
            text.push_str(" Has no effect.");
            schema["deprecated"] = json!(true);
        }
    }
    if key.restart {
        text.push_str(" A change needs a restart.");
    }
    schema["description"] = json!(text);
    if let Some(default) = key.default {
        schema["default"] = default_value(key.kind, default);
    }
    schema
}

fn default_value(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Bool | Kind::Int(..) | Kind::StrictInt => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        Kind::Texts => json!(text.split(',').collect::<Vec<_>>()),
        _ => json!(text),
    }
}

fn of_kind(kind: Kind) -> Value {
    let text = || json!({ "$ref": "#/$defs/text" });
    let list = |items: Value| json!({ "type": "array", "items": items });
    match kind {
        Kind::Bool => json!({ "type": ["boolean", "string", "number"] }),
        Kind::StrictBool => json!({ "type": "boolean" }),
        Kind::Text => text(),
        Kind::StrictText => json!({ "type": "string" }),
        Kind::Int(min, max) => json!({
            "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, { "type": "string" }],
        }),
        Kind::StrictInt => json!({ "type": "integer", "minimum": 0 }),
        Kind::Float => json!({ "type": ["number", "string"] }),
        Kind::Duration => json!({ "$ref": "#/$defs/duration" }),
        Kind::Millis => json!({ "type": ["integer", "string"], "description": "Milliseconds." }),
        Kind::Texts => json!({ "anyOf": [list(text()), text()] }),
        Kind::TextMap => json!({ "type": "object", "additionalProperties": text() }),
        Kind::BoolMap => {
            let flags: Map<String, Value> = FLAGS
                .iter()
                .map(|flag| {
                    (
                        flag.name.to_owned(),
                        json!({ "type": "boolean", "default": flag.default }),
                    )
                })
                .collect();
            json!({ "type": "object", "properties": flags })
        }
        Kind::Choice(choices) => json!({
            "anyOf": [{ "enum": choices.members }, { "type": ["string", "integer"] }],
        }),
        Kind::Object(keys) => object(keys.iter()),
        Kind::Objects(keys) => list(object(keys.iter())),
        Kind::Named(keys) => json!({ "type": "object", "additionalProperties": object(keys.iter()) }),
        Kind::Routes => list(json!({ "$ref": "#/$defs/route" })),
        Kind::Policy => json!({ "$ref": "#/$defs/policy" }),
        Kind::Upstreams => json!({ "anyOf": [text(), list(text())] }),
        Kind::ClaimHeaders => json!({
            "anyOf": [
                { "type": "object", "additionalProperties": text() },
                list(text()),
                text(),
            ],
        }),
        Kind::Scripts => {
            let named = json!({
                "type": "object",
                "properties": { "name": text(), "script": text() },
                "required": ["script"],
                "additionalProperties": false,
            });
            json!({ "anyOf": [text(), list(json!({ "anyOf": [text(), named] }))] })
        }
        Kind::ClaimValues => json!({ "type": "object" }),
        Kind::Free => json!({}),
    }
}

/// The shape of a policy; which criteria exist is the policy language's business.
fn policy() -> Value {
    let criteria =
        json!({ "type": "array", "items": { "type": "object", "minProperties": 1, "maxProperties": 1 } });
    let operators: Map<String, Value> = ["and", "or", "not", "nor"]
        .iter()
        .map(|name| ((*name).to_owned(), criteria.clone()))
        .collect();
    let body = json!({ "type": "object", "properties": operators });
    let rules = json!({
        "type": "object",
        "properties": { "allow": body, "deny": body },
        "additionalProperties": false,
    });
    json!({ "anyOf": [rules, { "type": "array", "items": rules }, { "type": "string" }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_description() {
        let schema = schema();
        for key in keys::global() {
            let text = schema["properties"][key.name]["description"].as_str();
            assert!(text.is_some_and(|text| text.ends_with('.')), "{}", key.name);
        }
        for key in keys::ROUTE {
            assert!(
                schema["$defs"]["route"]["properties"][key.name]["description"].is_string(),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn references_resolve_and_defaults_have_their_type() {
        let schema = schema();
        let text = schema.to_string();
        for reference in ["route", "text", "duration", "policy"] {
            assert!(text.contains(&format!("#/$defs/{reference}")));
            assert!(schema["$defs"][reference].is_object());
        }
        assert_eq!(schema["properties"]["cookie_http_only"]["default"], json!(true));
        assert_eq!(schema["properties"]["cookie_expire"]["default"], json!("14h"));
    }
}
