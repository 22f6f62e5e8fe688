//! What a configuration that loads becomes: settings, warnings, refusals.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pomerium_config::settings::{
    Action, DatabrokerSettings, Domains, HostMatch, IdpKind, PathRewrite, RouteSettings, UpstreamScheme,
};
use pomerium_config::{LoadErrors, Loaded, Loader, Sort};
use tempfile::TempDir;

/// A folder with a config file and a data folder.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).to_string_lossy().into_owned()
    }

    fn load(&self, config: &str) -> Result<Loaded, LoadErrors> {
        self.write("config.yaml", config);
        let data = self.path("data").to_string_lossy().into_owned();
        let env = BTreeMap::from([("DATA_DIR".to_owned(), data)]);
        Loader::new(Some(&self.path("config.yaml")), &env).load()
    }
}

const LOCAL: &str =
    "authenticate_service_url: https://authenticate.localhost:8443\nidp_provider: local\naddress: ':8443'\n";

fn route(loaded: &Loaded, index: usize) -> &RouteSettings {
    &loaded.settings.routes[index]
}

#[test]
fn a_small_configuration_needs_nothing_else() {
    let site = Site::new();
    let loaded = site
        .load(&format!(
            "{LOCAL}routes:\n- from: https://app.localhost:8443\n  to: [http://127.0.0.1:9000, 'h2c://localhost,2']\n"
        ))
        .unwrap_err();
    assert!(
        loaded
            .to_string()
            .contains("all endpoints must have non-zero weight")
    );

    let loaded = site
        .load(&format!(
            "{LOCAL}routes:\n- from: https://app.localhost:8443\n  to: http://127.0.0.1:9000/base\n  \
             allow_any_authenticated_user: true\n"
        ))
        .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(loaded.refusals.is_empty(), "{:?}", loaded.refusals);
    let settings = &loaded.settings;
    assert_eq!(settings.listener.address, ":8443");
    assert_eq!(
        settings.authenticate.url.authority(),
        "authenticate.localhost:8443"
    );
    assert_eq!(
        settings.databroker,
        DatabrokerSettings::File(site.path("data/databroker"))
    );
    let idp = settings.authenticate.idp.as_ref().unwrap();
    assert_eq!(idp.kind, IdpKind::Local);
    assert_eq!(idp.issuer, "https://authenticate.localhost:8443/.pomerium/idp");
    let app = route(&loaded, 0);
    assert_eq!(
        app.hosts,
        HostMatch::Exact {
            domains: Domains::Listed(["app.localhost:8443".into()].into()),
            any_port: false
        }
    );
    let Action::Forward(to) = &app.action else {
        panic!("{:?}", app.action)
    };
    assert_eq!(
        (to[0].scheme, to[0].host(), to[0].port),
        (UpstreamScheme::Http, "127.0.0.1", 9000)
    );
    assert_eq!(
        app.path_rewrite.as_deref(),
        Some(&PathRewrite::Prefix("/base".into()))
    );
    assert_eq!(app.idp.as_ref().unwrap().id, idp.id);
}

#[test]
fn the_shared_secret_is_kept() {
    let site = Site::new();
    let first = site.load("{}\n").unwrap().settings.secrets;
    let again = site.load("{}\n").unwrap().settings.secrets;
    assert_eq!(first.shared, again.shared);
    assert_eq!(first.cookie, again.cookie);
    assert_ne!(first.shared, first.cookie);
    assert_ne!(
        first.shared,
        Site::new().load("{}\n").unwrap().settings.secrets.shared
    );
}

#[test]
fn a_store_whose_secret_is_gone_is_not_opened() {
    let site = Site::new();
    std::fs::create_dir_all(site.path("data/databroker")).unwrap();
    std::fs::write(site.path("data/databroker/records"), "x").unwrap();
    let text = site.load("{}\n").unwrap_err().to_string();
    assert!(
        text.contains("shared_secret") && text.contains("is gone"),
        "{text}"
    );
    assert!(!site.path("data/shared_secret").exists());
    let given = "shared_secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    assert!(site.load(given).is_ok());
}

