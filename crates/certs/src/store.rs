//! Which certificate a handshake gets (spec proxy.md 1.3).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::load::LoadedCertificate;

/// The server certificates in use. They can be exchanged while connections are open.
pub struct CertStore {
    chosen: ArcSwap<Choice>,
}

#[derive(Default)]
struct Choice {
    all: Vec<LoadedCertificate>,
    exact: HashMap<String, Slot>,
    /// Under the name without its `*.`.
    wildcard: HashMap<String, Slot>,
}

/// The certificates for one name: at most one of each class.
#[derive(Default)]
struct Slot {
    /// ECDSA, Ed25519: smaller and much faster for the server.
    modern: Option<Arc<CertifiedKey>>,
    rsa: Option<Arc<CertifiedKey>>,
}

impl CertStore {
    /// A store with `certificates` in their order of precedence. With an empty list every handshake fails;
    /// [`DerivedAuthority::catch_all`](crate::DerivedAuthority::catch_all) is there to prevent that.
    #[must_use]
    pub fn new(certificates: Vec<LoadedCertificate>) -> Self {
        Self {
            chosen: ArcSwap::from_pointee(Choice::of(certificates)),
        }
    }

    /// Exchanges all certificates. Open connections stay as they are.
    pub fn swap(&self, certificates: Vec<LoadedCertificate>) {
        self.chosen.store(Arc::new(Choice::of(certificates)));
    }

    /// The certificates in use, in order.
    #[must_use]
    pub fn certificates(&self) -> Vec<LoadedCertificate> {
        self.chosen.load().all.clone()
    }

    /// The certificate for `server_name` and what the client can check: the exact name, else the name with
    /// its first label replaced by `*`, else the first of the list. `None` only when the store is empty.
    #[must_use]
    pub fn choose(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let choice = self.chosen.load();
        server_name
            .and_then(|name| choice.by_name(&name.to_ascii_lowercase()))
            .and_then(|slot| slot.pick(schemes))
            .or_else(|| choice.first(schemes))
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(client_hello.server_name(), client_hello.signature_schemes())
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertStore")
            .field("certificates", &self.chosen.load().all)
            .finish()
    }
}

impl Choice {
    fn of(certificates: Vec<LoadedCertificate>) -> Self {
        let mut choice = Self::default();
        for certificate in &certificates {
            for name in certificate.names() {
                let slot = match name.strip_prefix("*.") {
                    Some(rest) => choice.wildcard.entry(rest.to_owned()).or_default(),
                    None => choice.exact.entry(name.clone()).or_default(),
                };
                slot.offer(certificate);
            }
        }
        choice.all = certificates;
        choice
    }

    fn by_name(&self, name: &str) -> Option<&Slot> {
        let wildcard = || name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest));
        self.exact.get(name).or_else(wildcard)
    }

    fn first(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut keys = self.all.iter().map(LoadedCertificate::certified_key);
        let first = self.all.first().map(LoadedCertificate::certified_key);
        keys.find(|key| can_use(key, schemes)).or(first).cloned()
    }
}

impl Slot {
    /// The first of a class stays.
    fn offer(&mut self, certificate: &LoadedCertificate) {
        let place = if certificate.is_rsa() {
            &mut self.rsa
        } else {
            &mut self.modern
        };
        place.get_or_insert_with(|| certificate.certified_key().clone());
    }

    fn pick(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let modern = self.modern.as_ref().filter(|key| can_use(key, schemes));
        modern.or(self.rsa.as_ref()).or(self.modern.as_ref()).cloned()
    }
}

fn can_use(key: &CertifiedKey, schemes: &[SignatureScheme]) -> bool {
    key.key.choose_scheme(schemes).is_some()
}
