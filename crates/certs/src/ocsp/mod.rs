//! The status of our own certificates, stapled into handshakes (RFC 6960, RFC 6066 section 8).
//!
//! [`Subject`] is a certificate that can be asked about, [`Staple`] a verified answer, [`fetch`] the way from one to the
//! other. A status is used only when the issuer, or a responder that the issuer has charged with it, signed it, and only
//! in its time.

mod asn1;
mod verify;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use der::Encode as _;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::web::{Web, WebError};

/// The largest answer of a responder, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// id-ad-ocsp.
const RESPONDER: &str = "1.3.6.1.5.5.7.48.1";

/// Why there is no staple.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Nobody to ask.
    #[error("the certificate names no responder")]
    NoResponder,
    /// The issuer is not in the chain.
    #[error("the chain does not hold the issuer of the certificate")]
    NoIssuer,
    /// Something is not the ASN.1 it should be.
    #[error("what was read is malformed: {0}")]
    Malformed(String),
    /// No answer.
    #[error("the responder cannot be asked: {0}")]
    Unreachable(#[from] WebError),
    /// An HTTP status.
    #[error("the responder answers with HTTP status {0}")]
    Http(u16),
    /// OCSP's own refusals: malformed request, internal error, try later, …
    #[error("the responder does not answer (response status {0})")]
    NoAnswer(u8),
    /// About another certificate.
    #[error("the answer is about another certificate")]
    OtherCertificate,
    /// Not by the issuer, nor by somebody it charged with it.
    #[error("the answer is not signed by the issuer or a responder it has charged with it")]
    Signature,
    /// Not yet, or no longer.
    #[error("the answer is not valid at this time; is the clock right?")]
    OutOfTime,
    /// The responder does not know the certificate.
    #[error("the responder does not know the certificate")]
    Unknown,
}

/// A certificate with its issuer.
#[derive(Debug, Clone)]
pub struct Subject {
    responder: String,
    id: asn1::CertId,
    issuer: CertificateDer<'static>,
}

/// A verified answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// The whole response, as it goes into handshakes.
    pub der: Vec<u8>,
    /// Whether the certificate has been revoked.
    pub revoked: bool,
    /// From when, unix seconds.
    pub this_update: i64,
    /// Until when, unix seconds.
    pub next_update: i64,
}

impl Subject {
    /// Of the first certificate of a chain whose second is its issuer.
    ///
    /// # Errors
    /// The issuer is missing, or no responder is named: both are common and no fault.
    pub fn of(chain: &[CertificateDer<'static>]) -> Result<Self, OcspError> {
        let [leaf, issuer, ..] = chain else {
            return Err(OcspError::NoIssuer);
        };
        let malformed = |error: x509_parser::nom::Err<_>| OcspError::Malformed(error.to_string());
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(malformed)?;
        let (_, parsed_issuer) = X509Certificate::from_der(issuer).map_err(malformed)?;
        if parsed.issuer() != parsed_issuer.subject() {
            return Err(OcspError::NoIssuer);
        }
        Ok(Self {
            responder: responder(&parsed).ok_or(OcspError::NoResponder)?,
            id: asn1::CertId::of(&parsed, &parsed_issuer)?,
            issuer: issuer.clone().into_owned(),
        })
    }

    /// Reads and verifies a response about this certificate.
    ///
    /// # Errors
    /// It cannot be used, see [`OcspError`].
    pub fn verify(&self, response: &[u8], now_unix: i64) -> Result<Staple, OcspError> {
        verify::verify(self, response, now_unix)
    }
}

impl Staple {
    /// When a new one should be asked for: in the middle of its time.
    #[must_use]
    pub fn refresh_at(&self) -> i64 {
        self.this_update + self.next_update.saturating_sub(self.this_update) / 2
    }

    /// Whether it may still be shown.
    #[must_use]
    pub fn is_current(&self, now_unix: i64) -> bool {
        now_unix < self.next_update
    }
}

/// Asks the responder that the certificate names.
///
/// # Errors
/// No answer, or none that can be used.
pub async fn fetch(web: &dyn Web, subject: &Subject, now_unix: i64) -> Result<Staple, OcspError> {
    let malformed = |error: &dyn std::fmt::Display| OcspError::Malformed(error.to_string());
    let question = asn1::OcspRequest::about(subject.id.clone());
    let question = question.to_der().map_err(|error| malformed(&error))?;
    let request = Request::post(&subject.responder)
        .header(CONTENT_TYPE, "application/ocsp-request")
        .header(ACCEPT, "application/ocsp-response")
        .body(Bytes::from(question))
        .map_err(|error| malformed(&error))?;
    let answer = web.send(request, MAX_ANSWER).await?;
    if answer.status() != 200 {
        return Err(OcspError::Http(answer.status().as_u16()));
    }
    subject.verify(answer.body(), now_unix)
}

fn responder(certificate: &X509Certificate<'_>) -> Option<String> {
    let access =
        certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityInfoAccess(access) => Some(access),
                _ => None,
            })?;
    access
        .accessdescs
        .iter()
        .filter(|description| description.access_method.to_id_string() == RESPONDER)
        .find_map(|description| match description.access_location {
            GeneralName::URI(uri) if uri.starts_with("http://") || uri.starts_with("https://") => {
                Some(uri.to_owned())
            }
            _ => None,
        })
}