#[test]
fn without_a_writable_folder_records_are_kept_in_memory() {
    let env = BTreeMap::from([("XDG_DATA_HOME".to_owned(), "/dev/null/data".to_owned())]);
    let loader = Loader::new(None, &env);
    let (first, second) = (loader.load().unwrap(), Loader::new(None, &env).load().unwrap());
    assert_eq!(first.settings.databroker, DatabrokerSettings::Memory);
    assert_eq!(
        first.settings.secrets.shared, second.settings.secrets.shared,
        "the same for the whole process"
    );
    assert!(
        first
            .warnings
            .iter()
            .any(|warning| warning.key == "databroker_storage_type")
    );
    for (key, value) in [
        ("DATABROKER_STORAGE_TYPE", "file"),
        ("DATA_DIR", "/dev/null/data"),
    ] {
        let mut wanted = env.clone();
        wanted.insert(key.to_owned(), value.to_owned());
        assert!(
            Loader::new(None, &wanted).load().is_err(),
            "a store that was asked for must not be replaced: {key}"
        );
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let site = Site::new();
    let data = site.path("data").to_string_lossy().into_owned();
    let env = BTreeMap::from([("DATA_DIR".to_owned(), data)]);
    Loader::new(None, &env).dry_run().load().unwrap();
    assert!(!site.path("data").exists());
}

#[test]
fn users_come_from_the_config_and_from_their_file() {
    let site = Site::new();
    let users = site.write(
        "users.yaml",
        "- email: B@example.com\n  name: B\n  groups: [dev]\n  password_hash: $argon2id$v=19$b\n",
    );
    let config = format!(
        "{LOCAL}local_idp:\n  users_file: {users}\n  users:\n  - email: a@example.com\n    \
         password_hash: $argon2id$v=19$a\n"
    );
    let loaded = site.load(&config).unwrap();
    let local = &loaded.settings.authenticate.local_idp;
    let emails: Vec<_> = local.users.iter().map(|user| user.email.as_str()).collect();
    assert_eq!(emails, ["a@example.com", "b@example.com"]);
    assert_eq!(local.users[1].groups, ["dev"]);
    assert!(loaded.settings.watched_files.contains(&PathBuf::from(&users)));

    site.write(
        "users.yaml",
        "- &a {email: a@example.com, password_hash: $argon2id$b}\n- *a\n- email: c\n  password_hash: x\n",
    );
    let text = site.load(&config).unwrap_err().to_string();
    assert!(
        text.contains("users[1].email: the user a@example.com is there twice"),
        "{text}"
    );
    assert!(text.contains("users.yaml:3:10: users[2].email"), "{text}");
}

#[test]
fn a_route_may_have_a_client_of_its_own() {
    let loaded = Site::new()
        .load(
            "authenticate_service_url: https://authenticate.example.com\nidp_provider: oidc\n\
             idp_provider_url: https://idp.example.com\nidp_client_id: a\nidp_client_secret: s\nroutes:\n\
             - {from: 'https://one.example.com', to: 'http://a', allow_any_authenticated_user: true}\n\
             - {from: 'https://two.example.com', to: 'http://a', allow_any_authenticated_user: true, \
             idp_client_id: b, idp_client_secret: t}\n",
        )
        .unwrap();
    assert!(loaded.refusals.is_empty(), "{:?}", loaded.refusals);
    let (one, two) = (
        route(&loaded, 0).idp.as_ref().unwrap(),
        route(&loaded, 1).idp.as_ref().unwrap(),
    );
    assert_eq!((one.client_id.as_str(), two.client_id.as_str()), ("a", "b"));
    assert_eq!(
        (one.client_secret.expose(), two.client_secret.expose()),
        (&b"s"[..], &b"t"[..])
    );
    assert_ne!(one.id, two.id);
    assert_eq!(one.scopes, ["openid", "profile", "email", "offline_access"]);
}

#[test]
fn response_headers_are_merged() {
    let loaded = Site::new()
        .load(
            "set_response_headers: {x-a: '1', x-b: '2'}\nroutes:\n\
             - {from: 'https://one.example.com', to: 'http://a', allow_public_unauthenticated_access: true, \
             set_response_headers: {X-B: own}}\n\
             - {from: 'https://two.example.com', to: 'http://a', allow_public_unauthenticated_access: true, \
             set_response_headers: {disable: ''}}\n",
        )
        .unwrap();
    let headers = |index| {
        let list = route(&loaded, index).set_response_headers.iter();
        list.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(headers(0), ["x-a: 1", "x-b: own"]);
    assert!(headers(1).is_empty());
}

#[test]
fn signing_in_must_be_possible() {
    let protected =
        "routes:\n- {from: 'https://a.example.com', to: 'http://a', allow_any_authenticated_user: true}\n";
    let refused = |config: String| {
        let loaded = Site::new().load(&config).unwrap();
        loaded
            .refusals
            .iter()
            .map(|refusal| refusal.key.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(refused(protected.to_owned()), ["routes[0]"]);
    assert_eq!(
        refused(format!("idp_provider: local\n{protected}")),
        ["authenticate_service_url"]
    );
    assert!(refused(format!("{LOCAL}{protected}")).is_empty());
    let accept =
        "routes:\n- from: https://a.example.com\n  to: http://a\n  policy: {allow: {or: [accept: true]}}\n";
    assert!(refused(accept.to_owned()).is_empty());
}

#[test]
fn defaults_of_what_is_not_built_are_no_refusal() {
    let loaded = Site::new()
        .load(
            "autocert: false\ngrpc_address: ':443'\nservices: all\nssh_address: ''\nbearer_token_format: default\n\
             codec_type: auto\ndatabroker_service_urls: []\nroutes:\n- from: https://a.example.com\n  to: http://a\n  \
             allow_public_unauthenticated_access: true\n  load_balancing_policy: ROUND_ROBIN\n",
        )
        .unwrap();
    assert!(loaded.refusals.is_empty(), "{:?}", loaded.refusals);
    let set = Site::new()
        .load("idp_access_token_allowed_audiences: []\n")
        .unwrap();
    assert_eq!(
        set.refusals[0].key, "idp_access_token_allowed_audiences",
        "an empty list is not unset"
    );
}

#[test]
fn what_only_says_what_holds_anyway_is_no_refusal() {
    let refused = |config: &str| {
        let loaded = Site::new().load(config).unwrap();
        let keys = loaded.refusals.iter().map(|refusal| refusal.key.clone());
        keys.collect::<Vec<_>>()
    };
    let recording = |on: bool| {
        format!(
            "routes:\n- from: https://a.example.com\n  to: http://a\n  allow_public_unauthenticated_access: true\n  \
             session_recording: {{enabled: {on}}}\n"
        )
    };
    assert!(refused("auto_apply_changesets: false\nblob_storage: {}\n").is_empty());
    assert!(refused(&recording(false)).is_empty());
    assert_eq!(refused(&recording(true)), ["routes[0].session_recording"]);
    assert_eq!(
        refused("auto_apply_changesets: true\n"),
        ["auto_apply_changesets"]
    );
    assert_eq!(
        refused("blob_storage: {bucket_uri: 's3://b'}\n"),
        ["blob_storage"]
    );
}

#[test]
fn a_process_that_only_forwards_needs_to_know_where_people_sign_in() {
    let site = Site::new();
    let secret = pomerium_crypto::encoding::base64_encode(&[1; 32]);
    let config = |services: &str, more: &str| {
        format!(
            "services: {services}\nshared_secret: {secret}\ncookie_secret: {secret}\n{more}routes:\n\
             - {{from: 'https://a.example.com', to: 'http://a', allow_any_authenticated_user: true}}\n"
        )
    };
    let refused = |services: &str, more: &str| {
        let loaded = site.load(&config(services, more)).unwrap();
        let keys = loaded.refusals.iter().map(|refusal| refusal.key.clone());
        keys.collect::<Vec<_>>()
    };
    let hosted = "authenticate_service_url: https://authenticate.pomerium.app\n";
    for services in ["proxy", "authorize"] {
        // Twice: a route that was refused is no known one afterwards.
        for more in ["", "", hosted] {
            assert_eq!(
                refused(services, more),
                ["authenticate_service_url"],
                "{services}"
            );
        }
        let own = "authenticate_service_url: https://authenticate.example.com\n";
        assert!(refused(services, own).is_empty(), "{services}");
    }
    assert!(refused("databroker", "").is_empty());
}

#[test]
fn a_decision_listener_that_nothing_answers_at_is_told() {
    let config = |services: &str| {
        let secret = pomerium_crypto::encoding::base64_encode(&[1; 32]);
        format!(
            "services: {services}\nshared_secret: {secret}\ncookie_secret: {secret}\n\
             decision_listener: {{address: '127.0.0.1:9090', trusted_peers: [127.0.0.1], forward_auth: true}}\n"
        )
    };
    let told = |services: &str| {
        let loaded = Site::new().load(&config(services)).unwrap();
        loaded
            .warnings
            .iter()
            .any(|warning| warning.key == "decision_listener")
    };
    assert!(told("databroker") && told("authenticate"));
    assert!(!told("proxy") && !told("authorize"));
}

#[test]
fn header_maps_of_the_environment_are_text_or_json() {
    let headers = |text: &str| {
        let site = Site::new();
        std::fs::write(site.path("config.yaml"), "{}").unwrap();
        let data = site.path("data").to_string_lossy().into_owned();
        let env = BTreeMap::from([
            ("DATA_DIR".to_owned(), data),
            ("HEADERS".to_owned(), text.to_owned()),
        ]);
        let loaded = Loader::new(Some(&site.path("config.yaml")), &env).load();
        loaded
            .map(|loaded| loaded.settings.response_headers)
            .map_err(|errors| errors.to_string())
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let two = vec![pair("X-A", "1"), pair("X-B", "2")];
    assert_eq!(headers(r#"{"X-A": "1", "X-B": "2"}"#).unwrap(), two);
    assert_eq!(headers("X-A:1,X-B:2").unwrap(), two);
    let spaced = vec![pair("X-A", " 1"), pair("X-B", "2")];
    assert_eq!(headers("X-A: 1,X-B:2").unwrap(), spaced, "nothing is trimmed");
    assert!(
        headers("X-A")
            .unwrap_err()
            .contains("failed to decode headers from 'X-A'")
    );
}

/// The errors of one route with these options.
fn mistakes(route: &str) -> Vec<String> {
    let config = format!(
        "routes:\n- {{from: 'https://a.example.com', allow_public_unauthenticated_access: true, {route}}}\n"
    );
    match Site::new().load(&config) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.errors.iter().map(|error| error.key.clone()).collect(),
    }
}

#[test]
fn values_that_would_be_read_in_another_way_are_refused() {
    for (route, key) in [
        (
            r#"to: http://a, set_request_headers: {x-a: "1\r\nx-b: 2"}"#,
            "set_request_headers",
        ),
        (
            r#"to: http://a, set_request_headers: {x-a: "1\u0001"}"#,
            "set_request_headers",
        ),
        (
            "to: http://a, host_rewrite: 'https://b.example.com'",
            "host_rewrite",
        ),
        ("to: http://a, host_rewrite: 'b example'", "host_rewrite"),
        ("to: http://a, timeout: -1s", "timeout"),
        ("to: http://a, idle_timeout: -1s", "idle_timeout"),
        ("redirect: {path_redirect: x}", "redirect.path_redirect"),
        (
            "redirect: {scheme_redirect: 'https://'}",
            "redirect.scheme_redirect",
        ),
        (
            "redirect: {host_redirect: 'a.example.com/x'}",
            "redirect.host_redirect",
        ),
        ("redirect: {host_redirect: 'a b'}", "redirect.host_redirect"),
    ] {
        assert_eq!(mistakes(route), [format!("routes[0].{key}")], "{route}");
    }
    for route in [
        "to: http://a, set_request_headers: {x-a: \"${pomerium.id_token}\tü\"}",
        "to: http://a, host_rewrite: 'b.example.com:8443', timeout: 0s",
        "redirect: {scheme_redirect: https, host_redirect: '[::1]:8443', path_redirect: /x, port_redirect: 8443}",
    ] {
        assert!(mistakes(route).is_empty(), "{route}: {:?}", mistakes(route));
    }
    let errors = Site::new()
        .load("timeout_read: -1s\ndefault_upstream_timeout: -1s\n")
        .unwrap_err();
    let keys: Vec<_> = errors.errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["timeout_read", "default_upstream_timeout"]);
}

#[test]
fn empty_parts_of_a_redirect_are_unset() {
    let loaded = Site::new()
        .load(
            "routes:\n- from: https://a.example.com\n  allow_public_unauthenticated_access: true\n  \
             redirect: {https_redirect: true, host_redirect: '', path_redirect: '', port_redirect: 0}\n",
        )
        .unwrap();
    let Action::Redirect(redirect) = &route(&loaded, 0).action else {
        panic!()
    };
    assert_eq!(
        (&redirect.host, &redirect.path, redirect.port),
        (&None, &None, None)
    );
}

#[test]
fn answers_and_redirects_may_be_written_twice_and_upstreams_may_not() {
    let twice = |action: &str| {
        let route = format!(
            "- {{from: 'https://a.example.com', allow_public_unauthenticated_access: true, {action}}}\n"
        );
        Site::new().load(&format!("routes:\n{route}{route}"))
    };
    assert_eq!(twice("response: {status: 200}").unwrap().settings.routes.len(), 2);
    assert_eq!(
        twice("redirect: {https_redirect: true}")
            .unwrap()
            .settings
            .routes
            .len(),
        2
    );
    assert!(
        twice("to: http://a")
            .unwrap_err()
            .to_string()
            .contains("is not unique")
    );
}

#[test]
fn a_body_that_no_client_gets_is_told() {
    let warned = |status: u16| {
        let config = format!(
            "routes:\n- {{from: 'https://a.example.com', allow_public_unauthenticated_access: true, \
             response: {{status: {status}, body: text}}}}\n"
        );
        !Site::new().load(&config).unwrap().warnings.is_empty()
    };
    assert!(warned(204) && warned(205) && warned(304) && !warned(200));
}

#[test]
fn patterns_of_client_names_are_those_of_re2() {
    let loaded = Site::new()
        .load("downstream_mtls: {match_subject_alt_names: [dns: '{id}\\.example\\.com']}\n")
        .unwrap();
    let pattern = &loaded.settings.downstream_mtls.unwrap().san[0].pattern;
    assert!(
        regex::Regex::new(pattern).unwrap().is_match("{id}.example.com"),
        "{pattern}"
    );
}

#[test]
fn sockets_are_upstreams() {
    let loaded = Site::new()
        .load(
            "routes:\n- {from: 'https://a.example.com', to: 'unix:///run/my%20app.sock', \
             allow_public_unauthenticated_access: true}\n",
        )
        .unwrap();
    assert!(loaded.refusals.is_empty(), "{:?}", loaded.refusals);
    let Action::Forward(to) = &route(&loaded, 0).action else {
        panic!()
    };
    assert_eq!(
        (to[0].scheme, &*to[0].path),
        (UpstreamScheme::Unix, "/run/my app.sock")
    );
    assert_eq!(
        route(&loaded, 0).path_rewrite,
        None,
        "the path of a socket is no prefix"
    );
}

#[test]
fn many_routes_load() {
    let mut config = String::from("routes:\n");
    for n in 0..2000 {
        config.push_str(&format!(
            "- from: https://app{n}.example.com\n  to: http://10.0.0.1:8080\n  allow_public_unauthenticated_access: true\n"
        ));
    }
    let started = std::time::Instant::now();
    let loaded = Site::new().load(&config).unwrap();
    assert_eq!(loaded.settings.routes.len(), 2000);
    assert!(
        started.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn the_cloud_token_is_not_ignored() {
    let env = BTreeMap::from([
        ("XDG_DATA_HOME".to_owned(), "/dev/null/data".to_owned()),
        ("POMERIUM_ZERO_TOKEN".to_owned(), "t".to_owned()),
    ]);
    let loaded = Loader::new(None, &env).load().unwrap();
    assert!(
        loaded.refusals[0]
            .to_string()
            .starts_with("environment variable POMERIUM_ZERO_TOKEN: ")
    );
}

fn pair(site: &Site, name: &str) -> (String, String) {
    let key = rcgen::generate_simple_self_signed(vec!["app.example.com".to_owned()]).unwrap();
    (
        site.write(&format!("{name}.pem"), &key.cert.pem()),
        site.write(&format!("{name}-key.pem"), &key.signing_key.serialize_pem()),
    )
}

#[test]
fn certificates_are_read_and_must_belong_to_their_keys() {
    let site = Site::new();
    let ((cert, key), (_, other)) = (pair(&site, "a"), pair(&site, "b"));
    let loaded = site
        .load(&format!(
            "certificate_file: {cert}\ncertificate_key_file: {key}\n"
        ))
        .unwrap();
    assert_eq!(loaded.settings.certificates.len(), 1);
    assert!(!loaded.settings.fallback_certificate);
    assert!(
        loaded
            .settings
            .response_headers
            .iter()
            .any(|(name, _)| name == "Strict-Transport-Security")
    );
    assert!(loaded.settings.watched_files.contains(&PathBuf::from(&key)));
    let text = site
        .load(&format!("certificates:\n- cert: {cert}\n  key: {other}\n"))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("certificates[0]: config: bad cert entry, file reference invalid."),
        "{text}"
    );
}

#[test]
fn what_is_missing_is_watched_too() {
    let site = Site::new();
    let missing = site.path("later.pem");
    let config = format!(
        "certificate_file: {0}\ncertificate_key_file: {0}\n",
        missing.display()
    );
    let errors = site.load(&config).unwrap_err();
    assert!(errors.watched_files.contains(&missing));
    assert!(
        errors
            .watched_files
            .iter()
            .any(|file| file == Path::new(&site.path("config.yaml")))
    );
}

#[test]
fn secrets_do_not_print() {
    let loaded = Site::new()
        .load(
            "shared_secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nidp_provider: oidc\n\
             idp_provider_url: https://idp.example.com\nidp_client_id: a\nidp_client_secret: very-secret\n\
             authenticate_service_url: https://authenticate.example.com\n",
        )
        .unwrap();
    let printed = format!("{:?}", loaded.settings);
    assert!(!printed.contains("very-secret") && !printed.contains("AAECAwQF"));
}

#[test]
fn a_policy_that_never_asks_who_needs_no_identity_provider() {
    let refused = |access: &str| {
        let site = Site::new();
        let route = "from: https://app.example.com\n  to: http://127.0.0.1:9000\n";
        let loaded = site
            .load(&format!("address: ':8443'\nroutes:\n- {route}{access}"))
            .unwrap();
        !loaded.refusals.is_empty()
    };
    for access in [
        "  policy: {allow: {and: [{source_ip: 10.0.0.0/8}, {http_method: {is: GET}}]}}\n",
        "  policy: {deny: {or: [{reject: true}]}}\n",
        "  policy: {allow: {or: [{accept: true}, {email: {is: user@example.com}}]}}\n",
        "  cors_allow_preflight: true\n",
    ] {
        assert!(!refused(access), "{access}");
    }
    for access in [
        "  policy: {allow: {and: [{source_ip: 10.0.0.0/8}, {domain: {is: example.com}}]}}\n",
        "  policy: [{allow: {and: [{http_method: {is: GET}}]}}, {deny: {or: [{user: {is: u1}}]}}]\n",
        "  allowed_users: [user@example.com]\n",
        "",
    ] {
        assert!(refused(access), "{access}");
    }
}

#[test]
fn findings_with_a_fixed_log_line_say_which() {
    let site = Site::new();
    let loaded = site
        .load("address: ':8443'\ndebug: true\nruntime_flags: {nope: true}\notel_log_level: loud\n")
        .unwrap();
    let sorts: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| (warning.key.as_str(), warning.sort))
        .collect();
    assert!(sorts.contains(&("debug", Sort::UnknownKey)), "{sorts:?}");
    assert!(
        sorts.contains(&("runtime_flags.nope", Sort::UnknownFlag)),
        "{sorts:?}"
    );
    assert!(sorts.contains(&("otel_log_level", Sort::Value)), "{sorts:?}");
    let errors = site
        .load("idp_qps: 1\nallowed_user: [a]\naddress: [1]\n")
        .unwrap_err();
    let sorts: Vec<_> = errors.errors.iter().map(|error| error.sort).collect();
    for sort in [Sort::RemovedKey, Sort::UnknownKey, Sort::Value] {
        assert!(sorts.contains(&sort), "{sorts:?}");
    }
}

#[test]
fn the_users_file_counts_where_the_configuration_has_the_same_user() {
    let site = Site::new();
    let entry = |hash: &str| format!("- {{email: admin@example.com, password_hash: $argon2id${hash}}}\n");
    let users = site.write("users.yaml", &entry("new"));
    let config = format!(
        "{LOCAL}local_idp:\n  users_file: {users}\n  users:\n  {}",
        entry("old")
    );
    let loaded = site.load(&config).unwrap();
    let found = &loaded.settings.authenticate.local_idp.users;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].password_hash.expose(), b"$argon2id$new");
    site.write("users.yaml", &format!("{}{}", entry("new"), entry("newer")));
    assert!(
        site.load(&config)
            .unwrap_err()
            .to_string()
            .contains("is there twice")
    );
}

#[test]
fn a_cookie_that_no_browser_would_keep_stops_the_start() {
    for (config, key) in [
        ("cookie_name: 'a b;'\n", "cookie_name"),
        ("cookie_name: \"a\\r\\nb\"\n", "cookie_name"),
        ("cookie_domain: 'example.com; Secure'\n", "cookie_domain"),
        ("cookie_expire: 0s\n", "cookie_expire"),
        ("cookie_expire: -4h\n", "cookie_expire"),
    ] {
        let errors = Site::new().load(config).unwrap_err().errors;
        assert_eq!(errors.len(), 1, "{config}");
        assert_eq!(errors[0].key, key);
    }
    let fine = "cookie_name: _id-1\ncookie_domain: .example.com\ncookie_expire: 5m\n";
    assert!(Site::new().load(fine).is_ok());
}

#[test]
fn traces_that_cannot_be_sent_are_told_and_do_not_stop_the_start() {
    for endpoint in ["not a url", "collector:4318", "ftp://collector", "http://"] {
        let config = format!("otel_traces_exporter: otlp\notel_exporter_otlp_endpoint: '{endpoint}'\n");
        let loaded = Site::new().load(&config).unwrap();
        assert!(loaded.settings.tracing.is_none(), "{endpoint}");
        assert_eq!(loaded.warnings[0].key, "otel_exporter_otlp_endpoint");
    }
    let config = "otel_traces_exporter: otlp\notel_exporter_otlp_headers: ['bad name=hidden', 'x-key=1']\n";
    let loaded = Site::new().load(config).unwrap();
    let headers = loaded.settings.tracing.unwrap().headers;
    assert_eq!(headers.len(), 1);
    assert_eq!(headers[0].0, "x-key");
    assert!(!loaded.warnings[0].to_string().contains("hidden"));
}

#[test]
fn a_colour_that_is_none_is_told_and_the_others_count() {
    let config =
        "branding: {primary_color: red, secondary_color: '#abc', darkmode_primary_color: '#A0b1C2'}\n";
    let loaded = Site::new().load(config).unwrap();
    assert_eq!(loaded.warnings[0].key, "branding.primary_color");
    let branding = loaded.settings.branding;
    assert_eq!(branding.primary_color, None);
    assert_eq!(branding.secondary_color.as_deref(), Some("#abc"));
    assert_eq!(branding.darkmode_primary_color.as_deref(), Some("#A0b1C2"));
}

#[test]
fn scripts_of_a_route_are_compiled() {
    let site = Site::new();
    let loaded = site
        .load(&format!(
            "{LOCAL}routes:\n- from: https://app.localhost:8443\n  to: http://127.0.0.1:9000\n  rego:\n  - 'allow {{ input.session.id != \"\", }}'\n"
        ))
        .unwrap_err()
        .to_string();
    assert!(
        loaded.contains("routes[0].rego[0]") && loaded.contains("line 1, column"),
        "{loaded}"
    );

    let wrong = "rego: |\n    allow = true\n    deny { http.send({}) }";
    let refused = site
        .load(&format!(
            "{LOCAL}routes:\n- from: https://app.localhost:8443\n  to: http://127.0.0.1:9000\n  {wrong}\n"
        ))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("line 2, column 8 of the script: `http.send` cannot be used"),
        "{refused}"
    );

    let scripts = "rego:\n  - allow = true\n  - name: office\n    script: 'deny = false'\n";
    let loaded = site
        .load(&format!(
            "{LOCAL}routes:\n- from: https://app.localhost:8443\n  to: http://127.0.0.1:9000\n  {scripts}"
        ))
        .unwrap();
    let names: Vec<_> = route(&loaded, 0)
        .policy
        .scripts()
        .iter()
        .map(pomerium_policy::Script::name)
        .collect();
    assert_eq!(names, ["routes[0].rego[0]", "office"]);
    for bad in [
        "rego: [1]",
        "rego: {a: b}",
        "rego: [{name: x}]",
        "rego: [[allow = true]]",
    ] {
        let config = format!(
            "{LOCAL}routes:\n- from: https://app.localhost:8443\n  to: http://127.0.0.1:9000\n  {bad}\n"
        );
        assert!(
            site.load(&config)
                .unwrap_err()
                .to_string()
                .contains("expected a script"),
            "{bad}"
        );
    }
}

const NODES: &str = "databroker_cluster_nodes:\n- id: a\n  grpc_address: https://a.example.com:5443\n- id: b\n  \
                     grpc_address: https://b.example.com:5443\n";

#[test]
fn one_node_of_a_cluster_leads_and_the_others_follow() {
    let site = Site::new();
    let cluster = |more: &str| {
        let loaded = site
            .load(&format!("{NODES}grpc_address: ':5443'\n{more}"))
            .unwrap();
        assert!(loaded.refusals.is_empty(), "{:?}", loaded.refusals);
        loaded.settings.internal.cluster
    };
    assert_eq!(cluster(""), None, "no node of this list");
    assert_eq!(
        cluster("databroker_cluster_node_id: a\n").unwrap().leader,
        None,
        "the first leads"
    );
    let follows = cluster("databroker_cluster_node_id: b\n").unwrap();
    assert_eq!(follows.id, "b");
    assert_eq!(follows.leader.unwrap().url(), "https://a.example.com:5443");
    let named = cluster("databroker_cluster_node_id: b\ndatabroker_cluster_leader_id: b\n").unwrap();
    assert_eq!(named.leader, None);
    let urls: Vec<_> = named
        .others
        .iter()
        .map(pomerium_config::settings::Origin::url)
        .collect();
    assert_eq!(
        urls,
        ["https://a.example.com:5443"],
        "one that leads asks the others"
    );
    assert_eq!(named.server_name, None);
    let derived = cluster("databroker_cluster_node_id: b\ntls_derive: Databroker.example.com\n").unwrap();
    assert_eq!(derived.server_name.as_deref(), Some("databroker.example.com"));
}

#[test]
fn tools_know_the_name_of_the_certificate_of_a_single_databroker() {
    let site = Site::new();
    let named = |keys: &str| {
        let text = format!("{LOCAL}grpc_address: 127.0.0.1:5443\n{keys}");
        site.load(&text)
            .map(|loaded| loaded.settings.internal.certificate_name)
    };
    let derived = "tls_derive: Databroker.example.com\n";
    assert_eq!(named("").unwrap(), None);
    assert_eq!(named(derived).unwrap().as_deref(), Some("databroker.example.com"));
    let both = format!("{derived}override_certificate_name: '*.example.com'\n");
    assert_eq!(named(&both).unwrap().as_deref(), Some("*.example.com"));
    for (wrong, said) in [
        (
            "tls_derive: bad name\n",
            "no certificate can be made for \"bad name\"",
        ),
        ("tls_derive: a,b\n", "no certificate can be made for \"a,b\""),
        ("grpc_address: 127.0.0.1:99999\n", "port must be at most 65535"),
    ] {
        let error = site.load(&format!("{LOCAL}{wrong}")).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_cluster_that_asks_for_more_is_refused_with_advice() {
    let site = Site::new();
    let own = "databroker_cluster_node_id: a\n";
    let loaded = site
        .load(&format!(
            "{NODES}{own}grpc_address: ':5443'\ndatabroker_raft_bind_address: ':5999'\n"
        ))
        .unwrap();
    let refusal = loaded
        .refusals
        .iter()
        .find(|refusal| refusal.key == "databroker_raft_bind_address");
    assert!(
        refusal
            .unwrap()
            .help
            .contains("databroker_storage_type: postgres")
    );
    let postgres =
        "databroker_storage_type: postgres\ndatabroker_storage_connection_string: postgres://db/x\n";
    let text = site
        .load(&format!("{NODES}{own}grpc_address: ':5443'\n{postgres}"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("need no cluster"), "{text}");
    let text = site.load(&format!("{NODES}{own}")).unwrap_err().to_string();
    assert!(
        text.contains("this node leads, and the others cannot reach it"),
        "{text}"
    );
    for (other, id) in [("a", "b"), ("b", "a")] {
        let plain = NODES.replace(&format!("https://{other}"), &format!("http://{other}"));
        let text = site
            .load(&format!(
                "{plain}databroker_cluster_node_id: {id}\ngrpc_address: ':5443'\n"
            ))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(&format!("in the clear to http://{other}.example.com:5443")),
            "{text}"
        );
    }
}
