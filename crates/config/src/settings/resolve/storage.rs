//! Where data lives: the data folder and the record store.

use std::path::{Path, PathBuf};

use super::Cx;
use crate::diagnostic::Stage;
use crate::settings::{DatabrokerSettings, Secret, Secrets};
use crate::spec::base64_std;
use crate::spec::source::Environment;
use crate::spec::values::Values;

/// The folder for data when none is configured (spec config.md 8.5).
pub fn default_data_dir(env: &Environment) -> PathBuf {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    if let Some(data) = set("XDG_DATA_HOME") {
        return Path::new(data).join("pomerium");
    }
    match set("HOME") {
        Some(home) => Path::new(home).join(".local/share/pomerium"),
        None => PathBuf::from("/var/tmp/pomerium/data"),
    }
}

pub(super) fn data_dir(values: &Values, cx: &Cx<'_>) -> PathBuf {
    values
        .some_text("data_dir")
        .map_or_else(|| default_data_dir(cx.env), PathBuf::from)
}

/// The record store; memory when it was not asked for a file and the data folder cannot be written.
pub(super) fn resolve(values: &Values, data_dir: &Path, cx: &mut Cx<'_>) -> DatabrokerSettings {
    let name = "databroker_storage_type";
    match values.text(name) {
        "memory" => DatabrokerSettings::Memory,
        "file" => file_store(values, data_dir, cx),
        "postgres" => postgres(values, cx),
        _ => {
            let message = "config: unknown databroker storage backend type";
            cx.sink
                .error(values.place(name), name, message, "one of file, memory, postgres");
            DatabrokerSettings::Memory
        }
    }
}

fn postgres(values: &Values, cx: &mut Cx<'_>) -> DatabrokerSettings {
    let name = "databroker_storage_connection_string";
    let connection = connection_string(values, cx);
    if values.some_text(name).is_none() && values.some_text(&format!("{name}_file")).is_none() {
        let message = "config: missing databroker storage backend dsn";
        let help = "set databroker_storage_connection_string to a postgres:// URL";
        cx.sink
            .error(values.place("databroker_storage_type"), name, message, help);
    }
    DatabrokerSettings::Postgres(Secret::new(connection.unwrap_or_default()))
}

/// Keys of records at rest: those that are configured, else the shared secret. Either is only what the key in use is
/// derived from, so that a shared secret that was replaced can be named here to read what it sealed.
pub(super) fn at_rest(values: &Values, secrets: &Secrets, cx: &mut Cx<'_>) -> Vec<Secret> {
    let name = "databroker_encryption_keys";
    let mut keys = Vec::new();
    for (at, text) in values.texts(name).iter().enumerate() {
        match base64_std(text.trim()).map(<[u8; 32]>::try_from) {
            Ok(Ok(key)) => keys.push(Secret::new(key)),
            _ => {
                let message = format!("entry {} is not the base64 of 32 bytes", at + 1);
                let help = "make one with `head -c32 /dev/urandom | base64`; \
                            to read what an earlier shared secret sealed, write that secret here, behind the new one";
                cx.sink.error(values.place(name), name, message, help);
            }
        }
    }
    if keys.is_empty() {
        keys.push(secrets.shared.clone());
    }
    keys
}

fn file_store(values: &Values, data_dir: &Path, cx: &mut Cx<'_>) -> DatabrokerSettings {
    let name = "databroker_storage_connection_string";
    match connection_string(values, cx) {
        Some(text) => match DatabrokerSettings::at(&text) {
            Ok(DatabrokerSettings::File(path)) if path.is_absolute() => DatabrokerSettings::File(path),
            Ok(DatabrokerSettings::Memory) => DatabrokerSettings::Memory,
            _ => {
                // Not repeated: a connection string of another kind holds a password.
                let message = "is no folder";
                cx.sink.error(
                    values.place(name),
                    name,
                    message,
                    "write an absolute path, or file:///path",
                );
                DatabrokerSettings::Memory
            }
        },
        None if wants_folder(values, data_dir) || writable(data_dir) => {
            DatabrokerSettings::File(data_dir.join("databroker"))
        }
        None => {
            let message = format!(
                "records are kept in memory: the data folder {} cannot be written",
                data_dir.display()
            );
            let help = "sessions end with a restart; make the folder writable or set `data_dir`";
            cx.sink
                .warn(values.place("data_dir"), "databroker_storage_type", message, help);
            DatabrokerSettings::Memory
        }
    }
}

/// Whether memory is no way out: records are there already, or it was said where they belong. Where the folder cannot be
/// written then, the start fails; to begin anew beside it would sign everybody out and lose what comes.
fn wants_folder(values: &Values, data_dir: &Path) -> bool {
    let said = ["databroker_storage_type", "data_dir"]
        .iter()
        .any(|key| values.is_set(key));
    said || data_dir.join("databroker").exists()
}

/// The file wins over the inline form and is trimmed.
fn connection_string(values: &Values, cx: &mut Cx<'_>) -> Option<String> {
    let name = "databroker_storage_connection_string_file";
    if let Some(path) = values.some_text(name) {
        return match cx.read_text(path) {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(message) => {
                let help = "check the path and who may read the file";
                cx.sink
                    .error_at(Stage::ServiceStart, values.place(name), name, message, help);
                None
            }
        };
    }
    values
        .some_text("databroker_storage_connection_string")
        .map(str::to_owned)
}

/// Whether a folder can be written, or made.
pub(super) fn writable(dir: &Path) -> bool {
    let mut existing = dir;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => existing = parent,
            _ => return false,
        }
    }
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    existing.is_dir() && rustix::fs::access(existing, wanted).is_ok()
}
