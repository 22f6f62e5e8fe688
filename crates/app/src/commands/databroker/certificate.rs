//! `pomerium databroker certificate`: what a tool shows a databroker that wants certificates (`grpc_mutual_tls`).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pomerium_certs::DerivedAuthority;

use super::args::{CertificateArgs, Which};
use super::store::settings;
use crate::commands::{print, shared_secret};
use crate::server::core;

const CERTIFICATE: &str = "client.pem";
const KEY: &str = "client-key.pem";
const AUTHORITY: &str = "ca.pem";

/// Writes certificate, key and authority into the folder. Nothing that is there is replaced.
pub fn write(args: &CertificateArgs) -> anyhow::Result<ExitCode> {
    let authority = DerivedAuthority::new(&secret(&args.which)?)?;
    let (certificate, key) = authority.client_pem()?;
    let folder = &args.out;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for name in [CERTIFICATE, KEY, AUTHORITY] {
        let path = folder.join(name);
        if path.exists() {
            bail!(
                "{} exists already; name another folder, or move it away",
                path.display()
            );
        }
    }
    file(&folder.join(KEY), &key, 0o600)?;
    file(&folder.join(CERTIFICATE), &certificate, 0o644)?;
    file(&folder.join(AUTHORITY), &authority.ca_pem(), 0o644)?;
    let path = |name: &str| folder.join(name).display().to_string();
    print(&format!("the certificate of the tool: {}", path(CERTIFICATE)));
    print(&format!("its key, which nobody else may read: {}", path(KEY)));
    print(&format!("the authority of `tls_derive`: {}", path(AUTHORITY)));
    Ok(ExitCode::SUCCESS)
}

/// That of the configuration; without one, that of the environment. One that is made up for want of both is of no use.
fn secret(which: &Which) -> anyhow::Result<[u8; 32]> {
    if which.config.is_some() {
        return core::secret(settings(which)?.secrets.shared.expose(), "shared_secret");
    }
    let text = shared_secret::of_environment()
        .context("the shared secret is needed: give --config FILE, or set SHARED_SECRET")?;
    shared_secret::decoded(&text)
}

fn file(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| path.display().to_string())
}
