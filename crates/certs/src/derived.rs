//! Certificates that come from the shared secret alone, so that a missing certificate never stops a start
//! and services of one cluster can trust each other without files (spec proxy.md 1.3, config.md 8.4).

use pomerium_crypto::kdf;
use rcgen::{Certificate, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use zeroize::Zeroizing;

use crate::load::LoadedCertificate;
use crate::make::{self, MakeError, Period, authority_params, key_from_pkcs8};

const COMMON_NAME: &str = "Pomerium PSK CA";
/// 2022-12-01 to 2050-12-01, UTC: the same in every process, whatever its clock says.
const PERIOD: Period = Period {
    from: 1_669_852_800,
    until: 2_553_465_600,
};

/// The authority that every process with the same shared secret has.
pub struct DerivedAuthority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl DerivedAuthority {
    /// Derives it. The key and the name are the same each time, the signature on its own certificate is not:
    /// whoever trusts one such certificate trusts what every process issues.
    ///
    /// # Errors
    /// [`MakeError`]; not expected.
    pub fn new(shared: &[u8; 32]) -> Result<Self, MakeError> {
        let key = key_from_pkcs8(&kdf::authority_pkcs8(shared))?;
        let params = authority_params(COMMON_NAME, PERIOD)?;
        Ok(Self {
            certificate: params.self_signed(&key)?,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate in PEM, for a pool of trusted roots.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.certificate.pem()
    }

    /// Issues a server certificate for `names` with a fresh key; `origin` is for messages.
    ///
    /// # Errors
    /// [`MakeError`] when a name does not fit a certificate.
    pub fn issue(&self, origin: &str, names: &[String]) -> Result<LoadedCertificate, MakeError> {
        make::issue(&self.issuer, names, PERIOD, origin)
    }

    /// A certificate, with a fresh key, by which a service of this installation shows another one that it belongs to it.
    ///
    /// # Errors
    /// [`MakeError`]; not expected.
    pub(crate) fn client_pem(&self) -> Result<(String, Zeroizing<String>), MakeError> {
        make::issue_pem(&self.issuer, &[], PERIOD, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

impl std::fmt::Debug for DerivedAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DerivedAuthority").finish_non_exhaustive()
    }
}

/// The certificate for `*` that stands at the end of the list when there is no other, or with `tls_derive`.
/// Browsers warn about it, as they should.
///
/// # Errors
/// [`MakeError`]; not expected.
pub fn catch_all(shared: &[u8; 32]) -> Result<LoadedCertificate, MakeError> {
    DerivedAuthority::new(shared)?.issue("the generated certificate", &["*".to_owned()])
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;
    use crate::load::Validity;

    fn authority_key(authority: &DerivedAuthority) -> Vec<u8> {
        X509Certificate::from_der(authority.certificate.der())
            .unwrap()
            .1
            .public_key()
            .raw
            .to_vec()
    }

    #[test]
    fn the_secret_decides_the_authority() {
        let one = DerivedAuthority::new(&[1; 32]).unwrap();
        assert_eq!(
            authority_key(&one),
            authority_key(&DerivedAuthority::new(&[1; 32]).unwrap())
        );
        assert_ne!(
            authority_key(&one),
            authority_key(&DerivedAuthority::new(&[2; 32]).unwrap())
        );
    }

    #[test]
    fn the_catch_all_is_for_a_star_and_long_lived() {
        let certificate = catch_all(&[1; 32]).unwrap();
        assert_eq!(certificate.names(), ["*"]);
        assert_eq!(
            (certificate.not_before(), certificate.not_after()),
            (PERIOD.from, PERIOD.until)
        );
        assert_eq!(certificate.validity(1_700_000_000), Validity::Good);
        let (_, leaf) = X509Certificate::from_der(&certificate.chain()[0]).unwrap();
        assert_eq!(leaf.issuer().to_string(), "O=Pomerium, CN=Pomerium PSK CA");
        assert!(leaf.extended_key_usage().unwrap().unwrap().value.server_auth);
        let other_process = DerivedAuthority::new(&[1; 32]).unwrap();
        let (_, ca) = X509Certificate::from_der(other_process.certificate.der()).unwrap();
        leaf.verify_signature(Some(ca.public_key())).unwrap();
        let stranger = DerivedAuthority::new(&[2; 32]).unwrap();
        let (_, ca) = X509Certificate::from_der(stranger.certificate.der()).unwrap();
        assert!(leaf.verify_signature(Some(ca.public_key())).is_err());
    }

    #[test]
    fn debug_output_holds_no_key() {
        assert_eq!(
            format!("{:?}", DerivedAuthority::new(&[1; 32]).unwrap()),
            "DerivedAuthority { .. }"
        );
    }
}
