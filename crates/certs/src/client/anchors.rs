//! The authorities somebody trusts: roots, or intermediates that stand for themselves.

use std::collections::BTreeMap;
use std::fmt;

use rustls::DistinguishedName;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::TrustError;

/// What a handshake can name, in bytes. A longer list is left out: then a client sends whatever it has.
const MOST_HINTS: usize = 48 * 1024;

/// A set of authorities.
#[derive(Clone)]
pub struct Anchors {
    /// By the SHA-256 of the certificate, so that equal sets are equal.
    by_id: BTreeMap<[u8; 32], Anchor>,
    /// The same in the form that path building takes.
    pub(super) trusted: Vec<TrustAnchor<'static>>,
}

#[derive(Clone)]
pub(super) struct Anchor {
    pub(super) der: CertificateDer<'static>,
    trusted: TrustAnchor<'static>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Anchors {
    /// Reads a PEM bundle. `origin` is the key it was given under, for messages.
    ///
    /// # Errors
    /// No certificate in it, or one that cannot be read: a bundle counts whole or not at all.
    pub fn read(origin: &str, pem: &[u8]) -> Result<Self, TrustError> {
        let mut by_id = BTreeMap::new();
        for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let bad = |reason: String| TrustError::BadAuthority {
                origin: origin.to_owned(),
                number: index + 1,
                reason,
            };
            let der = certificate.map_err(|error| bad(error.to_string()))?;
            let anchor = Anchor::read(der).map_err(bad)?;
            by_id.insert(Sha256::digest(&anchor.der).into(), anchor);
        }
        if by_id.is_empty() {
            return Err(TrustError::NoAuthority {
                origin: origin.to_owned(),
            });
        }
        Ok(Self::of(by_id))
    }

    fn of(by_id: BTreeMap<[u8; 32], Anchor>) -> Self {
        let trusted = by_id.values().map(|anchor| anchor.trusted.clone()).collect();
        Self { by_id, trusted }
    }

    /// How many there are; never none.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a bundle is never empty")]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The authorities of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut by_id = self.by_id.clone();
        by_id.extend(other.by_id.iter().map(|(id, anchor)| (*id, anchor.clone())));
        Self::of(by_id)
    }

    /// Whether each of `others` is one of these.
    #[must_use]
    pub fn contain(&self, others: &Self) -> bool {
        others.by_id.keys().all(|id| self.by_id.contains_key(id))
    }

    /// Their ids in order: the same for equal sets only.
    pub(super) fn ids(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.by_id.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.by_id.values()
    }

    /// The anchor that is this very certificate.
    pub(super) fn get(&self, der: &[u8]) -> Option<&Anchor> {
        self.by_id.get(<[u8; 32]>::from(Sha256::digest(der)).as_slice())
    }

    /// The anchor path building has found.
    pub(super) fn found(&self, trusted: &TrustAnchor<'_>) -> Option<&Anchor> {
        self.by_id.values().find(|anchor| {
            anchor.trusted.subject == trusted.subject
                && anchor.trusted.subject_public_key_info == trusted.subject_public_key_info
        })
    }

    /// Their subjects, for clients to choose a certificate by.
    pub(super) fn hints(&self) -> Vec<DistinguishedName> {
        let hints: Vec<_> = self
            .trusted
            .iter()
            .map(|anchor| DistinguishedName::in_sequence(&anchor.subject))
            .collect();
        let size: usize = hints.iter().map(|name| name.as_ref().len() + 2).sum();
        if size > MOST_HINTS { Vec::new() } else { hints }
    }
}

impl Anchor {
    fn read(der: CertificateDer<'static>) -> Result<Self, String> {
        let trusted = webpki::anchor_from_trusted_cert(&der)
            .map_err(|error| error.to_string())?
            .to_owned();
        let (not_before, not_after) = {
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
            let validity = parsed.validity();
            (validity.not_before.timestamp(), validity.not_after.timestamp())
        };
        Ok(Self {
            der,
            trusted,
            not_before,
            not_after,
        })
    }
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchors")
            .field("count", &self.by_id.len())
            .finish()
    }
}
