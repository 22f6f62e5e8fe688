//! Records over the file: order, references, what is left out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::settings::{Enforcement, Settings};
use crate::{Loaded, Loader, Text};

/// A file that is loaded again and again, with other records each time.
struct Site {
    loader: Loader,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new(file: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, file.to_string()).unwrap();
        Self {
            loader: Loader::new(Some(&path), &BTreeMap::new()).dry_run(),
            _dir: dir,
        }
    }

    fn load(&self, documents: &[(&str, &str, Value)]) -> Loaded {
        let documents = documents.iter().map(|(kind, id, message)| Document {
            kind: (*kind).into(),
            id: (*id).into(),
            message: Ok(message.clone()),
        });
        let loaded = self
            .loader
            .load_with(Text::Anew, &Records::read(documents))
            .unwrap();
        assert!(loaded.refusals.is_empty(), "{:?}", loaded.refusals);
        loaded
    }

    fn settings(&self, documents: &[(&str, &str, Value)]) -> Settings {
        let loaded = self.load(documents);
        assert_eq!(problems(&loaded), Vec::<String>::new());
        loaded.settings
    }
}

fn problems(loaded: &Loaded) -> Vec<String> {
    loaded.record_problems.iter().map(ToString::to_string).collect()
}

fn open(id: &str) -> Value {
    json!({"id": id, "from": format!("https://{id}.example.com"), "response": {"status": 200},
        "allow_public_unauthenticated_access": true})
}

struct Pair {
    certificate: String,
    key: String,
}

fn pair(name: &str, usages: &[rcgen::ExtendedKeyUsagePurpose]) -> Pair {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = usages.to_vec();
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let encode = |text: String| pomerium_crypto::encoding::base64_encode(text.as_bytes());
    Pair {
        certificate: encode(made.pem()),
        key: encode(key.serialize_pem()),
    }
}

#[test]
fn later_records_win_field_by_field() {
    let site = Site::new(&json!({
        "cookie_name": "of_file", "timeout_read": "1s", "timeout_write": "1s", "timeout_idle": "1s", "skip_xff_append": true,
        "branding": {"primary_color": "#000001", "secondary_color": "#000002"},
    }));
    let settings = |value: Value| json!({"settings": value});
    let found = site.settings(&[
        (
            "Settings",
            "1",
            json!({"timeout_idle": "5s", "primary_color": "#000009"}),
        ),
        (
            "Config",
            "b",
            settings(json!({"timeout_read": "3s", "timeout_write": "3s"})),
        ),
        (
            "Config",
            "a",
            settings(json!({"timeout_read": "2s", "timeout_idle": "2s"})),
        ),
        (
            "VersionedConfig",
            "v",
            json!({"config": settings(json!({"timeout_write": "4s", "timeout_idle": "4s"})),
            "conditions": [{"at_least": "0.1"}]}),
        ),
        (
            "VersionedConfig",
            "w",
            json!({"config": settings(json!({"timeout_write": "9s"})), "conditions": [{"at_least": "99"}]}),
        ),
    ]);
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs());
    assert_eq!(found.cookie.name, "of_file");
    assert!(found.http.skip_xff_append);
    assert_eq!(seconds(found.timeouts.read), Some(3));
    assert_eq!(seconds(found.timeouts.write), Some(4));
    assert_eq!(seconds(found.timeouts.idle), Some(5));
    assert_eq!(found.branding.primary_color.as_deref(), Some("#000009"));
    assert_eq!(found.branding.secondary_color.as_deref(), Some("#000002"));
    assert_eq!(site.settings(&[]).timeouts.read.unwrap().as_secs(), 1);
}

#[test]
fn records_of_settings_are_joined_as_messages_are() {
    let site = Site::new(&json!({"set_response_headers": {"of-file": "1"}}));
    let found = site.settings(&[
        (
            "Settings",
            "a",
            json!({"jwt_groups_filter": ["one"], "set_response_headers": {"x-a": "1", "x-b": "1"}}),
        ),
        (
            "Settings",
            "b",
            json!({"jwt_groups_filter": ["two"], "set_response_headers": {"x-b": "2"}}),
        ),
        ("Route", "r", open("r")),
    ]);
    let filter = found.routes[0].options.groups_filter.as_deref().unwrap();
    assert_eq!(filter, ["one", "two"]);
    let headers: Vec<_> = found
        .response_headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-") || name.starts_with("of"))
        .collect();
    assert_eq!(headers.len(), 2, "{headers:?}");
    assert!(
        headers.contains(&&("x-b".to_owned(), "2".to_owned())),
        "{headers:?}"
    );
}

