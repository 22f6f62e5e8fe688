//! Why there is no connection over TLS, in words that say what to do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Error;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, SignatureScheme};

/// Said of a server that wants a certificate of a process that has none to show.
const WANTED: &str =
    "it asks for a certificate of this process, which shows none: set `grpc_mutual_tls: true`";

/// Shows no certificate, and notes that one was asked for: the refusal itself often gets lost with the connection.
#[derive(Debug, Default)]
pub struct Unprepared(AtomicBool);

impl Unprepared {
    /// `text`, and what is known to be behind it.
    pub fn explained(&self, text: String) -> String {
        match self.0.load(Ordering::Relaxed) {
            true => format!("{text}; {WANTED}"),
            false => text,
        }
    }
}

impl ResolvesClientCert for Unprepared {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What ended a handshake, with what to do about it where that is known.
pub fn of_handshake(error: io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let advice = inner.and_then(advice);
    let error = Error::from(error);
    match advice {
        Some(advice) => error.context(format!("TLS ({advice})")),
        None => error.context("TLS"),
    }
}

fn advice(error: &rustls::Error) -> Option<&'static str> {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    match error {
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("`override_certificate_name`, or `--server-name`, says which name its certificate is for"),
        InvalidCertificate(CertificateError::UnknownIssuer) => Some(
            "with `tls_derive` it must have the same shared secret; another authority goes into `certificate_authority_file`",
        ),
        AlertReceived(AlertDescription::CertificateRequired) => Some(WANTED),
        AlertReceived(
            AlertDescription::BadCertificate | AlertDescription::UnknownCA | AlertDescription::DecryptError,
        ) => Some("it does not take the certificate of this process; do both have the same shared secret?"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_be_wrong_is_said_with_what_to_do() {
        let said = |error: rustls::Error| format!("{:#}", of_handshake(io::Error::other(error)));
        let name = said(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName,
        ));
        assert!(name.contains("override_certificate_name"), "{name}");
        let wanted = said(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired,
        ));
        assert!(wanted.contains("grpc_mutual_tls"), "{wanted}");
        let other = said(rustls::Error::DecryptError);
        assert!(other.starts_with("TLS: "), "{other}");
    }

    #[test]
    fn a_certificate_that_was_asked_for_is_remembered() {
        let unprepared = Unprepared::default();
        assert_eq!(unprepared.explained("closed".into()), "closed");
        assert!(unprepared.resolve(&[], &[]).is_none());
        let said = unprepared.explained("closed".into());
        assert!(
            said.starts_with("closed; ") && said.contains("grpc_mutual_tls"),
            "{said}"
        );
    }
}
