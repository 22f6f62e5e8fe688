//! A second load of the same loader: what has not changed is taken over, and nothing that must be told is not.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pomerium_config::settings::{PathRewrite, Settings};
use pomerium_config::{LoadErrors, Loaded, Loader};
use tempfile::TempDir;

struct Site {
    folder: TempDir,
    loader: Loader,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").to_string_lossy().into_owned();
        let env = BTreeMap::from([("DATA_DIR".to_owned(), data)]);
        let loader = Loader::new(Some(&folder.path().join("config.yaml")), &env);
        Self { folder, loader }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn try_load(&self, text: &str) -> Result<Loaded, LoadErrors> {
        std::fs::write(self.path("config.yaml"), text).unwrap();
        self.loader.load()
    }

    fn load(&self, text: &str) -> Settings {
        self.try_load(text).unwrap().settings
    }
}

fn route(host: &str, more: &str) -> String {
    format!(
        "- {{from: 'https://{host}.example.com', to: 'http://10.0.0.1', allow_public_unauthenticated_access: true{more}}}\n"
    )
}

fn shared(before: &Settings, after: &Settings) -> Vec<bool> {
    let known = |route| before.routes.iter().any(|before| Arc::ptr_eq(before, route));
    after.routes.iter().map(known).collect()
}

#[test]
fn only_changed_routes_are_made_anew() {
    let site = Site::new();
    let (a, b, c) = (route("a", ""), route("b", ""), route("c", ""));
    let first = site.load(&format!("routes:\n{a}{b}"));
    let second = site.load(&format!(
        "# moved down\nroutes:\n{c}{a}{}",
        route("b", ", prefix_rewrite: /x")
    ));
    assert_eq!(shared(&first, &second), [false, true, false]);
    assert_eq!(
        second.routes[2].path_rewrite.as_deref(),
        Some(&PathRewrite::Prefix("/x".into()))
    );
    // An answer that never came does not count as forgotten.
    assert!(site.try_load("routes: [\n").is_err());
    let third = site.load(&format!("routes:\n{a}{c}"));
    assert_eq!(shared(&second, &third), [true, true]);
}

#[test]
fn what_is_inherited_counts() {
    let site = Site::new();
    let routes = format!("routes:\n{}", route("a", ""));
    let first = site.load(&routes);
    let second = site.load(&format!("default_upstream_timeout: 7s\n{routes}"));
    assert_eq!(shared(&first, &second), [false]);
    assert_eq!(second.routes[0].timeout, Some(std::time::Duration::from_secs(7)));
}

#[test]
fn a_secret_in_a_file_counts_though_the_text_is_the_same() {
    let site = Site::new();
    let file = site.path("secret");
    std::fs::write(&file, "one").unwrap();
    let text = format!(
        "authenticate_service_url: https://authenticate.example.com\nidp_provider: oidc\n\
         idp_provider_url: https://idp.example.com\nidp_client_id: id\nidp_client_secret_file: {}\nroutes:\n\
         - {{from: 'https://a.example.com', to: 'http://10.0.0.1', allow_any_authenticated_user: true}}\n",
        file.display()
    );
    let first = site.load(&text);
    assert_eq!(shared(&first, &site.load(&text)), [true]);
    std::fs::write(&file, "two").unwrap();
    let second = site.load(&text);
    assert_eq!(shared(&first, &second), [false]);
    assert_eq!(
        second.routes[0].idp.as_ref().unwrap().client_secret.expose(),
        b"two"
    );
}

