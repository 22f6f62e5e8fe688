//! Writes the folder of the demo: certificate, secrets, `config.yaml`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pomerium_crypto::{encoding, password, random};

use super::plan::{self, Plan, ROUTES, USERS};

/// The files of a demo folder.
#[derive(Debug, Clone)]
pub struct Files {
    /// The configuration.
    pub config: PathBuf,
    /// Certificate chain of the listener.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Files {
    /// Where the files of a folder are.
    pub fn of(dir: &Path) -> Self {
        Self {
            config: dir.join("config.yaml"),
            certificate: dir.join("demo.crt"),
            key: dir.join("demo.key"),
        }
    }
}

/// Creates a folder that only its owner can read.
pub fn private_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| {
        format!(
            "cannot create {}; choose another folder with --data-dir",
            dir.display()
        )
    })?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot make {} private", dir.display()))
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The secret of the demo: made once, kept in a file of mode 0600.
pub fn shared_secret(dir: &Path) -> anyhow::Result<[u8; 32]> {
    let path = dir.join("shared_secret");
    if !path.exists() {
        let secret: [u8; 32] = random::bytes();
        write_private(&path, encoding::base64_encode(&secret).as_bytes())?;
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = encoding::base64_decode(text.trim())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.with_context(|| {
        format!(
            "{} is damaged; remove the folder to start the demo anew",
            path.display()
        )
    })
}

/// The configuration of the demo, written for people: it is meant to be copied.
pub fn config(plan: &Plan, secret: &[u8; 32]) -> anyhow::Result<String> {
    let files = Files::of(&plan.dir);
    let mut text = String::new();
    let secret_text = encoding::base64_encode(secret);
    write!(
        text,
        "# The demo's configuration; copy it as a start of your own.\n\
         address: 127.0.0.1:{port}\n\
         authenticate_service_url: {authenticate}\n\
         data_dir: {dir}\n\
         health_check_addr: 127.0.0.1:{health}\n\
         \n\
         # Replace both when you copy this file: `pomerium init` writes fresh ones.\n\
         shared_secret: {secret_text}\n\
         cookie_secret: {cookie}\n\
         \n\
         certificate_file: {certificate}\n\
         certificate_key_file: {key}\n\
         # Given, so that the default with Strict-Transport-Security is not sent for *.localhost.\n\
         set_response_headers:\n  X-Frame-Options: SAMEORIGIN\n\
         \n\
         # The built-in identity provider; add users with `pomerium user add`.\n\
         idp_provider: local\n\
         local_idp:\n  users:\n",
        port = plan.port,
        authenticate = plan.url("authenticate"),
        dir = quoted(&plan.dir),
        health = plan.health_port,
        cookie = encoding::base64_encode(&pomerium_crypto::kdf::derive(secret, "demo cookie secret")),
        certificate = quoted(&files.certificate),
        key = quoted(&files.key),
    )?;
    for user in &USERS {
        let hash = password::hash(&plan::password(secret, user))?;
        write!(
            text,
            "  - email: {}\n    name: {}\n    groups: [{}]\n    password_hash: {hash}\n",
            user.email,
            user.name,
            user.groups.join(", ")
        )?;
    }
    text.push_str("\nroutes:\n");
    for route in &ROUTES {
        write!(
            text,
            "# {}: {}.\n- from: {}\n  to: http://127.0.0.1:{}\n  name: {}\n  pass_identity_headers: true\n{}",
            route.name,
            route.who,
            plan.url(route.label),
            plan.sample_port,
            route.name,
            route.access
        )?;
    }
    Ok(text)
}

/// A path as a YAML string: JSON strings are YAML strings.
fn quoted(path: &Path) -> String {
    serde_json::Value::String(path.to_string_lossy().into_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_private_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = shared_secret(dir.path()).unwrap();
        assert_eq!(shared_secret(dir.path()).unwrap(), first);
        let mode = fs::metadata(dir.path().join("shared_secret"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_secret_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("shared_secret"), "short").unwrap();
        let error = shared_secret(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
}
