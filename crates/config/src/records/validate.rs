//! Whether one message can become a record: for services that write them, before they do.
//!
//! A message is judged by itself, over default settings and with an identity provider: what it names by id may be
//! written later, and what it means together with the local file of each process only that process can say.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Document, Fault, Named, Policies, RecordProblem, Records};
use crate::spec::source::Environment;
use crate::{Loader, Text};

/// What is wrong with a message of this kind (`Route`, `Policy`, `Settings`, `KeyPair`), as JSON with the names of its
/// fields; nothing when it can be used. Reads no file and asks nobody.
#[must_use]
pub fn validate(kind: &str, message: &Value) -> Vec<Fault> {
    let Value::Object(message) = message else {
        return vec![Fault::whole("it is no message")];
    };
    match kind {
        "Policy" => without_record(policies(&Policies::from([(String::new(), message.clone())]))),
        "KeyPair" => key_pair(message),
        _ => alone(kind, &without_references(message)),
    }
}

fn without_references(message: &Map<String, Value>) -> Map<String, Value> {
    let mut message = message.clone();
    let is_reference = |name: &str| name == "policy_ids" || name.contains("key_pair_id");
    message.retain(|name, _| !is_reference(name));
    if let Some(Value::Object(inner)) = message.get_mut("downstream_mtls") {
        inner.retain(|name, _| !is_reference(name));
    }
    message
}

/// Policies, each as a route that nobody asks for would have it.
pub(super) fn policies(policies: &Policies) -> Vec<RecordProblem> {
    let mut records = Records::default();
    for (number, (id, policy)) in policies.iter().enumerate() {
        let route = json!({
            "from": format!("https://policy-{number}.example.com"),
            "response": {"status": 200},
            "policies": [policy],
        });
        let route = route.as_object().cloned().unwrap_or_default();
        records.route(format!("Policy {id}"), Some(id.clone()), route, &Named::default());
    }
    if policies.is_empty() {
        return Vec::new();
    }
    let mut problems = problems(&records);
    for problem in &mut problems {
        let inside = ["sub_policies[0]", "policies[0]", "policy"];
        let inner = inside.iter().find_map(|outer| problem.field.strip_prefix(outer));
        if let Some(inner) = inner {
            problem.field = inner.trim_start_matches('.').to_owned();
        }
    }
    problems
}

/// Certificate and key must go together where both are there.
fn key_pair(message: &Map<String, Value>) -> Vec<Fault> {
    let document = Document {
        kind: "KeyPair".into(),
        id: String::new(),
        message: Ok(Value::Object(message.clone())),
    };
    without_record(problems(&Records::read([document])))
}

/// One message and no other.
fn alone(kind: &str, message: &Map<String, Value>) -> Vec<Fault> {
    let named = Named::default();
    let mut records = Records::default();
    match kind {
        "Route" => records.route("Route".into(), Some("x".into()), message.clone(), &named),
        "Settings" => records.settings_of("Settings".into(), true, message.clone(), &named),
        "Config" => records.config("Config", message.clone(), &named),
        "VersionedConfig" => records.versioned("VersionedConfig", message.clone(), &named),
        _ => return vec![Fault::whole(format!("there are no messages of type {kind}"))],
    }
    without_record(problems(&records))
}

fn problems(records: &Records) -> Vec<RecordProblem> {
    match Loader::new(None, &environment())
        .dry_run()
        .load_with(Text::Anew, records)
    {
        Ok(loaded) => loaded.record_problems,
        Err(error) => vec![Fault::whole(error.to_string()).of_record("Settings")],
    }
}

fn without_record(problems: Vec<RecordProblem>) -> Vec<Fault> {
    let fault = |problem: RecordProblem| Fault::of(problem.field, problem.message);
    problems.into_iter().map(fault).collect()
}

