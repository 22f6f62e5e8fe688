//! Making certificates: the parts the two authorities share.

use std::net::IpAddr;

use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::error::CertError;
use crate::load::{LoadedCertificate, load_pair};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The library that writes certificates refused.
    #[error("the certificate could not be made: {0}")]
    Refused(#[from] rcgen::Error),
    /// A date that certificates cannot hold.
    #[error("the date {0} (unix seconds) does not fit a certificate")]
    Date(i64),
    /// What was made does not load; not expected.
    #[error("the certificate that was made does not load: {0}")]
    Unusable(#[from] CertError),
}

/// From when to when, unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Period {
    pub from: i64,
    pub until: i64,
}

fn date(unix: i64) -> Result<OffsetDateTime, MakeError> {
    OffsetDateTime::from_unix_timestamp(unix).map_err(|_| MakeError::Date(unix))
}

/// `O=Pomerium`, and a common name where one is wanted.
fn subject(common_name: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, text("Pomerium"));
    if let Some(common_name) = common_name {
        name.push(DnType::CommonName, text(common_name));
    }
    name
}

/// As the original writes it. The name of an issuer is looked for byte by byte, so that the same text in another encoding would
/// be another issuer.
fn text(text: &str) -> DnValue {
    PrintableString::try_from(text)
        .map_or_else(|_| DnValue::Utf8String(text.to_owned()), DnValue::PrintableString)
}

/// What an authority of ours looks like. It may sign leaves, no further authorities.
pub(crate) fn authority_params(common_name: &str, period: Period) -> Result<CertificateParams, MakeError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(Some(common_name));
    params.not_before = date(period.from)?;
    params.not_after = date(period.until)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Issues a server certificate for `names` (DNS names or addresses) with a fresh P-256 key.
pub(crate) fn issue(
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    period: Period,
    origin: &str,
) -> Result<LoadedCertificate, MakeError> {
    let (chain, key) = issue_pem(issuer, names, period, ExtendedKeyUsagePurpose::ServerAuth)?;
    Ok(load_pair(origin, chain.as_bytes(), key.as_bytes())?)
}

/// The same as PEM: certificate and key.
pub(crate) fn issue_pem(
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    period: Period,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, Zeroizing<String>), MakeError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(None);
    params.not_before = date(period.from)?;
    params.not_after = date(period.until)?;
    params.subject_alt_names = names
        .iter()
        .map(|name| alternative(name))
        .collect::<Result<_, _>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

fn alternative(name: &str) -> Result<SanType, rcgen::Error> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}

/// A key from PKCS #8 DER.
pub(crate) fn key_from_pkcs8(der: &[u8]) -> Result<KeyPair, MakeError> {
    Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(der))?)
}
