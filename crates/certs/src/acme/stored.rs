//! Certificates in the storage.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::json;
use zeroize::Zeroizing;

use super::error::AcmeError;
use super::layout;
use super::options::Options;
use super::order::Issued;
use crate::load::{LoadedCertificate, load_pair_to_staple};
use crate::storage::StorageError;

/// Where the certificates of this room are said to come from.
const ORIGIN: &str = "autocert";
/// Between two looks at a pair that does not fit: another process may be writing it.
const AGAIN: Duration = Duration::from_millis(500);

/// The certificate for `name`, when there is one that can be used. What cannot be used is logged and as good as absent: it
/// will be ordered again.
pub(super) async fn load(options: &Options, name: &str) -> Result<Option<LoadedCertificate>, StorageError> {
    match read(options, name).await? {
        Some(Err(_)) => {}
        found => return Ok(found.and_then(Result::ok)),
    }
    tokio::time::sleep(AGAIN).await;
    match read(options, name).await? {
        Some(Err(error)) => {
            tracing::warn!(name, %error, "autocert: the stored certificate cannot be used");
            Ok(None)
        }
        found => Ok(found.and_then(Result::ok)),
    }
}

async fn read(
    options: &Options,
    name: &str,
) -> Result<Option<Result<LoadedCertificate, AcmeError>>, StorageError> {
    let key = |kind| layout::certificate(&options.directory, name, kind);
    let Some(chain) = options.storage.get(&key("crt")).await? else {
        return Ok(None);
    };
    let private = options.storage.get(&key("key")).await?;
    let private = Zeroizing::new(private.unwrap_or_default());
    Ok(Some(check(name, &chain, &private)))
}

/// Reads a pair and makes sure that it is for `name`.
fn check(name: &str, chain: &[u8], key: &[u8]) -> Result<LoadedCertificate, AcmeError> {
    let loaded = load_pair_to_staple(ORIGIN, chain, key)?;
    if loaded
        .names()
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
    {
        Ok(loaded)
    } else {
        Err(AcmeError::Unusable(format!(
            "it is for {}",
            loaded.names().join(", ")
        )))
    }
}

/// Checks what an order brought and writes it down.
pub(super) async fn save(
    options: &Options,
    name: &str,
    issued: &Issued,
    now: i64,
) -> Result<LoadedCertificate, AcmeError> {
    let loaded = check(name, issued.chain_pem.as_bytes(), issued.key_pem.as_bytes())?;
    if loaded.not_after() <= now {
        return Err(AcmeError::Unusable(
            "it has ended already; is the clock right?".into(),
        ));
    }
    let about = json!({"sans": [name], "issuer_data": {"ca": options.directory}}).to_string();
    let key = |kind| layout::certificate(&options.directory, name, kind);
    // The key first: a chain is there only when its key is.
    let files = [
        (key("key"), issued.key_pem.as_bytes()),
        (key("crt"), issued.chain_pem.as_bytes()),
        (key("json"), about.as_bytes()),
    ];
    options.storage.put_all(&files).await?;
    Ok(loaded)
}

/// The chain as text, as it is hashed for the name of its staple.
pub(super) fn chain_pem(chain: &[CertificateDer<'static>]) -> String {
    let encoded = chain
        .iter()
        .map(|certificate| der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, certificate));
    encoded.filter_map(Result::ok).collect()
}
