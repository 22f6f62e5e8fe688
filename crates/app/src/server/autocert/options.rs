//! From settings to the options of the room that does the work.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use pomerium_certs::acme::{Dns, DnsExec, DnsUpdate, ExternalAccount, Options, TsigKey};
use pomerium_certs::storage::{FolderStorage, Storage, open_object_store};
use pomerium_certs::web::WebClient;
use pomerium_config::settings::{AutocertDns, AutocertSettings, AutocertStorage, Secret};

/// Everything but what depends on other settings.
pub(super) fn of(settings: &AutocertSettings, storage: Arc<dyn Storage>) -> anyhow::Result<Options> {
    let roots = settings.trusted_ca.as_deref().unwrap_or_default();
    let web = WebClient::new(roots).map_err(|error| anyhow!("autocert_trusted_ca: {error}"))?;
    Ok(Options {
        directory: settings.directory.clone(),
        email: settings.email.clone(),
        external_account: settings.eab.as_ref().map(|(key_id, mac_key)| ExternalAccount {
            key_id: key_id.clone(),
            mac_key: private(mac_key),
        }),
        must_staple: settings.must_staple,
        names: settings.names.clone(),
        dns: settings.dns.as_ref().map(dns),
        tls_challenge: true,
        http_challenge: settings.http_challenge,
        storage,
        web: Arc::new(web),
    })
}

/// Opens a storage; nothing is read yet.
pub(super) fn open(settings: &AutocertStorage) -> anyhow::Result<Arc<dyn Storage>> {
    match settings {
        AutocertStorage::Folder(folder) => Ok(Arc::new(FolderStorage::new(folder))),
        AutocertStorage::Object(address) => {
            let address = std::str::from_utf8(address.expose()).context("autocert_dir: not text")?;
            Ok(Arc::new(open_object_store(address)?))
        }
    }
}

fn dns(settings: &AutocertDns) -> Dns {
    match settings {
        AutocertDns::Rfc2136 {
            server,
            zone,
            key_name,
            algorithm,
            secret,
            ttl,
            propagation,
        } => Dns::Update(DnsUpdate {
            server: server.clone(),
            zone: zone.clone(),
            key: key_name
                .as_ref()
                .zip(secret.as_ref())
                .map(|(name, secret)| TsigKey {
                    name: name.clone(),
                    algorithm: algorithm.clone(),
                    secret: private(secret),
                }),
            ttl: *ttl,
            propagation: *propagation,
        }),
        AutocertDns::Exec {
            program,
            args,
            timeout,
            propagation,
        } => Dns::Exec(DnsExec {
            program: program.clone(),
            args: args.clone(),
            timeout: *timeout,
            propagation: *propagation,
        }),
    }
}

/// A copy that is wiped.
fn private(secret: &Secret) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(secret.expose().to_vec())
}