#[test]
fn of_routes_with_one_id_the_first_stays() {
    let site = Site::new(&json!({}));
    let named = |name: &str, from: &str| {
        let mut route = open("same");
        route["name"] = name.into();
        route["from"] = from.into();
        route
    };
    let routes = |name: &str, from: &str| json!({"routes": [named(name, from)]});
    let found = site.settings(&[
        ("Route", "same", named("entity", "https://a.example.com")),
        (
            "VersionedConfig",
            "v",
            json!({"config": routes("versioned", "https://b.example.com")}),
        ),
        ("Config", "b", routes("second", "https://c.example.com")),
        ("Config", "a", routes("first", "https://z.example.com")),
    ]);
    let names: Vec<_> = found.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["first"]);
    assert_eq!(found.routes[0].record.as_deref(), Some("Config a routes[0]"));
}

#[test]
fn a_bad_record_of_settings_is_left_out_as_a_whole_and_the_rest_stays() {
    let site = Site::new(&json!({"cookie_name": "of_file"}));
    let bad = [
        (json!({"log_level": "loud", "cookie_name": "bad"}), "log_level"),
        (
            json!({"shared_secret": "x", "cookie_name": "bad"}),
            "shared_secret",
        ),
        (
            json!({"databroker_storage_type": "memory", "cookie_name": "bad"}),
            "databroker_storage_type",
        ),
        (json!({"address": ":1", "cookie_name": "bad"}), "address"),
        (
            json!({"bearer_token_format": "BEARER_TOKEN_FORMAT_JWT", "cookie_name": "bad"}),
            "bearer_token_format",
        ),
        (
            json!({"certificate_authority_key_pair_id": "gone", "cookie_name": "bad"}),
            "certificate_authority_key_pair_id",
        ),
    ];
    for (message, field) in bad {
        let loaded = site.load(&[
            ("Settings", "1-good", json!({"timeout_read": "7s"})),
            ("Settings", "2-bad", message),
            ("Settings", "3-good", json!({"timeout_idle": "8s"})),
            ("Route", "r", open("r")),
        ]);
        assert_eq!(problems(&loaded).len(), 1, "{:?}", problems(&loaded));
        let problem = &loaded.record_problems[0];
        assert_eq!(
            (problem.kind(), problem.id(), problem.field.as_str()),
            ("Settings", "2-bad", field)
        );
        assert_eq!(loaded.settings.cookie.name, "of_file", "{field}");
        assert_eq!(loaded.settings.timeouts.read.unwrap().as_secs(), 7);
        assert_eq!(loaded.settings.timeouts.idle.unwrap().as_secs(), 8);
        assert_eq!(loaded.settings.routes.len(), 1);
        assert!(!loaded.settings.routes[0].policy.is_empty(), "still open");
    }
}

#[test]
fn the_last_good_version_of_settings_stays() {
    let site = Site::new(&json!({"cookie_name": "of_file"}));
    let named = |name: &str| ("Settings", "s", json!({"cookie_name": name}));
    assert_eq!(site.settings(&[named("good")]).cookie.name, "good");
    let bad = site.load(&[(
        "Settings",
        "s",
        json!({"cookie_name": "bad", "log_level": "loud"}),
    )]);
    assert_eq!(
        (bad.settings.cookie.name.as_str(), bad.record_problems.len()),
        ("good", 1)
    );
    assert_eq!(site.settings(&[named("mended")]).cookie.name, "mended");
    assert_eq!(site.settings(&[]).cookie.name, "of_file", "gone is gone");
    let again = site.load(&[("Settings", "s", json!({"log_level": "loud"}))]);
    assert_eq!(again.settings.cookie.name, "of_file");
}

