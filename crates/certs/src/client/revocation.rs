//! Revocation lists: which certificates their authority has taken back.
//!
//! Only the leaf is looked up, in the lists of its direct issuer. Partial lists (delta, indirect, for some reasons or
//! for authorities only) are refused: what they leave out would look as if it were valid.

use std::collections::HashSet;

use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{
    CertificateRevocationList, FromDer as _, ParsedExtension, SubjectPublicKeyInfo, X509Certificate,
};

use super::chain::rfc2253;
use super::verdict::Flaw;
use super::{Anchors, TrustError};

/// The lists of one configuration.
#[derive(Debug, Clone, Default)]
pub struct RevocationLists(Vec<List>);

#[derive(Debug, Clone)]
struct List {
    der: Vec<u8>,
    issuer: Vec<u8>,
    issuer_name: String,
    begins: i64,
    ends: Option<i64>,
    revoked: HashSet<Vec<u8>>,
}

/// Which signature algorithms count: not SHA-1.
const SHA1: [&str; 3] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10045.4.1"];
const DELTA: &str = "2.5.29.27";

impl RevocationLists {
    /// Reads a bundle of PEM `X509 CRL` blocks.
    ///
    /// # Errors
    /// Anything in it that is no such block, and a list that cannot be used: revoked certificates must not become
    /// valid because a list could not be read.
    pub fn read(pem: &[u8]) -> Result<Self, TrustError> {
        let mut lists = Vec::new();
        let mut rest = pem;
        while !rest.iter().all(u8::is_ascii_whitespace) {
            let number = lists.len() + 1;
            let bad = |why: &str| TrustError::BadList(format!("number {number} {why}"));
            let (after, block) = parse_x509_pem(rest).map_err(|_| {
                TrustError::BadList(format!(
                    "what follows list number {} is not PEM: every list is a block `-----BEGIN X509 CRL-----`",
                    lists.len()
                ))
            })?;
            if block.label != "X509 CRL" {
                return Err(bad(&format!(
                    "is a block of the type {}: only X509 CRL belongs here",
                    block.label
                )));
            }
            lists.push(List::read(block.contents).map_err(|why| bad(&why))?);
            rest = after;
        }
        Ok(Self(lists))
    }

    /// Checks the lists against the authorities that are known. Gives the issuers nobody knows: their lists count
    /// only for an intermediate of that name that clients send along.
    ///
    /// # Errors
    /// A list under the name of a known authority that none of that name has signed.
    pub fn check(&self, known: &Anchors) -> Result<Vec<String>, TrustError> {
        let mut strangers = Vec::new();
        for list in &self.0 {
            let mut named = known
                .iter()
                .filter_map(|anchor| X509Certificate::from_der(&anchor.der).ok())
                .map(|(_, certificate)| certificate)
                .filter(|certificate| certificate.subject().as_raw() == list.issuer)
                .peekable();
            if named.peek().is_none() {
                strangers.push(list.issuer_name.clone());
            } else if !named.any(|certificate| list.signed_by(certificate.public_key())) {
                return Err(TrustError::ForgedList {
                    issuer: list.issuer_name.clone(),
                });
            }
        }
        Ok(strangers)
    }

    /// What the lists say about `leaf`, whose issuer has the key `issuer_key` (SubjectPublicKeyInfo in DER).
    /// `dates`: at this moment, a list that is not current is worse than none.
    pub(super) fn judge(
        &self,
        leaf: &X509Certificate<'_>,
        issuer_key: &[u8],
        dates: Option<i64>,
    ) -> Result<(), Flaw> {
        let mut lists = self
            .0
            .iter()
            .filter(|list| list.issuer == leaf.issuer().as_raw())
            .peekable();
        if lists.peek().is_none() {
            return Ok(());
        }
        let (_, key) = SubjectPublicKeyInfo::from_der(issuer_key).map_err(|_| Flaw::Unreadable)?;
        let mut signed = lists.filter(|list| list.signed_by(&key)).peekable();
        // Somebody says they are lists of this issuer, and it did not sign them: which is true cannot be known.
        if signed.peek().is_none() {
            return Err(Flaw::ListForged);
        }
        let serial = significant(leaf.raw_serial());
        for list in signed {
            let current = |now: i64| list.begins <= now && list.ends.is_none_or(|ends| now <= ends);
            if dates.is_some_and(|now| !current(now)) {
                return Err(Flaw::ListOutdated);
            }
            if list.revoked.contains(serial) {
                return Err(Flaw::Revoked);
            }
        }
        Ok(())
    }

    pub(super) fn boundaries(&self) -> impl Iterator<Item = i64> {
        self.0
            .iter()
            .flat_map(|list| [Some(list.begins), list.ends.map(|ends| ends.saturating_add(1))])
            .flatten()
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|list| list.der.as_slice())
    }
}

impl List {
    fn read(der: Vec<u8>) -> Result<Self, String> {
        let (rest, list) = CertificateRevocationList::from_der(&der)
            .map_err(|error| format!("cannot be read as a revocation list: {error}"))?;
        if !rest.is_empty() {
            return Err("has data after the revocation list".into());
        }
        for extension in list.extensions() {
            match extension.parsed_extension() {
                _ if extension.oid.to_id_string() == DELTA => {
                    return Err("is a delta list: give the full one".into());
                }
                ParsedExtension::IssuingDistributionPoint(point)
                    if point.indirect_crl
                        || point.only_some_reasons.is_some()
                        || point.only_contains_ca_certs
                        || point.only_contains_attribute_certs =>
                {
                    return Err("is only about some certificates or some reasons: give the full list".into());
                }
                ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. }
                    if extension.critical =>
                {
                    return Err(format!(
                        "has a critical extension that is not understood: {}",
                        extension.oid
                    ));
                }
                _ => {}
            }
        }
        Ok(Self {
            issuer: list.issuer().as_raw().to_vec(),
            issuer_name: rfc2253(list.issuer()),
            begins: list.last_update().timestamp(),
            ends: list.next_update().map(|ends| ends.timestamp()),
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| significant(entry.raw_serial()).to_vec())
                .collect(),
            der,
        })
    }

    fn signed_by(&self, key: &SubjectPublicKeyInfo<'_>) -> bool {
        CertificateRevocationList::from_der(&self.der).is_ok_and(|(_, list)| {
            !SHA1.contains(&list.signature_algorithm.algorithm.to_id_string().as_str())
                && list.verify_signature(key).is_ok()
        })
    }
}

/// A serial number without the zeros some put in front of it.
fn significant(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros..]
}
