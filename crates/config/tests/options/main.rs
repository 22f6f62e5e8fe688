//! Options to settings, key by key, and what is said about values that are wrong.

#![allow(clippy::unwrap_used, reason = "test code")]

mod autocert;
mod balance;
mod edge;
mod health;
mod log_fields;
mod metrics;
mod mtls;
mod stages;
mod sub_policies;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pomerium_config::settings::{RouteSettings, Settings};
use pomerium_config::{Diagnostic, Loader, Refusal};
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

    /// Writes a file; its path.
    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).to_string_lossy().into_owned()
    }

    fn load_with(&self, config: &str, env: &[(&str, &str)]) -> Found {
        self.write("config.yaml", config);
        let data = self.path("data").to_string_lossy().into_owned();
        let mut all = BTreeMap::from([("DATA_DIR".to_owned(), data)]);
        all.extend(
            env.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        match Loader::new(Some(&self.path("config.yaml")), &all).load() {
            Ok(loaded) => Found {
                settings: Some(loaded.settings),
                errors: Vec::new(),
                warnings: loaded.warnings,
                refusals: loaded.refusals,
            },
            Err(errors) => Found {
                settings: None,
                errors: errors.errors,
                warnings: errors.warnings,
                refusals: Vec::new(),
            },
        }
    }

    fn load(&self, config: &str) -> Found {
        self.load_with(config, &[])
    }
}

/// What came of one load.
struct Found {
    settings: Option<Settings>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    refusals: Vec<Refusal>,
}

impl Found {
    fn settings(&self) -> &Settings {
        self.settings
            .as_ref()
            .unwrap_or_else(|| panic!("{:#?}", self.errors))
    }

    fn route(&self) -> &RouteSettings {
        &self.settings().routes[0]
    }

    /// The only problem, as people see it: without the folder.
    fn problem(&self) -> String {
        let [error] = self.errors.as_slice() else {
            panic!("one problem is expected: {:#?}", self.errors)
        };
        let text = error.to_string();
        let folder = error.file.as_ref().unwrap().parent().unwrap();
        text.replace(&format!("{}/", folder.display()), "")
    }

    fn warned(&self, text: &str) -> bool {
        self.warnings
            .iter()
            .any(|warning| warning.to_string().contains(text))
    }
}

/// A configuration of one public route with these lines.
fn routed(lines: &str) -> String {
    let mut text = "routes:\n- from: https://app.example.com\n  to: http://10.0.0.1\n  \
                    allow_public_unauthenticated_access: true\n"
        .to_owned();
    for line in lines.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn load(config: &str) -> Found {
    Site::new().load(config)
}

/// The lines of the only problem must hold each of these.
fn assert_problem(config: &str, fragments: &[&str]) {
    let problem = load(config).problem();
    for fragment in fragments {
        assert!(problem.contains(fragment), "{fragment} is not in: {problem}");
    }
}

/// A self-signed certificate and its key, PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["app.example.com".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn base64(text: &str) -> String {
    pomerium_crypto::encoding::base64_encode(text.as_bytes())
}

/// What the schema tells editors is what is read, field by field.
#[test]
fn the_schema_names_fields_that_exist() {
    let schema = pomerium_config::schema();
    let route = &schema["$defs"]["route"]["properties"];
    let check = &route["health_checks"]["items"]["properties"];
    let known = |fields: &serde_json::Value, wrap: &dyn Fn(&str) -> String| {
        for name in fields.as_object().unwrap().keys() {
            // A value of the wrong kind: it is complained about because the field is read.
            let found = load(&routed(&wrap(&format!("{{{name}: [{{a: b}}]}}"))));
            let named = |error: &Diagnostic| error.key.contains(&format!(".{name}"));
            assert!(found.errors.iter().any(named), "{name}: {:?}", found.errors);
        }
    };
    known(&route["outlier_detection"]["properties"], &|field| {
        format!("outlier_detection: {field}")
    });
    known(check, &|field| format!("health_checks: [{field}]"));
    for probe in ["http_health_check", "tcp_health_check", "grpc_health_check"] {
        known(&check[probe]["properties"], &|field| {
            format!("health_checks: [{{{probe}: {field}}}]")
        });
    }
    let sans = &schema["properties"]["downstream_mtls"]["properties"]["match_subject_alt_names"]["items"]["properties"];
    for kind in sans.as_object().unwrap().keys() {
        let found = load(&format!(
            "downstream_mtls: {{match_subject_alt_names: [{{{kind}: a}}]}}\n"
        ));
        assert_eq!(
            found.settings().downstream_mtls.as_ref().unwrap().san.len(),
            1,
            "{kind}"
        );
    }
}