#[test]
fn a_lost_demand_for_certificates_lets_nobody_in() {
    let anchor = pair("ca.example.com", &[]);
    let site = Site::new(
        &json!({"routes": [{"from": "https://file.example.com", "response": {"status": 200}, "allow_public_unauthenticated_access": true}]}),
    );
    for demand in [
        json!({"downstream_mtls": {"ca": "bm8gUEVN"}}),
        json!({"downstream_mtls": {"ca_key_pair_id": "gone"}}),
        json!({"downstream_mtls": {"ca": anchor.certificate}, "address": ":1"}),
    ] {
        let loaded = site.load(&[("Settings", "s", demand.clone()), ("Route", "r", open("r"))]);
        assert_eq!(problems(&loaded).len(), 1, "{:?}", problems(&loaded));
        for route in &loaded.settings.routes {
            assert!(denies(&route.policy), "{demand}: {}", route.from);
        }
        let mended = site.settings(&[("Route", "r", open("r"))]);
        assert!(mended.routes.iter().all(|route| !denies(&route.policy)));
    }
}

fn denies(policy: &pomerium_policy::Program) -> bool {
    format!("{policy:?}") == format!("{:?}", pomerium_policy::Program::deny_all())
}

#[test]
fn mutual_tls_of_records() {
    let anchor = pair("ca.example.com", &[]);
    let site = Site::new(&json!({}));
    let found = site.settings(&[
        ("KeyPair", "ca", json!({"certificate": anchor.certificate})),
        (
            "Settings",
            "s",
            json!({"downstream_mtls": {"ca_key_pair_id": "ca", "enforcement": "REJECT_CONNECTION", "max_verify_depth": 3,
            "match_subject_alt_names": [{"san_type": "EMAIL", "pattern": ".*@example.com"}]}}),
        ),
    ]);
    let mtls = found.downstream_mtls.unwrap();
    assert!(mtls.ca.is_some());
    assert_eq!(
        (mtls.enforcement, mtls.max_verify_depth, mtls.san.len()),
        (Enforcement::RejectConnection, 3, 1)
    );
}

#[test]
fn key_pairs_are_put_where_they_are_named() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let server = pair("served.example.com", &[ServerAuth]);
    let client = pair("client.example.com", &[ClientAuth]);
    let inline = pair("inline.example.com", &[]);
    let message = |pair: &Pair| json!({"certificate": pair.certificate, "key": pair.key});
    let token = pomerium_crypto::encoding::base64_encode(b" token\n");
    let mut route = open("r");
    route.as_object_mut().unwrap().remove("response");
    for (field, value) in [
        ("to", json!(["https://up.example.com"])),
        ("tls_client_key_pair_id", "client".into()),
        ("tls_custom_ca_key_pair_id", "client".into()),
        ("tls_downstream_client_ca_key_pair_id", "client".into()),
    ] {
        route[field] = value;
    }
    let mut kubernetes = open("k");
    kubernetes.as_object_mut().unwrap().remove("response");
    kubernetes["to"] = json!(["https://k8s.example.com"]);
    kubernetes["kubernetes_service_account_token_key_pair_id"] = "token".into();
    let site = Site::new(&json!({}));
    let found = site.settings(&[
        ("KeyPair", "client", message(&client)),
        ("KeyPair", "server", message(&server)),
        ("KeyPair", "token", json!({"key": token})),
        ("Route", "r", route),
        ("Route", "k", kubernetes),
        (
            "Settings",
            "s",
            json!({"certificates": [{"cert_bytes": inline.certificate, "key_bytes": inline.key, "id": "x"}],
            "certificate_key_pair_ids": ["client"]}),
        ),
    ]);
    let served: Vec<_> = found
        .certificates
        .iter()
        .map(|pair| pair.origin.as_str())
        .collect();
    assert_eq!(
        served,
        ["KeyPair client", "Settings s certificates[0]", "KeyPair server"],
        "named, and for servers"
    );
    assert!(found.certificates.iter().all(|pair| pair.of_record));
    assert!(!found.fallback_certificate);
    let route = found.routes.iter().find(|route| &*route.id == "r").unwrap();
    assert!(route.options.downstream_ca.is_some() && !route.options.upstream_tls.is_plain());
    assert!(
        found
            .routes
            .iter()
            .any(|route| route.options.kubernetes_token.is_some())
    );
}

