//! User certificates: who signed one, for whom, for how long, under which conditions.

use std::net::IpAddr;

use jiff::Timestamp;

use super::key::{Material, PublicKey, certified_kind};
use super::signature;
use super::wire::Reader;
use crate::criteria::network;

/// The type of a certificate for people.
const USER: u32 = 1;

/// A certificate whose form is right; nothing in it is believed yet.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    kind: u32,
    principals: Vec<&'a str>,
    valid_after: u64,
    valid_before: u64,
    critical_options: Vec<(&'a str, &'a [u8])>,
    authority: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(super) fn read(blob: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(blob)?;
        let kind = certified_kind(reader.text()?)?;
        let _nonce = reader.string()?;
        Material::read(kind, &mut reader)?;
        let _serial = reader.u64()?;
        let kind = reader.u32()?;
        let _key_id = reader.string()?;
        let principals = principals(reader.string()?)?;
        let (valid_after, valid_before) = (reader.u64()?, reader.u64()?);
        let critical_options = tuples(reader.string()?)?;
        tuples(reader.string()?)?;
        let _reserved = reader.string()?;
        let authority = reader.string()?;
        let signed = &blob[..blob.len() - reader.rest().len()];
        let signature = reader.string()?;
        reader.is_empty().then_some(Self {
            kind,
            principals,
            valid_after,
            valid_before,
            critical_options,
            authority,
            signed,
            signature,
        })
    }
}

/// The names a certificate is for. An empty name, or one with a control character, is no name of an account.
fn principals(packed: &[u8]) -> Option<Vec<&str>> {
    let mut reader = Reader::new(packed)?;
    let mut names = Vec::new();
    while !reader.is_empty() {
        let name = reader.text()?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return None;
        }
        names.push(name);
    }
    Some(names)
}

/// Names with data; sorted, each once.
fn tuples(packed: &[u8]) -> Option<Vec<(&str, &[u8])>> {
    let mut reader = Reader::new(packed)?;
    let mut tuples: Vec<(&str, &[u8])> = Vec::new();
    while !reader.is_empty() {
        let name = reader.text()?;
        if tuples.last().is_some_and(|(last, _)| *last >= name) {
            return None;
        }
        tuples.push((name, reader.string()?));
    }
    Some(tuples)
}

/// What a certificate is held against.
#[derive(Debug, Clone, Copy)]
pub struct CertificateCheck<'a> {
    /// Name to log in as.
    pub principal: &'a str,
    /// When.
    pub now: Timestamp,
    /// Where from; unknown meets no condition on it.
    pub address: Option<IpAddr>,
}

/// Why a certificate does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// Not a certificate, or one of odd form.
    #[error("not an OpenSSH certificate of a form that is understood")]
    Malformed,
    /// Of a host.
    #[error("not a certificate for users")]
    NotForUsers,
    /// No listed authority signed it.
    #[error("signed by an authority that is not listed")]
    UnknownAuthority,
    /// It is not what the authority signed.
    #[error("the signature does not verify")]
    BadSignature,
    /// Too early.
    #[error("not valid yet")]
    NotYetValid,
    /// Too late.
    #[error("expired")]
    Expired,
    /// For other names.
    #[error("not for this user name")]
    OtherPrincipal,
    /// From elsewhere.
    #[error("not valid from this address (critical option source-address)")]
    OtherAddress,
    /// A condition that is not understood, and must not be ignored.
    #[error("has a critical option that is not understood")]
    CriticalOption,
}

/// Checks that `blob` is a user certificate that one of `authorities` signed and that counts here and now. It counts
/// for every name when it lists none. The critical option `source-address` is obeyed; any other is refused, because
/// what it demands happens elsewhere.
///
/// Errors with the first thing that is wrong with it.
pub fn check_user_certificate(
    blob: &[u8],
    authorities: &[PublicKey],
    check: CertificateCheck<'_>,
) -> Result<(), CertificateProblem> {
    let certificate = Certificate::read(blob).ok_or(CertificateProblem::Malformed)?;
    if certificate.kind != USER {
        return Err(CertificateProblem::NotForUsers);
    }
    let listed = authorities
        .iter()
        .any(|authority| !authority.is_certificate() && authority.blob() == certificate.authority);
    if !listed {
        return Err(CertificateProblem::UnknownAuthority);
    }
    let authority = Material::of_blob(certificate.authority).ok_or(CertificateProblem::UnknownAuthority)?;
    if !signature::verifies(&authority, certificate.signed, certificate.signature) {
        return Err(CertificateProblem::BadSignature);
    }
    certificate.counts_at(check.now)?;
    let for_all = certificate.principals.is_empty() && !check.principal.is_empty();
    if !for_all && !certificate.principals.contains(&check.principal) {
        return Err(CertificateProblem::OtherPrincipal);
    }
    certificate.conditions_met(check.address)
}

impl Certificate<'_> {
    /// The largest number stands for no end; beside it, nothing beyond what a clock can show is a date.
    fn counts_at(&self, now: Timestamp) -> Result<(), CertificateProblem> {
        let now = u64::try_from(now.as_second()).map_err(|_| CertificateProblem::NotYetValid)?;
        if now < self.valid_after {
            return Err(CertificateProblem::NotYetValid);
        }
        let endless = self.valid_before == u64::MAX;
        if !endless && (now >= self.valid_before || i64::try_from(self.valid_before).is_err()) {
            return Err(CertificateProblem::Expired);
        }
        Ok(())
    }

    fn conditions_met(&self, address: Option<IpAddr>) -> Result<(), CertificateProblem> {
        for (name, data) in &self.critical_options {
            if *name != "source-address" {
                return Err(CertificateProblem::CriticalOption);
            }
            let networks = source_addresses(data).ok_or(CertificateProblem::CriticalOption)?;
            if !address.is_some_and(|address| networks.contain(address)) {
                return Err(CertificateProblem::OtherAddress);
            }
        }
        Ok(())
    }
}

/// The networks of the option: one packed text, separated by commas. One that cannot be read spoils all.
fn source_addresses(data: &[u8]) -> Option<network::Networks> {
    let mut reader = Reader::new(data)?;
    let list = reader.text().filter(|_| reader.is_empty())?;
    let networks: Result<_, _> = list.split(',').map(network::parse).collect();
    networks.ok().map(network::Networks)
}
