//! What to get certificates for, and how.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::storage::Storage;
use crate::web::Web;

/// Everything about one authority and its certificates.
#[derive(Clone)]
pub struct Options {
    /// URL of the authority's directory; https only.
    pub directory: String,
    /// Contact of the account; may be empty.
    pub email: String,
    /// External account binding (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// Ask for the must-staple extension (RFC 7633).
    pub must_staple: bool,
    /// One certificate each; sorted. Wildcards only with `dns`.
    pub names: Vec<String>,
    /// DNS-01, used for every name when there.
    pub dns: Option<Dns>,
    /// The main listener speaks TLS, so that TLS-ALPN-01 can be answered there.
    pub tls_challenge: bool,
    /// There is a plain listener that answers HTTP-01.
    pub http_challenge: bool,
    /// Where everything is kept.
    pub storage: Arc<dyn Storage>,
    /// The way to the authority.
    pub web: Arc<dyn Web>,
}

/// The key of an account that somebody opened at the authority by other means.
#[derive(Clone)]
pub struct ExternalAccount {
    /// Key identifier.
    pub key_id: String,
    /// MAC key, decoded.
    pub mac_key: Zeroizing<Vec<u8>>,
}

/// How a TXT record is published.
#[derive(Debug, Clone)]
pub enum Dns {
    /// By dynamic update.
    Update(DnsUpdate),
    /// By a program.
    Exec(DnsExec),
}

/// Dynamic update (RFC 2136), signed by TSIG (RFC 8945).
#[derive(Clone)]
pub struct DnsUpdate {
    /// `host:port` of the primary server.
    pub server: String,
    /// Zone; found by asking the server when absent.
    pub zone: Option<String>,
    /// Signs updates; without it the server has to trust the address.
    pub key: Option<TsigKey>,
    /// Lifetime of the record.
    pub ttl: Duration,
    /// How long to wait until the server shows the record.
    pub propagation: Duration,
}

/// A shared key of a DNS server.
#[derive(Clone)]
pub struct TsigKey {
    /// Its name.
    pub name: String,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    pub algorithm: String,
    /// The key, decoded.
    pub secret: Zeroizing<Vec<u8>>,
}

/// A program that publishes records: `program args… present|cleanup <fqdn> <value>`.
#[derive(Debug, Clone)]
pub struct DnsExec {
    /// Absolute path.
    pub program: PathBuf,
    /// Arguments before ours.
    pub args: Vec<String>,
    /// Time limit of one call.
    pub timeout: Duration,
    /// Pause after `present` before the authority is told to look.
    pub propagation: Duration,
}

/// The ways to prove control of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Dns,
    Tls,
    Http,
}

impl Options {
    /// What can be tried for `name`, best first.
    pub(crate) fn methods(&self, name: &str) -> Vec<Method> {
        if self.dns.is_some() {
            return vec![Method::Dns];
        }
        let wildcard = name.starts_with("*.");
        let all = [
            (Method::Tls, self.tls_challenge),
            (Method::Http, self.http_challenge),
        ];
        let possible = all.into_iter().filter(|(_, possible)| *possible && !wildcard);
        possible.map(|(method, _)| method).collect()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("directory", &self.directory)
            .field("names", &self.names.len())
            .field("dns", &self.dns)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DnsUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsUpdate")
            .field("server", &self.server)
            .field("zone", &self.zone)
            .field("key", &self.key.as_ref().map(|key| &key.name))
            .finish_non_exhaustive()
    }
}