#[test]
fn a_pair_that_does_not_fit_is_left_out_by_itself() {
    use rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    let (good, other) = (
        pair("a.example.com", &[ServerAuth]),
        pair("b.example.com", &[ServerAuth]),
    );
    let site = Site::new(&json!({}));
    let loaded = site.load(&[
        (
            "KeyPair",
            "bad",
            json!({"certificate": other.certificate, "key": good.key}),
        ),
        (
            "KeyPair",
            "good",
            json!({"certificate": good.certificate, "key": good.key}),
        ),
        ("Policy", "bad", json!({"source_ppl": "allow: ["})),
        ("Policy", "forced", json!({"enforced": true})),
        (
            "VersionedConfig",
            "bad",
            json!({"conditions": [{"at_least": "soon"}], "config": {"routes": [open("x")]}}),
        ),
        ("Route", "r", open("r")),
    ]);
    let mut told: Vec<_> = loaded
        .record_problems
        .iter()
        .map(|problem| problem.record.as_str())
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "KeyPair bad",
            "Policy bad",
            "Policy forced",
            "VersionedConfig bad"
        ]
    );
    let served: Vec<_> = loaded
        .settings
        .certificates
        .iter()
        .map(|pair| pair.origin.as_str())
        .collect();
    assert_eq!(served, ["KeyPair good"]);
    assert_eq!(loaded.settings.routes.len(), 1);
    let text = format!("{:?}", loaded.record_problems);
    assert!(!text.contains(&good.key[30..60]), "no key is told");
}

#[test]
fn a_route_that_is_refused_later_keeps_its_place() {
    let site = Site::new(&json!({}));
    let mut records = Records::read([Document {
        kind: "Route".into(),
        id: "r".into(),
        message: Ok(open("r")),
    }]);
    assert!(records.refuse_route("Route r", "the pattern cannot be used"));
    assert!(!records.refuse_route("Route r", "again") && !records.refuse_route("Route x", "unknown"));
    let loaded = site.loader.load_with(Text::Anew, &records).unwrap();
    assert_eq!(problems(&loaded), ["Route r: the pattern cannot be used"]);
    assert!(denies(&loaded.settings.routes[0].policy));
}

fn protected(id: &str) -> Value {
    json!({"id": id, "from": format!("https://{id}.example.com"), "response": {"status": 200},
        "allow_any_authenticated_user": true})
}

/// A file of one process among several, with the secret that they share.
fn one_of_several(services: &str, more: &Value) -> Site {
    let secret = pomerium_crypto::encoding::base64_encode(&[7; 32]);
    let mut file = json!({"services": services, "shared_secret": secret, "cookie_secret": secret});
    for (key, value) in more.as_object().unwrap() {
        file[key] = value.clone();
    }
    Site::new(&file)
}

#[test]
fn people_may_sign_in_elsewhere() {
    let elsewhere = json!({"authenticate_service_url": "https://authenticate.example.com"});
    for services in ["proxy", "authorize", "databroker"] {
        let found = one_of_several(services, &elsewhere).settings(&[("Route", "r", protected("r"))]);
        assert!(!denies(&found.routes[0].policy), "{services}");
    }
    // Nowhere: no service of the original's is asked.
    let nowhere = |services: &str| {
        let loaded = one_of_several(services, &json!({})).load(&[("Route", "r", protected("r"))]);
        (problems(&loaded), denies(&loaded.settings.routes[0].policy))
    };
    for services in ["proxy", "authorize"] {
        let (told, closed) = nowhere(services);
        assert!(
            told[0].contains("hosted authenticate service") && closed,
            "{told:?}"
        );
    }
    assert_eq!(nowhere("databroker"), (Vec::new(), false));
    let here = Site::new(&json!({})).load(&[("Route", "r", protected("r"))]);
    assert!(
        problems(&here)[0].contains("no identity provider"),
        "{:?}",
        problems(&here)
    );
}

#[test]
fn settings_that_say_how_to_enforce_keep_the_authorities_below() {
    let (of_file, of_record) = (pair("ca.example.com", &[]), pair("other.example.com", &[]));
    let decoded = |pair: &Pair| pomerium_crypto::encoding::base64_decode(&pair.certificate).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, decoded(&of_file)).unwrap();
    let reject = json!({"downstream_mtls": {"enforcement": "REJECT_CONNECTION"}});
    let bring = json!({"downstream_mtls": {"ca": of_record.certificate}});
    let text = json!({"ca": of_file.certificate}).to_string();
    for below in [
        json!({"ca": of_file.certificate}),
        json!({"ca_file": file}),
        text.into(),
    ] {
        let site = Site::new(&json!({"downstream_mtls": below}));
        let mtls = |documents: &[(&str, &str, Value)]| {
            let found = site.settings(documents).downstream_mtls.unwrap();
            (found.ca.unwrap(), found.enforcement)
        };
        let default = Enforcement::PolicyWithDefaultDeny;
        assert_eq!(mtls(&[]), (decoded(&of_file), default));
        let kept = mtls(&[("Settings", "s", reject.clone())]);
        assert_eq!(kept, (decoded(&of_file), Enforcement::RejectConnection));
        let empty = json!({"downstream_mtls": {"ca": ""}});
        assert_eq!(mtls(&[("Settings", "s", empty)]), (decoded(&of_file), default));
        assert_eq!(
            mtls(&[("Settings", "s", bring.clone())]),
            (decoded(&of_record), default)
        );
        let layered = mtls(&[
            ("Config", "c", json!({"settings": bring})),
            ("Settings", "s", reject.clone()),
        ]);
        assert_eq!(layered, (decoded(&of_record), Enforcement::RejectConnection));
    }
}

