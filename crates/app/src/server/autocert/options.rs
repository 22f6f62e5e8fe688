//! From settings to the options of the room that does the work.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use pomerium_certs::acme::{Dns, DnsExec, DnsUpdate, ExternalAccount, Options, SharedChallenges, TsigKey};
use pomerium_certs::storage::{AUTOCERT_RECORDS, FolderStorage, RecordStorage, Storage, open_object_store};
use pomerium_certs::web::WebClient;
use pomerium_config::settings::{AutocertDns, AutocertSettings, AutocertStorage, Secret, Settings};
use pomerium_crypto::kdf;
use tokio_util::sync::CancellationToken;

use crate::server::core::{Core, secret};

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

/// Opens a storage; nothing is read yet. One that others write as well is followed until `stop`.
pub(super) fn open(
    wanted: &AutocertStorage,
    settings: &Settings,
    core: &Core,
    stop: &CancellationToken,
) -> anyhow::Result<Arc<dyn Storage>> {
    match wanted {
        AutocertStorage::Databroker => {
            let (broker, clock) = (Arc::clone(&core.broker.handle), Arc::clone(&core.clock));
            // Every process has the shared secret, and not every one those of the store. A secret that was replaced is among
            // them for as long as something is sealed with it.
            let mut keys = vec![kdf::derive(&core.shared, AUTOCERT_RECORDS)];
            for key in &settings.at_rest {
                let key = secret(key.expose(), "databroker_encryption_keys")?;
                keys.push(kdf::derive(&key, AUTOCERT_RECORDS));
            }
            let storage = RecordStorage::new(broker, clock, &keys);
            let shared = SharedChallenges::new(Arc::clone(&core.challenges));
            tokio::spawn(Arc::clone(&storage).follow(shared, stop.clone()));
            Ok(storage)
        }
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
