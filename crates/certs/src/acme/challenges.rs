//! The challenges that are in flight at this moment: what the listeners answer a certificate authority with.
//!
//! Nothing is answered for tokens and names that no order waits for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// The protocol name of TLS-ALPN-01 (RFC 8737 section 6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";
/// Where HTTP-01 asks (RFC 8555 section 8.3).
pub const HTTP_PATH: &str = "/.well-known/acme-challenge/";

/// What is in flight. Reading takes no lock; listeners ask on every such request and handshake.
#[derive(Default)]
pub struct Challenges {
    current: ArcSwap<InFlight>,
    /// Tells offers of the same thing apart.
    offers: AtomicU64,
}

#[derive(Default, Clone)]
struct InFlight {
    /// By token, with the number of the offer.
    http: HashMap<String, (u64, HttpAnswer)>,
    /// By name, with the number of the offer.
    tls: HashMap<String, (u64, Arc<CertifiedKey>)>,
}

#[derive(Clone)]
struct HttpAnswer {
    host: String,
    key_authorization: String,
}

/// Ends a challenge when dropped, unless the same was offered again since.
#[must_use]
pub struct Offered {
    challenges: Arc<Challenges>,
    number: u64,
    what: What,
}

enum What {
    Http(String),
    Tls(String),
}

/// Why the certificate for TLS-ALPN-01 could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// It could not be written.
    #[error("the challenge certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// It could not be loaded.
    #[error("the challenge certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// What was told by another process is none.
    #[error("the digest of the challenge cannot be read")]
    Digest,
}

impl Challenges {
    /// The answer to a request for `path` on `host` (without port), if an order waits for it.
    #[must_use]
    pub fn http_answer(&self, host: &str, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP_PATH)?;
        let current = self.current.load();
        let (_, answer) = current.http.get(token)?;
        answer
            .host
            .eq_ignore_ascii_case(host)
            .then(|| answer.key_authorization.clone())
    }

    /// The TLS settings for connections that offer [`ACME_TLS`] and nothing else: no client certificate is asked for, no
    /// session kept, and only names in flight have a certificate.
    ///
    /// # Errors
    /// When the cryptographic library cannot set up; not expected.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider: CryptoProvider = aws_lc_rs::default_provider();
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![ACME_TLS.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Whether a handshake is for us: it offers [`ACME_TLS`] and nothing else.
    #[must_use]
    pub fn is_challenge(hello: &ClientHello<'_>) -> bool {
        hello
            .alpn()
            .is_some_and(|mut offered| offered.next() == Some(ACME_TLS) && offered.next().is_none())
    }

    /// Whether any TLS-ALPN-01 is in flight; while none is, no handshake has to be looked at for it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.current.load().tls.is_empty()
    }

    /// Whether a challenge for the name in the handshake is in flight.
    #[must_use]
    pub fn awaits(&self, hello: &ClientHello<'_>) -> bool {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        name.is_some_and(|name| self.current.load().tls.contains_key(&name))
    }

    /// Answers HTTP-01 for `token` on `host` for as long as what is returned lives.
    pub fn offer_http(self: &Arc<Self>, host: &str, token: &str, key_authorization: &str) -> Offered {
        let answer = HttpAnswer {
            host: host.to_owned(),
            key_authorization: key_authorization.to_owned(),
        };
        let number = self.next();
        self.change(|now| {
            now.http.insert(token.to_owned(), (number, answer.clone()));
        });
        self.offered(number, What::Http(token.to_owned()))
    }

    /// Answers TLS-ALPN-01 for `name` for as long as what is returned lives; `digest` is that of the key authorization.
    ///
    /// # Errors
    /// The certificate cannot be made: `name` is no DNS name.
    pub fn offer_tls(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Offered, OfferError> {
        let name = name.to_ascii_lowercase();
        let key = Arc::new(challenge_certificate(&name, digest)?);
        let number = self.next();
        self.change(|now| {
            now.tls.insert(name.clone(), (number, Arc::clone(&key)));
        });
        Ok(self.offered(number, What::Tls(name)))
    }

    fn next(&self) -> u64 {
        self.offers.fetch_add(1, Ordering::Relaxed)
    }

    fn offered(self: &Arc<Self>, number: u64, what: What) -> Offered {
        Offered {
            challenges: Arc::clone(self),
            number,
            what,
        }
    }

    fn change(&self, change: impl Fn(&mut InFlight)) {
        self.current.rcu(|now| {
            let mut next = InFlight::clone(now);
            change(&mut next);
            next
        });
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !Self::is_challenge(&hello) {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        let current = self.current.load();
        current.tls.get(&name).map(|(_, key)| Arc::clone(key))
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let number = self.number;
        self.challenges.change(|now| match &self.what {
            What::Http(token) => now
                .http
                .retain(|known, (offer, _)| !(known == token && *offer == number)),
            What::Tls(name) => now
                .tls
                .retain(|known, (offer, _)| !(known == name && *offer == number)),
        });
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.current.load();
        f.debug_struct("Challenges")
            .field("http", &now.http.len())
            .field("tls", &now.tls.keys())
            .finish()
    }
}

/// A self-signed certificate for `name` with the critical acmeIdentifier extension (RFC 8737 section 3).
fn challenge_certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, OfferError> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = aws_lc_rs::sign::any_supported_type(&der.into())?;
    Ok(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_flight_is_answered_and_only_for_its_host() {
        let challenges = Arc::<Challenges>::default();
        let path = format!("{HTTP_PATH}token");
        assert_eq!(challenges.http_answer("a.example.com", &path), None);
        let offered = challenges.offer_http("a.example.com", "token", "token.thumb");
        assert_eq!(
            challenges.http_answer("A.example.com", &path).as_deref(),
            Some("token.thumb")
        );
        assert_eq!(challenges.http_answer("b.example.com", &path), None);
        assert_eq!(challenges.http_answer("a.example.com", HTTP_PATH), None);
        assert_eq!(challenges.http_answer("a.example.com", "/token"), None);
        drop(offered);
        assert_eq!(challenges.http_answer("a.example.com", &path), None);
    }

    #[test]
    fn nothing_of_a_challenge_prints() {
        let challenges = Arc::<Challenges>::default();
        let _offered = challenges.offer_http("a.example.com", "token", "secret");
        assert!(!format!("{challenges:?}").contains("secret"));
    }
}