#[test]
fn an_authority_of_one_route_of_a_record_makes_every_route_ask() {
    let anchor = pair("ca.example.com", &[]);
    let file = json!({"routes": [{"from": "https://file.example.com", "to": "http://10.0.0.1",
        "allow_public_unauthenticated_access": true}]});
    let mut asking = open("asking");
    asking["tls_downstream_client_ca"] = anchor.certificate.clone().into();
    let mut by_id = open("asking");
    by_id["tls_downstream_client_ca_key_pair_id"] = "ca".into();
    let key_pair = ("KeyPair", "ca", json!({"certificate": anchor.certificate}));
    let site = Site::new(&file);
    let policies = |documents: &[(&str, &str, Value)]| {
        let routes = site.settings(documents).routes;
        let policies: Vec<_> = routes.iter().map(|route| format!("{:?}", route.policy)).collect();
        policies
    };
    let demand = "InvalidClientCertificate";
    for asking in [asking, by_id] {
        let before = policies(&[("Route", "r", open("r")), key_pair.clone()]);
        assert!(before.iter().all(|policy| !policy.contains(demand)), "{before:?}");
        let with = [
            ("Route", "asking", asking),
            ("Route", "r", open("r")),
            key_pair.clone(),
        ];
        let after = policies(&with);
        assert_eq!(after.len(), 3);
        assert!(after.iter().all(|policy| policy.contains(demand)), "{after:?}");
        let left = json!({"downstream_mtls": {"enforcement": "POLICY"}});
        let by_policy = policies(&[with[0].clone(), key_pair.clone(), ("Settings", "s", left)]);
        assert!(
            by_policy.iter().all(|policy| !policy.contains(demand)),
            "{by_policy:?}"
        );
    }
    // What is left out asks nobody.
    let mut broken = open("broken");
    broken["tls_downstream_client_ca"] = "bm8gUEVN".into();
    let loaded = site.load(&[("Route", "broken", broken), ("Route", "r", open("r"))]);
    assert_eq!(problems(&loaded).len(), 1);
    let of_file = format!("{:?}", loaded.settings.routes[0].policy);
    assert!(!of_file.contains(demand), "{of_file}");
}

#[test]
fn hosts_of_records_get_certificates_too() {
    let site = Site::new(
        &json!({"autocert": true, "routes": [{"from": "https://file.example.com",
        "response": {"status": 200}, "allow_public_unauthenticated_access": true}]}),
    );
    let named = |documents: &[(&str, &str, Value)]| site.settings(documents).autocert.unwrap().names;
    assert_eq!(named(&[]), ["file.example.com"]);
    let both = ["file.example.com", "record.example.com"];
    assert_eq!(named(&[("Route", "record", open("record"))]), both);
    let mut pattern = open("p");
    pattern["from"] = "https://*.example.com".into();
    let loaded = site.load(&[("Route", "p", pattern)]);
    let told: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|told| told.contains("*.example.com")), "{told:?}");
}

#[test]
fn renegotiation_is_refused_as_in_a_file() {
    let mut route = open("r");
    route.as_object_mut().unwrap().remove("response");
    route["to"] = json!(["https://up.example.com"]);
    route["tls_upstream_allow_renegotiation"] = true.into();
    let loaded = Site::new(&json!({})).load(&[("Route", "r", route)]);
    assert!(
        problems(&loaded)[0].contains("renegotiation"),
        "{:?}",
        problems(&loaded)
    );
    assert!(denies(&loaded.settings.routes[0].policy));
}
