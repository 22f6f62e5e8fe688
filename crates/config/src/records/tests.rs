use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::settings::{Action, RouteSettings, Settings};
use crate::{Loaded, Loader, Text};

fn load(file: &str, documents: &[(&str, &str, Value)]) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, file).unwrap();
    let documents = documents.iter().map(|(kind, id, message)| Document {
        kind: (*kind).into(),
        id: (*id).into(),
        message: Ok(message.clone()),
    });
    let loader = Loader::new(Some(&path), &BTreeMap::new()).dry_run();
    loader.load_with(Text::Anew, &Records::read(documents)).unwrap()
}

fn open(mut route: Value) -> Value {
    route["from"] = "https://a.example.com".into();
    route["allow_public_unauthenticated_access"] = true.into();
    if route.get("to").is_none() {
        route["to"] = json!(["http://up.example.com"]);
    }
    route
}

fn ids(settings: &Settings) -> Vec<&str> {
    settings.routes.iter().map(|route| &*route.id).collect()
}

fn problems(loaded: &Loaded) -> Vec<String> {
    loaded.record_problems.iter().map(ToString::to_string).collect()
}

fn is_closed(route: &RouteSettings) -> bool {
    matches!(route.action, Action::Respond { status: 503, .. })
}

#[test]
fn routes_of_records_are_sorted_and_those_of_the_file_are_not() {
    let file = "routes:\n- from: https://z.example.com\n  response: {status: 200}\n  allow_public_unauthenticated_access: true\n";
    let loaded = load(
        file,
        &[
            ("Route", "g-prefix", open(json!({"prefix": "/a"}))),
            ("Route", "f-longer-prefix", open(json!({"prefix": "/a/b"}))),
            ("Route", "e-regex", open(json!({"regex": "/x.*"}))),
            (
                "Route",
                "d-low",
                open(json!({"regex": "/a.*", "regex_priority_order": -1})),
            ),
            (
                "Route",
                "c-high",
                open(json!({"regex": "/a.*", "regex_priority_order": 7})),
            ),
            ("Route", "b-path", open(json!({"path": "/a"}))),
            ("Route", "a-none-2", open(json!({}))),
            ("Route", "a-none-1", open(json!({}))),
        ],
    );
    assert!(problems(&loaded).is_empty(), "{:?}", problems(&loaded));
    let mut seen = ids(&loaded.settings);
    let file = seen.remove(0);
    assert_eq!(file.len(), 16, "the route of the file is first");
    assert_eq!(
        seen,
        [
            "b-path",
            "c-high",
            "d-low",
            "e-regex",
            "f-longer-prefix",
            "g-prefix",
            "a-none-1",
            "a-none-2"
        ]
    );
}

#[test]
fn an_id_counts_once_and_the_file_wins() {
    let file = "routes:\n- from: https://a.example.com\n  to: http://up.example.com\n  allow_public_unauthenticated_access: true\n";
    let first = load(file, &[]);
    let id = first.settings.routes[0].id.clone();
    let mut same = open(json!({"name": "other"}));
    same["id"] = id.to_string().into();
    let loaded = load(
        file,
        &[
            ("Route", "x", same),
            // Without an id of its own the content decides, which is that of the file's route.
            ("Config", "c", json!({"routes": [open(json!({}))]})),
        ],
    );
    assert_eq!(ids(&loaded.settings), [&*id]);
    assert_eq!(&*loaded.settings.routes[0].name, "");
}

#[test]
fn what_only_the_local_file_may_say_is_refused_and_closes_the_route() {
    for (field, value) in [
        ("tls_custom_ca_file", json!("/etc/ssl/ca.pem")),
        ("tls_client_key_file", json!("/etc/ssl/key.pem")),
        ("tls_downstream_client_ca_file", json!("/etc/ssl/ca.pem")),
        ("kubernetes_service_account_token_file", json!("/var/run/token")),
        ("to", json!(["unix:///var/run/docker.sock"])),
        ("to", json!(["HTTPS+unix:///run/x.sock"])),
        ("tls_client_key_pair_id", json!("kp")),
        ("jwt_groups_filter_infer_from_ppl", json!(true)),
        ("to", json!(["gopher://x"])),
        ("policy_ids", json!(["missing"])),
        ("ppl_policies", json!([{"raw": "e30"}])),
        ("policies", json!([{"rego": ["package x"]}])),
        ("policies", json!([{"rego": ["allow { http.send({}) }"]}])),
        ("policies", json!([{"source_ppl": "allow: ["}])),
        ("mcp", json!({"client": {}})),
    ] {
        let mut route = open(json!({"prefix": "/admin"}));
        route[field] = value;
        let loaded = load(
            "routes: []",
            &[("Route", "bad", route), ("Route", "good", open(json!({})))],
        );
        assert_eq!(problems(&loaded).len(), 1, "{field}: {:?}", problems(&loaded));
        assert!(
            problems(&loaded)[0].starts_with("Route bad: "),
            "{:?}",
            problems(&loaded)
        );
        assert_eq!(ids(&loaded.settings), ["bad", "good"], "{field}");
        assert!(is_closed(&loaded.settings.routes[0]) && !is_closed(&loaded.settings.routes[1]));
    }
}

