//! One `Settings` message as options of a file: what it may say, and under which name.
//!
//! Records are layered over the file while the program runs, by whoever may write records. What takes effect at a start
//! only, and what would give that writer the machine (its files, its sockets, its keys, where its records are), is for
//! the local file alone and refused by name.

use serde_json::{Map, Value, json};

use super::key_pairs::{KeyPair, KeyPairs};
use super::{CertificateRecord, Fault, SettingsRecord};
use crate::spec::keys;

/// What the service that wrote the record adds for readers of it.
const NOTES: &[&str] = &[
    "id",
    "namespace_id",
    "originator_id",
    "cluster_id",
    "name",
    "created_at",
    "modified_at",
];

/// For the local file alone, because of what they open or where they lead.
const LOCAL: &[&str] = &[
    "address",
    "authorize_internal_service_url",
    "authorize_service_urls",
    "autocert_dir",
    "databroker_cluster_leader_id",
    "databroker_cluster_node_id",
    "databroker_cluster_nodes",
    "databroker_internal_service_url",
    "databroker_raft_bind_address",
    "databroker_service_urls",
    "databroker_storage_connection_string",
    "databroker_storage_type",
    "debug_address",
    "derive_tls",
    "envoy_admin_access_log_path",
    "envoy_admin_address",
    "envoy_admin_profile_path",
    "envoy_dynamic_extensions",
    "grpc_address",
    "grpc_client_timeout",
    "grpc_insecure",
    "http_redirect_addr",
    "insecure_server",
    "metrics_address",
    "metrics_basic_auth",
    "metrics_certificate",
    "metrics_client_ca",
    "metrics_client_ca_key_pair_id",
    "override_certificate_name",
    "services",
    "shared_secret",
    "ssh_address",
    "ssh_host_key_files",
    "ssh_user_ca_key_file",
];

/// What a running program keeps as it was at its start.
const AT_START: &[&str] = &["installation_id", "signing_key"];

/// Switches that a running program keeps as they were at its start.
const FLAGS_AT_START: &[&str] = &[
    "add_extra_metrics_labels",
    "config_hot_reload",
    "refresh_session_at_id_token_expiration",
];

/// Fields with another name in a file.
const RENAMED: &[(&str, &str)] = &[("request_params", "idp_request_params"), ("scopes", "idp_scopes")];

/// Fields that stand under `branding` in a file.
const BRANDING: &[&str] = &[
    "primary_color",
    "secondary_color",
    "darkmode_primary_color",
    "darkmode_secondary_color",
    "logo_url",
    "favicon_url",
    "error_message_first_paragraph",
];

/// Bundles: base64 of PEM in a file, and in records sometimes PEM.
const BUNDLES: &[&str] = &["autocert_trusted_ca", "certificate_authority"];

/// What one message says.
pub(super) struct Found {
    pub(super) settings: SettingsRecord,
    pub(super) certificates: Vec<CertificateRecord>,
}

/// Reads a message in which key pairs are named.
pub(super) fn read(record: String, entity: bool, message: Map<String, Value>, known: &KeyPairs) -> Found {
    let mut reader = Reader {
        known,
        record: &record,
        options: Map::new(),
        certificates: Vec::new(),
        faults: Vec::new(),
    };
    for (name, value) in message {
        if let Err(fault) = reader.field(&name, value) {
            reader.faults.push(fault);
        }
    }
    let Reader {
        options,
        certificates,
        faults,
        ..
    } = reader;
    Found {
        settings: SettingsRecord {
            record,
            entity,
            options,
            faults,
        },
        certificates,
    }
}

struct Reader<'a> {
    known: &'a KeyPairs,
    record: &'a str,
    options: Map<String, Value>,
    certificates: Vec<CertificateRecord>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn field(&mut self, name: &str, value: Value) -> Result<(), Fault> {
        refuse(name)?;
        match name {
            _ if NOTES.contains(&name) => {}
            _ if BRANDING.contains(&name) => {
                let branding = self.options.entry("branding").or_insert_with(|| json!({}));
                branding[name] = value;
            }
            "certificates" => self.certificates(&value)?,
            "certificate_key_pair_ids" => self.served(&value)?,
            "certificate_authority_key_pair_id" => self.bundle("certificate_authority", name, &value)?,
            "autocert_trusted_ca_key_pair_id" => self.bundle("autocert_trusted_ca", name, &value)?,
            "downstream_mtls" => {
                let options = mutual_tls(value, self.known)?;
                self.options.insert(name.to_owned(), options);
            }
            "runtime_flags" => {
                flags(&value)?;
                self.options.insert(name.to_owned(), value);
            }
            _ => self.option(name, value)?,
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: Value) -> Result<(), Fault> {
        let renamed = RENAMED.iter().find(|(field, _)| *field == name);
        let option = renamed.map_or(name, |(_, option)| option);
        let key =
            keys::find_global(option).ok_or_else(|| Fault::of(name, "it has no effect yet; remove it"))?;
        if key.restart {
            return Err(at_start(name));
        }
        let value = match value {
            Value::Object(mut list) if list.len() <= 1 && !is_map(key) => {
                list.remove("values").unwrap_or_else(|| json!([]))
            }
            Value::String(text) if BUNDLES.contains(&name) => base64_of_pem(text).into(),
            value => value,
        };
        // What a reference says wins over what is written beside it, in whichever order they come.
        self.options.entry(option).or_insert(value);
        Ok(())
    }

    fn pair(&self, field: &str, id: &Value) -> Result<&KeyPair, Fault> {
        self.known.get(field, id.as_str().unwrap_or_default())
    }

    fn bundle(&mut self, option: &str, field: &str, id: &Value) -> Result<(), Fault> {
        let bundle = self.pair(field, id)?.certificate(field)?;
        self.options.insert(option.to_owned(), bundle.into());
        Ok(())
    }

    fn served(&mut self, ids: &Value) -> Result<(), Fault> {
        for (index, id) in ids.as_array().into_iter().flatten().enumerate() {
            let field = format!("certificate_key_pair_ids[{index}]");
            let record = format!("KeyPair {}", id.as_str().unwrap_or_default());
            let served = self.pair(&field, id)?.served(&record, &field)?;
            self.certificates.push(served);
        }
        Ok(())
    }

    fn certificates(&mut self, list: &Value) -> Result<(), Fault> {
        for (index, pair) in list.as_array().into_iter().flatten().enumerate() {
            let mut inline = KeyPairs::default();
            let message = json!({"certificate": pair["cert_bytes"], "key": pair["key_bytes"]});
            inline.insert(String::new(), message.as_object().unwrap_or(&Map::new()));
            let field = format!("certificates[{index}]");
            let record = format!("{} {field}", self.record);
            let served = inline.get(&field, "")?.served(&record, &field)?;
            self.certificates.push(served);
        }
        Ok(())
    }
}