#[test]
fn a_route_that_reads_a_file_is_read_again() {
    let site = Site::new();
    let file = site.path("ca.pem");
    let pem = || {
        rcgen::generate_simple_self_signed(vec!["ca".to_owned()])
            .unwrap()
            .cert
            .pem()
    };
    let (one, two) = (pem(), pem());
    std::fs::write(&file, &one).unwrap();
    let text = format!(
        "routes:\n{}",
        route("a", &format!(", tls_custom_ca_file: {}", file.display()))
    );
    assert_eq!(
        site.load(&text).routes[0].upstream_tls.custom_ca.as_deref(),
        Some(one.as_bytes())
    );
    std::fs::write(&file, &two).unwrap();
    let settings = site.load(&text);
    assert_eq!(
        settings.routes[0].upstream_tls.custom_ca.as_deref(),
        Some(two.as_bytes())
    );
    assert!(settings.watched_files.contains(&file));
}

#[test]
fn findings_are_told_every_time_where_they_stand() {
    let site = Site::new();
    let odd = route("a", ", prefix: /a, path: /b");
    for lines in ["", "#\n", "#\n#\n"] {
        let loaded = site.try_load(&format!("{lines}routes:\n{odd}")).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        assert_eq!(loaded.warnings[0].place.line as usize, lines.len() / 2 + 2);
    }
    // Unknown keys, and options that are refused.
    for _ in 0..2 {
        let loaded = site
            .try_load(&format!("routes:\n{}", route("b", ", colour: red")))
            .unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        let loaded = site
            .try_load(&format!(
                "routes:\n{}",
                route("b", ", tls_upstream_allow_renegotiation: true")
            ))
            .unwrap();
        assert_eq!(loaded.refusals.len(), 1);
    }
    // Two of the same, of which the first was known.
    let fine = site.load(&format!("routes:\n{}", route("c", "")));
    assert_eq!(fine.routes.len(), 1);
    let twice = format!("routes:\n{}\n{}", route("c", ""), route("c", ""));
    let errors = site.try_load(&twice).unwrap_err();
    assert!(
        errors.to_string().contains("config.yaml:4:3: routes[1]: route"),
        "{errors}"
    );
}

#[test]
fn certificates_are_still_wanted_for_known_routes() {
    let site = Site::new();
    let text = |extra: &str| format!("autocert: true\nroutes:\n{}{extra}", route("a", ""));
    site.load(&text(""));
    let second = site.load(&text(&route("b", "")));
    assert_eq!(second.autocert.unwrap().names, ["a.example.com", "b.example.com"]);
}

#[test]
fn a_file_that_says_nothing_any_more_is_not_a_configuration() {
    let site = Site::new();
    let routes = format!("routes:\n{}", route("a", ""));
    assert!(
        site.load("# not yet\n").routes.is_empty(),
        "at the start it is one"
    );
    site.load(&routes);
    for empty in ["", " \n\t\n", "# only\n# comments\n", "---\n"] {
        let errors = site.try_load(empty).unwrap_err().to_string();
        assert!(
            errors.contains("the file is empty") && errors.contains("`{}`"),
            "{errors}"
        );
    }
    assert!(site.load("{}").routes.is_empty(), "said so");
    assert_eq!(site.load(&routes).routes.len(), 1);
}

#[test]
fn a_running_program_keeps_its_services() {
    let site = Site::new();
    let secret = pomerium_crypto::encoding::base64_encode(&[1; 32]);
    let text = |services: &str, more: &str| {
        format!(
            "services: {services}\ngrpc_address: '127.0.0.1:5443'\nshared_secret: {secret}\ncookie_secret: {secret}\n{more}"
        )
    };
    let start = site.load(&text("databroker,proxy", "")).services;
    site.loader.keep_services(start);
    let loaded = site.try_load(&text("proxy", "cookie_name: other\n")).unwrap();
    assert_eq!(loaded.settings.services, start);
    assert!(
        loaded.settings.internal.databroker.is_none(),
        "its own databroker"
    );
    assert_eq!(loaded.settings.cookie.name, "other", "the rest counts");
    let told = &loaded.warnings[0];
    assert_eq!(
        (told.key.as_str(), told.message.as_str()),
        ("services", "this change takes effect at the next start")
    );
    assert!(
        site.try_load(&text("proxy,databroker", ""))
            .unwrap()
            .warnings
            .is_empty()
    );
}