#[test]
fn a_route_without_a_place_is_left_out() {
    for from in ["", "nonsense", "https://"] {
        let mut route = open(json!({}));
        route["from"] = from.into();
        let loaded = load("routes: []", &[("Route", "bad", route)]);
        assert!(loaded.settings.routes.is_empty(), "{from}");
        assert!(!problems(&loaded).is_empty(), "{from}");
    }
    let regex = load("routes: []", &[("Route", "bad", open(json!({"regex": "("})))]);
    assert!(regex.settings.routes.is_empty() && !problems(&regex).is_empty());
}

#[test]
fn a_closed_route_asks_for_somebody_who_can_sign_in() {
    let mut route = open(json!({}));
    route["allow_public_unauthenticated_access"] = false.into();
    route["allow_any_authenticated_user"] = true.into();
    let loaded = load("routes: []", &[("Route", "r", route)]);
    assert!(
        problems(&loaded)[0].contains("idp_provider"),
        "{:?}",
        problems(&loaded)
    );
}

#[test]
fn fields_mean_what_the_options_of_a_file_mean() {
    let raw = r#"[{"deny":{"or":[{"http_path":{"is":"/x"}}]}}]"#;
    let encoded = pomerium_crypto::encoding::base64_encode(raw.as_bytes());
    let route = open(json!({
        "to": ["http://a.example.com", "http://b.example.com"], "load_balancing_weights": [3, 1],
        "timeout": "1.500s", "allow_upgrades": {"values": ["WebSocket"]}, "redirect": {},
        "ppl_policies": [{"raw": encoded}], "policies": [{"allowed_domains": ["example.com"]}],
        "namespace_id": "n", "originator_id": "o",
    }));
    let loaded = load(
        "routes: []",
        &[("Route", "r", route), ("KeyPair", "k", json!({}))],
    );
    assert!(problems(&loaded).is_empty(), "{:?}", problems(&loaded));
    let route = &loaded.settings.routes[0];
    let Action::Forward(to) = &route.action else {
        panic!("{:?}", route.action)
    };
    assert_eq!(to.iter().map(|to| to.weight).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(route.timeout, Some(std::time::Duration::from_millis(1500)));
    assert_eq!(route.upgrades, ["websocket"]);
    assert_eq!((&*route.id, route.cluster()), ("r", "route-r".to_owned()));
}

#[test]
fn each_key_pair_that_is_missing_is_told() {
    let route = open(json!({
        "tls_client_key_pair_id": "one",
        "tls_downstream_client_ca_key_pair_id": "two",
        "tls_custom_ca_key_pair_id": "empty",
    }));
    let loaded = load(
        "routes: []",
        &[("Route", "r", route), ("KeyPair", "empty", json!({}))],
    );
    let told = problems(&loaded).join("\n");
    for part in [
        "tls_client_key_pair_id: there is no key pair with the id \"one\"",
        "tls_downstream_client_ca_key_pair_id: there is no key pair with the id \"two\"",
        "tls_custom_ca_key_pair_id: the key pair has no certificate",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("no effect"), "{told}");
}

#[test]
fn kinds_without_an_effect_are_said_to_have_none() {
    let loaded = load("routes: []", &[("Nonsense", "n", json!({}))]);
    assert_eq!(
        problems(&loaded),
        ["Nonsense n: records of type Nonsense have no effect; remove it"]
    );
    let nothing = load(
        "routes: []",
        &[
            ("Settings", "s", json!({})),
            ("Config", "c", json!({"settings": {}})),
            ("VersionedConfig", "v", json!({})),
        ],
    );
    assert_eq!(problems(&nothing), Vec::<String>::new());
}

#[test]
fn scripts_of_policies_are_compiled_beside_their_rules() {
    let scripts =
        json!([{"name": "Staff", "rego": ["allow = true", "deny = false"], "source_ppl": "not read: ["}]);
    let mut route = open(json!({}));
    route["policies"] = scripts;
    let loaded = load("routes: []", &[("Route", "one", route)]);
    assert_eq!(problems(&loaded), Vec::<String>::new());
    let names: Vec<_> = loaded.settings.routes[0]
        .policy
        .scripts()
        .iter()
        .map(pomerium_policy::Script::name)
        .collect();
    assert_eq!(names, ["policy Staff", "policy Staff"]);
}

#[test]
fn a_script_that_cannot_be_read_is_told_with_its_place() {
    let mut route = open(json!({}));
    route["policies"] = json!([{"name": "Staff", "rego": ["allow = true\nallow { startwith(1, 2) }"]}]);
    let loaded = load("routes: []", &[("Route", "one", route)]);
    assert!(is_closed(&loaded.settings.routes[0]));
    let [problem] = problems(&loaded).try_into().unwrap();
    assert!(problem.ends_with("policy Staff: line 2, column 9 of the script: there is no function `startwith`: did you mean `startswith`?"), "{problem}");
}