/// Settings of a process that everything can be asked of.
fn environment() -> Environment {
    let secret = pomerium_crypto::encoding::base64_encode(&[1; 32]);
    BTreeMap::from([
        ("SHARED_SECRET".to_owned(), secret),
        ("DATABROKER_STORAGE_TYPE".to_owned(), "memory".to_owned()),
        (
            "AUTHENTICATE_SERVICE_URL".to_owned(),
            "https://authenticate.example.com".to_owned(),
        ),
        ("IDP_PROVIDER".to_owned(), "oidc".to_owned()),
        (
            "IDP_PROVIDER_URL".to_owned(),
            "https://idp.example.com".to_owned(),
        ),
        ("IDP_CLIENT_ID".to_owned(), "client".to_owned()),
        ("IDP_CLIENT_SECRET".to_owned(), "secret".to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(kind: &str, message: &Value) -> Vec<String> {
        validate(kind, message).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn routes() {
        let good = json!({
            "from": "https://a.example.com", "to": ["https://b.example.com"], "policy_ids": ["somewhere else"],
            "tls_client_key_pair_id": "later", "allow_any_authenticated_user": true, "id": "x", "created_at": "2026-01-01T00:00:00Z",
        });
        assert_eq!(texts("Route", &good), Vec::<String>::new());
        for (message, word) in [
            (
                json!({"from": "nonsense", "to": ["https://b.example.com"]}),
                "from",
            ),
            (
                json!({"from": "https://a.example.com", "to": ["gopher://b"]}),
                "to",
            ),
            (
                json!({"from": "https://a.example.com", "to": ["http://b"], "tls_custom_ca_file": "/x"}),
                "tls_custom_ca_file",
            ),
        ] {
            let found = texts("Route", &message);
            assert!(
                found.len() == 1 && found[0].starts_with(word),
                "{word}: {found:?}"
            );
        }
    }

    #[test]
    fn policies() {
        assert_eq!(
            texts("Policy", &json!({"source_ppl": "allow: {or: [{accept: 1}]}"})),
            Vec::<String>::new()
        );
        assert_eq!(
            texts(
                "Policy",
                &json!({"rego": ["allow = true"], "source_ppl": "no: ["})
            ),
            Vec::<String>::new()
        );
        for bad in [
            json!({"source_ppl": "allow: ["}),
            json!({"source_ppl": "allow: {or: [{no_such_criterion: 1}]}"}),
            json!({"rego": ["allow { http.send({}) }"]}),
        ] {
            assert_eq!(texts("Policy", &bad.clone()).len(), 1, "{bad}");
        }
    }

    #[test]
    fn settings() {
        let good = json!({
            "log_level": "debug", "scopes": ["openid"], "primary_color": "#001122", "codec_type": "CODEC_TYPE_HTTP2",
            "timeout_read": "1.500s", "access_log_fields": {"values": ["method"]}, "originator_id": "o",
        });
        assert_eq!(texts("Settings", &good), Vec::<String>::new());
        for (field, value) in [
            ("services", json!("<INVALID>")),
            ("shared_secret", json!("x")),
            ("databroker_storage_type", json!("memory")),
            ("autocert_dir", json!("/etc")),
            ("address", json!(":80")),
            ("signing_key", json!("x")),
            ("otel_traces_exporter", json!("otlp")),
            ("log_level", json!("loud")),
            ("http3_advertise_port", json!(70_000)),
            ("runtime_flags", json!({"config_hot_reload": false})),
            ("authenticate_service_url", json!("nonsense")),
            ("bearer_token_format", json!("BEARER_TOKEN_FORMAT_JWT")),
        ] {
            let found = texts("Settings", &json!({ field: value }));
            let all = found.iter().all(|text| text.starts_with(field));
            assert!(!found.is_empty() && all, "{field}: {found:?}");
        }
    }

    #[test]
    fn key_pairs() {
        let encode = |text: String| pomerium_crypto::encoding::base64_encode(text.as_bytes());
        let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
        let other = encode(rcgen::KeyPair::generate().unwrap().serialize_pem());
        let certificate = encode(made.cert.pem());
        let key = encode(made.signing_key.serialize_pem());
        assert!(texts("KeyPair", &json!({"certificate": certificate})).is_empty());
        assert!(texts("KeyPair", &json!({"certificate": certificate, "key": key})).is_empty());
        assert!(texts("KeyPair", &json!({"key": encode("a token".into())})).is_empty());
        assert_eq!(
            texts(
                "KeyPair",
                &json!({"certificate": encode("no PEM".into()), "key": other})
            )
            .len(),
            1
        );
        assert_eq!(texts("Nonsense", &json!({})).len(), 1);
        assert_eq!(texts("Route", &json!([])).len(), 1);
    }
}
