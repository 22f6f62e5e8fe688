//! Certificates that come from the shared secret alone, so that a missing certificate never stops a start
//! and services of one cluster can trust each other without files (spec proxy.md 1.3, config.md 8.4).

use std::collections::HashMap;

use parking_lot::Mutex;
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
    /// By name: what [`Self::standing`] issued.
    standing: Mutex<HashMap<String, LoadedCertificate>>,
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
            standing: Mutex::default(),
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

    /// The server certificate for `name`, the same one for as long as this process runs: whoever has told a browser to go
    /// on in spite of it is not asked again at every change of the configuration. `origin` is for messages.
    ///
    /// # Errors
    /// [`MakeError`] when the name does not fit a certificate.
    pub fn standing(&self, origin: &str, name: &str) -> Result<LoadedCertificate, MakeError> {
        let mut standing = self.standing.lock();
        if let Some(certificate) = standing.get(name) {
            return Ok(certificate.clone());
        }
        let certificate = self.issue(origin, &[name.to_owned()])?;
        standing.insert(name.to_owned(), certificate.clone());
        Ok(certificate)
    }

    /// The certificate for `*` that stands at the end of the list when there is no other, or with `tls_derive`; see
    /// [`Self::standing`]. Browsers warn about it, as they should.
    ///
    /// # Errors
    /// [`MakeError`]; not expected.
    pub fn catch_all(&self) -> Result<LoadedCertificate, MakeError> {
        self.standing("the generated certificate", "*")
    }

    /// A certificate, with a fresh key, by which a service or a tool of this installation shows a service that it belongs to
    /// it: both in PEM.
    ///
    /// # Errors
    /// [`MakeError`]; not expected.
    pub fn client_pem(&self) -> Result<(String, Zeroizing<String>), MakeError> {
        make::issue_pem(&self.issuer, &[], PERIOD, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

impl std::fmt::Debug for DerivedAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DerivedAuthority").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::pem::parse_x509_pem;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;
    use crate::load::Validity;

    /// A server certificate that Pomerium 0.32.9 derived from the bytes 0 to 31.
    const OF_THE_ORIGINAL: &str = "\
-----BEGIN CERTIFICATE-----
MIIBtTCCAVqgAwIBAgIQLAzGEm+yjHQZaGWRzTuQ7DAKBggqhkjOPQQDAjAtMREw
DwYDVQQKEwhQb21lcml1bTEYMBYGA1UEAxMPUG9tZXJpdW0gUFNLIENBMCAXDTIy
MTIwMTAwMDAwMFoYDzIwNTAxMjAxMDAwMDAwWjATMREwDwYDVQQKEwhQb21lcml1
bTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIQCSNJAMczDZGrktlV8qlrTfM1A
g6LP1elc5AGCRueB72G+ZAg0Wgn13yd8xTmFwQIQFYGCdRiqZ6M6m7NzrgyjdDBy
MA4GA1UdDwEB/wQEAwIHgDATBgNVHSUEDDAKBggrBgEFBQcDATAfBgNVHSMEGDAW
gBSrUQTgstTlPf3RA5ml5kKjMMD0NDAqBgNVHREEIzAhgh9kYXRhYnJva2VyLmlu
dGVybmFsLmV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0kAMEYCIQDK9Qgwibvy4+sN
BoD4o1OqbQeiwz3WwXH7Eq3hXSh2lAIhAJNp3WOgQhV/cPRVZiglJ5d4x83MdPJI
N1poi6ST8uL9
-----END CERTIFICATE-----";

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

    /// What the original issues with the same secret is trusted here, and what is issued here is trusted there: the names
    /// of the authority are the same bytes, and so is its key.
    #[test]
    fn the_authority_is_that_of_the_original() {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        let ours = DerivedAuthority::new(&secret).unwrap();
        let (_, authority) = X509Certificate::from_der(ours.certificate.der()).unwrap();
        let (_, pem) = parse_x509_pem(OF_THE_ORIGINAL.as_bytes()).unwrap();
        let leaf = pem.parse_x509().unwrap();
        assert_eq!(leaf.issuer().as_raw(), authority.subject().as_raw());
        leaf.verify_signature(Some(authority.public_key())).unwrap();
        let issued = ours
            .issue("test", &["databroker.internal.example.com".into()])
            .unwrap();
        let (_, issued) = X509Certificate::from_der(&issued.chain()[0]).unwrap();
        assert_eq!(issued.issuer().as_raw(), leaf.issuer().as_raw());
    }

    #[test]
    fn the_catch_all_is_for_a_star_and_long_lived() {
        let authority = DerivedAuthority::new(&[1; 32]).unwrap();
        let certificate = authority.catch_all().unwrap();
        assert_eq!(authority.catch_all().unwrap().chain(), certificate.chain());
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
