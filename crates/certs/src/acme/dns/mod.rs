//! DNS-01: a TXT record that only somebody with a say in the zone can publish (RFC 8555 section 8.4).
//!
//! Two ways: [`update`] speaks to the server itself, [`exec`] runs a program for every provider that has an API of its
//! own.

mod exec;
mod message;
mod tsig;
mod update;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pomerium_api::clock::Clock;

use super::options::Dns;

/// The label below the name that is proven.
const LABEL: &str = "_acme-challenge";

/// A record that is to be seen.
#[derive(Debug, Clone)]
pub(crate) struct TxtRecord {
    /// Its name, without a dot at the end.
    pub fqdn: String,
    /// Its value.
    pub value: String,
}

/// Why a record is not there.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The server's address.
    #[error("autocert_dns: the server {server} cannot be reached: {reason}")]
    Unreachable {
        /// As configured.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The server said no.
    #[error("autocert_dns: the server {server} refused: {reason}")]
    Refused {
        /// As configured.
        server: String,
        /// Its words, or what they mean.
        reason: String,
    },
    /// An answer that is none.
    #[error("autocert_dns: the server {server} answered with something that cannot be believed: {reason}")]
    Nonsense {
        /// As configured.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name or a key that cannot be used.
    #[error("autocert_dns: {0}")]
    Setting(String),
    /// The record did not show in time.
    #[error(
        "autocert_dns: the server did not show the record within {0} s; raise `propagation` if it needs longer"
    )]
    NotShown(u64),
    /// The program failed.
    #[error("autocert_dns: the program {program} {what}")]
    Program {
        /// Its path.
        program: String,
        /// How it ended, with the end of what it wrote.
        what: String,
    },
}

impl TxtRecord {
    /// For the proof of `name`, which may be a wildcard.
    pub(crate) fn proving(name: &str, value: String) -> Self {
        let base = name.strip_prefix("*.").unwrap_or(name);
        Self {
            fqdn: format!("{LABEL}.{base}"),
            value,
        }
    }
}

/// Publishes the record and waits until it can be seen.
pub(crate) async fn present(dns: &Dns, record: &TxtRecord, clock: &Arc<dyn Clock>) -> Result<(), DnsError> {
    match dns {
        Dns::Update(settings) => update::present(settings, record, clock).await,
        Dns::Exec(settings) => exec::present(settings, record).await,
    }
}

/// Takes the record away again. A failure is logged: the record does no harm.
pub(crate) async fn clean(dns: &Dns, record: &TxtRecord, clock: &Arc<dyn Clock>) {
    let cleaned = match dns {
        Dns::Update(settings) => update::clean(settings, record, clock).await,
        Dns::Exec(settings) => exec::clean(settings, record).await,
    };
    if let Err(error) = cleaned {
        tracing::warn!(%error, record = record.fqdn, "autocert: the record of a challenge stays behind");
    }
}