fn refuse(name: &str) -> Result<(), Fault> {
    if LOCAL.contains(&name) || name.ends_with("_file") {
        let why = "it is for the local configuration file alone: set it there, and remove it here";
        return Err(Fault::of(name, why));
    }
    if AT_START.contains(&name) || name.starts_with("otel_") {
        return Err(at_start(name));
    }
    Ok(())
}

fn at_start(name: &str) -> Fault {
    let why = "a running program keeps it as it was at its start: set it in the local configuration file";
    Fault::of(name, why)
}

fn is_map(key: &keys::Key) -> bool {
    use keys::Kind;
    matches!(
        key.kind,
        Kind::TextMap | Kind::BoolMap | Kind::Object(_) | Kind::Named(_) | Kind::ClaimHeaders
    )
}

fn flags(value: &Value) -> Result<(), Fault> {
    let flags = value.as_object().into_iter().flatten();
    for (name, _) in flags {
        if FLAGS_AT_START.contains(&name.as_str()) {
            return Err(at_start(&format!("runtime_flags.{name}")));
        }
    }
    Ok(())
}

/// `downstream_mtls`: an authority by id, and names of clients as pairs.
fn mutual_tls(value: Value, known: &KeyPairs) -> Result<Value, Fault> {
    let Value::Object(mut options) = value else {
        return Ok(value);
    };
    if let Some(id) = options.remove("ca_key_pair_id") {
        let field = "downstream_mtls.ca_key_pair_id";
        let pair = known.get(field, id.as_str().unwrap_or_default())?;
        options.insert("ca".into(), pair.certificate(field)?.into());
    }
    for name in ["ca", "crl"] {
        if let Some(Value::String(text)) = options.get_mut(name) {
            *text = base64_of_pem(std::mem::take(text));
        }
    }
    if let Some(Value::Array(names)) = options.get_mut("match_subject_alt_names") {
        for name in names {
            let kind = name["san_type"].as_str().unwrap_or("unspecified").to_lowercase();
            *name = json!({kind: name["pattern"].as_str().unwrap_or_default()});
        }
    }
    Ok(Value::Object(options))
}

/// As a file holds it.
pub(super) fn base64_of_pem(text: String) -> String {
    if text.contains("-----BEGIN") {
        pomerium_crypto::encoding::base64_encode(text.as_bytes())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the fields of the message, from its description.
    fn described() -> Vec<&'static str> {
        let text = include_str!("../../../../proto/config.proto");
        let message = text.split("message Settings {").nth(1).unwrap();
        let message = message.split("\n}").next().unwrap();
        let fields = message.lines().filter(|line| {
            // Those of messages inside it are indented further.
            line.starts_with("  ") && !line.starts_with("   ") && line.contains(" = ")
        });
        fields
            .map(|line| line.split(" = ").next().unwrap().rsplit(' ').next().unwrap())
            .collect()
    }

    /// Whatever a message can say is an option of a file, or known to be none.
    #[test]
    fn every_field_is_accounted_for() {
        let known = KeyPairs::default();
        let without_effect = [
            "autocert_ca_key_pair_id",
            "directory_provider",
            "directory_provider_options",
            "directory_provider_refresh_interval",
            "directory_provider_refresh_timeout",
            "jwt_groups_filter_infer_from_ppl",
            "ssh_host_key_pair_ids",
            "ssh_user_ca_key_pair_id",
        ];
        assert!(described().len() > 140, "{}", described().len());
        for name in described() {
            let value = if name.ends_with("_ids") {
                json!([])
            } else {
                json!("x")
            };
            let message = Map::from_iter([(name.to_owned(), value)]);
            let found = read("Settings s".into(), true, message, &known);
            let faults = &found.settings.faults;
            let unknown = faults.iter().any(|fault| fault.message.contains("no effect yet"));
            assert_eq!(unknown, without_effect.contains(&name), "{name}: {faults:?}");
        }
    }

    #[test]
    fn lists_are_names_of_fields() {
        let described = described();
        let lists = [NOTES, LOCAL, AT_START, BRANDING, BUNDLES];
        let renamed = RENAMED.iter().map(|(field, _)| field);
        for name in lists.into_iter().flatten().chain(renamed) {
            assert!(described.contains(name), "{name}");
        }
    }
}
