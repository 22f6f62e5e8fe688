//! `KeyPair` records: certificates, keys, and whatever else is PEM or a token, named by id in other records.

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};
use x509_parser::prelude::FromDer as _;

use super::{CertificateRecord, Fault};
use crate::settings::Secret;
use crate::spec::base64_std;

/// By id.
#[derive(Debug, Default)]
pub(super) struct KeyPairs(BTreeMap<String, KeyPair>);

/// One of them; its parts are base64, as options of a file are.
#[derive(Debug, Default)]
pub(super) struct KeyPair {
    certificate: Option<String>,
    key: Option<Secret>,
}

impl KeyPairs {
    pub(super) fn insert(&mut self, id: String, message: &Map<String, Value>) {
        let text = |name: &str| {
            let text = message.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty())
        };
        let pair = KeyPair {
            certificate: text("certificate").map(str::to_owned),
            key: text("key").map(|key| Secret::new(key.as_bytes())),
        };
        self.0.insert(id, pair);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &KeyPair)> {
        self.0.iter()
    }

    /// The pair that `field` names.
    pub(super) fn get(&self, field: &str, id: &str) -> Result<&KeyPair, Fault> {
        self.0.get(id).ok_or_else(|| {
            let why = format!("there is no key pair with the id {id:?}: add it, or name another one");
            Fault::of(field, why)
        })
    }
}

impl KeyPair {
    /// Its certificates, base64 of PEM, for the field that names it.
    pub(super) fn certificate(&self, field: &str) -> Result<String, Fault> {
        let certificate = self.certificate.clone();
        certificate.ok_or_else(|| Fault::of(field, "the key pair has no certificate"))
    }

    /// Its key, base64 of PEM or of a token.
    pub(super) fn key(&self, field: &str) -> Result<String, Fault> {
        let missing = || Fault::of(field, "the key pair has no key");
        let key = self.key.as_ref().ok_or_else(missing)?;
        String::from_utf8(key.expose().to_vec()).map_err(|_| missing())
    }

    /// Its key as plain text.
    pub(super) fn token(&self, field: &str) -> Result<String, Fault> {
        let bad = || Fault::of(field, "the key of the key pair is no text");
        let bytes = base64_std(&self.key(field)?).map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        Ok(text.trim().to_owned())
    }

    /// The certificate, when it says that it is for servers; `None` for authorities, keys and what is for clients.
    pub(super) fn to_serve(&self, id: &str) -> Result<Option<CertificateRecord>, Fault> {
        let (Some(_), Some(_)) = (&self.certificate, &self.key) else {
            return Ok(None);
        };
        let served = self.served(&format!("KeyPair {id}"), "")?;
        Ok(Some(served).filter(|served| is_for_servers(&served.chain)))
    }

    /// Certificate and key for listeners, named by `field` of another record or by none.
    pub(super) fn served(&self, record: &str, field: &str) -> Result<CertificateRecord, Fault> {
        let part = |name: &str, text: String| {
            let field = if field.is_empty() { name } else { field };
            base64_std(&text).map_err(|_| Fault::of(field, "it is not base64"))
        };
        Ok(CertificateRecord {
            record: record.to_owned(),
            chain: part("certificate", self.certificate(field)?)?,
            key: Secret::new(part("key", self.key(field)?)?),
        })
    }
}

/// Whether the first certificate says that it is for servers.
fn is_for_servers(pem: &[u8]) -> bool {
    let Some(Ok(leaf)) = CertificateDer::pem_slice_iter(pem).next() else {
        // Told where it is looked at as a whole.
        return true;
    };
    let Ok((_, leaf)) = x509_parser::certificate::X509Certificate::from_der(&leaf) else {
        return true;
    };
    let usage = leaf.extended_key_usage().ok().flatten();
    usage.is_some_and(|usage| usage.value.server_auth || usage.value.any)
}
