//! TLS as the modes of libpq want it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pomerium_crypto::tls::{AnyCertificate, AnyHost};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::ConnectError;
use super::keys::Extra;

/// How the server's certificate is looked at (libpq `sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Not at all: `prefer`, `require`.
    Any,
    /// It comes from a trusted authority: `verify-ca`.
    Authority,
    /// It is also for this host: `verify-full`.
    Host,
}

/// How TLS begins, and how the server is looked at then. Sets the first.
pub(super) fn mode(config: &mut Config, extra: &Extra) -> Result<Trust, ConnectError> {
    let (mode, trust) = match extra.mode.as_deref() {
        Some("disable") => (SslMode::Disable, Trust::Any),
        None | Some("prefer" | "allow") => (SslMode::Prefer, Trust::Any),
        Some("require") if extra.root.is_some() => (SslMode::Require, Trust::Authority),
        Some("require") => (SslMode::Require, Trust::Any),
        Some("verify-ca") => (SslMode::Require, Trust::Authority),
        Some("verify-full") => (SslMode::Require, Trust::Host),
        Some(other) => {
            return Err(ConnectError::Value {
                key: "sslmode",
                value: other.to_owned(),
                known: "disable, allow, prefer, require, verify-ca, verify-full".to_owned(),
            });
        }
    };
    config.ssl_mode(mode);
    Ok(trust)
}

/// TLS to a server that is looked at so.
pub(super) fn client(trust: Trust, extra: &Extra) -> Result<ClientConfig, ConnectError> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(extra)?)
        .map_err(|error| ConnectError::Tls(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        // As libpq does below `verify-ca`.
        Trust::Any => Arc::new(AnyCertificate(provider)),
        Trust::Authority => Arc::new(AnyHost {
            roots: roots(extra)?,
            provider,
        }),
        Trust::Host => WebPkiServerVerifier::builder_with_provider(roots(extra)?.into(), provider)
            .build()
            .map_err(|error| ConnectError::Tls(error.to_string()))?,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut client = match (&extra.certificate, &extra.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("sslcert", certificate)?;
            let file = |problem: String| ConnectError::File {
                key: "sslkey",
                path: key.clone(),
                problem,
            };
            builder
                .with_client_auth_cert(chain, private(key).map_err(file)?)
                .map_err(|error| file(error.to_string()))?
        }
        _ => return Err(ConnectError::Tls("sslcert and sslkey go together".into())),
    };
    client.enable_sni = !extra.nameless;
    Ok(client)
}

/// The versions that may be spoken.
fn versions(extra: &Extra) -> Result<Vec<&'static SupportedProtocolVersion>, ConnectError> {
    let mut versions = Vec::new();
    versions.extend((!extra.without_tls13).then_some(&TLS13));
    versions.extend((!extra.without_tls12).then_some(&TLS12));
    match versions.is_empty() {
        true => Err(ConnectError::Tls(
            "ssl_min_protocol_version is above ssl_max_protocol_version".into(),
        )),
        false => Ok(versions),
    }
}

/// The key in a file; one that is encrypted cannot be used.
fn private(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED");
    match PrivateKeyDer::from_pem_slice(&text) {
        Err(_) if encrypted => Err(
            "it is encrypted, and sslpassword has no effect here; decrypt it with `openssl pkey`, \
             and let nobody else read the file"
                .to_owned(),
        ),
        read => read.map_err(|error| error.to_string()),
    }
}

fn certificates(key: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let file = |problem: String| ConnectError::File {
        key,
        path: path.clone(),
        problem,
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| file(error.to_string()))?
        .collect();
    let read = read.map_err(|error| file(error.to_string()))?;
    match read.is_empty() {
        true => Err(file("there is no certificate in it".into())),
        false => Ok(read),
    }
}

/// The authorities of `sslrootcert`, else those of the system.
fn roots(extra: &Extra) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    match &extra.root {
        Some(path) => {
            for certificate in certificates("sslrootcert", path)? {
                roots.add(certificate).map_err(|error| ConnectError::File {
                    key: "sslrootcert",
                    path: path.clone(),
                    problem: error.to_string(),
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(ConnectError::Tls(
            "there is no authority to verify the server by; set sslrootcert".into(),
        ));
    }
    Ok(roots)
}
