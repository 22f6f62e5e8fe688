//! Reading the files that options name, and base64 that options hold.

use std::io::Read as _;
use std::path::Path;

use super::Cx;

/// Largest referenced file, bytes.
const MAX_REFERENCED: u64 = 5 << 20;

/// How base64 of `-----BEGIN ` begins.
const PEM_IN_BASE64: &str = "LS0tLS1CRUdJTi";

impl Cx<'_> {
    /// Reads a file and watches it from now on, also when it cannot be read yet.
    pub(super) fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        // Not repeated: it may be a key.
        if path.contains("-----BEGIN") || path.starts_with(PEM_IN_BASE64) {
            return Err("PEM text stands where the path of a file belongs".into());
        }
        let path = Path::new(path);
        self.watched.push(path.to_path_buf());
        let describe = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(describe)?;
        let mut bytes = Vec::new();
        file.take(MAX_REFERENCED + 1)
            .read_to_end(&mut bytes)
            .map_err(describe)?;
        if bytes.len() as u64 > MAX_REFERENCED {
            return Err(format!(
                "{}: larger than {} MiB",
                path.display(),
                MAX_REFERENCED >> 20
            ));
        }
        Ok(bytes)
    }

    /// Reads a text file.
    pub(super) fn read_text(&mut self, path: &str) -> Result<String, String> {
        String::from_utf8(self.read(path)?).map_err(|_| format!("{path}: not UTF-8 text"))
    }
}

/// What is wrong with a bundle of trust anchors; nothing when every block is a certificate and there is one.
pub(super) fn certificates_problem(pem: &[u8]) -> Option<String> {
    use rustls_pki_types::pem::PemObject as _;
    use x509_parser::prelude::FromDer as _;
    let mut found = 0;
    for certificate in rustls_pki_types::CertificateDer::pem_slice_iter(pem) {
        let Ok(certificate) = certificate else {
            return Some("a PEM block cannot be read".into());
        };
        let parsed = x509_parser::certificate::X509Certificate::from_der(&certificate);
        if !parsed.is_ok_and(|(rest, _)| rest.is_empty()) {
            return Some("a PEM block is no X.509 certificate".into());
        }
        found += 1;
    }
    (found == 0).then(|| "no certificate found in the PEM text".into())
}

/// Whether any certificate is in a PEM bundle.
pub(super) fn has_certificate(pem: &[u8]) -> bool {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::pem_slice_iter(pem).any(|certificate| certificate.is_ok())
}
