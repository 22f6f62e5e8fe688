//! Proofs that every process answers for, whichever of them orders: how they are told, and the way from the storage to
//! the listeners.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::challenges::{Challenges, OfferError, Offered};
use crate::storage::Shared;

/// What one challenge is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Proof {
    /// HTTP-01.
    Http {
        host: String,
        token: String,
        key_authorization: String,
    },
    /// TLS-ALPN-01; the digest in base64url.
    Tls { name: String, digest: String },
}

impl Proof {
    pub(super) fn http(host: &str, token: &str, key_authorization: &str) -> Self {
        Self::Http {
            host: host.to_owned(),
            token: token.to_owned(),
            key_authorization: key_authorization.to_owned(),
        }
    }

    pub(super) fn tls(name: &str, digest: &[u8]) -> Self {
        Self::Tls {
            name: name.to_owned(),
            digest: URL_SAFE_NO_PAD.encode(digest),
        }
    }

    /// Answers it here.
    pub(super) fn offer(&self, challenges: &Arc<Challenges>) -> Result<Offered, OfferError> {
        match self {
            Self::Http {
                host,
                token,
                key_authorization,
            } => Ok(challenges.offer_http(host, token, key_authorization)),
            Self::Tls { name, digest } => {
                let digest = URL_SAFE_NO_PAD.decode(digest).map_err(|_| OfferError::Digest)?;
                challenges.offer_tls(name, &digest)
            }
        }
    }

    /// A name for it that tells nothing.
    pub(super) fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.content()))
    }

    /// For the other processes.
    pub(super) fn content(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Hands the proofs of all processes to the listeners of this one.
pub struct SharedChallenges {
    challenges: Arc<Challenges>,
    offered: Mutex<HashMap<String, Offered>>,
}

impl SharedChallenges {
    /// For these listeners.
    #[must_use]
    pub fn new(challenges: Arc<Challenges>) -> Arc<Self> {
        Arc::new(Self {
            challenges,
            offered: Mutex::default(),
        })
    }
}

impl Shared for SharedChallenges {
    fn show(&self, id: &str, content: &[u8]) {
        let Ok(proof) = serde_json::from_slice::<Proof>(content) else {
            return tracing::warn!("autocert: a proof of another process cannot be read");
        };
        match proof.offer(&self.challenges) {
            Ok(offered) => drop(self.offered.lock().insert(id.to_owned(), offered)),
            Err(error) => tracing::warn!(%error, "autocert: a proof of another process cannot be shown"),
        }
    }

    fn forget(&self, id: &str) {
        self.offered.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::challenges::HTTP_PATH;
    use super::*;

    #[test]
    fn a_proof_of_another_process_is_answered_until_it_is_taken_back() {
        let challenges = Arc::<Challenges>::default();
        let shared = SharedChallenges::new(Arc::clone(&challenges));
        let proof = Proof::http("a.example.com", "token", "token.thumb");
        let tls = Proof::tls("b.example.com", &[7; 32]);
        shared.show(&proof.id(), &proof.content());
        shared.show(&tls.id(), &tls.content());
        let path = format!("{HTTP_PATH}token");
        let answer = || challenges.http_answer("a.example.com", &path);
        assert_eq!(answer().as_deref(), Some("token.thumb"));
        assert!(challenges.is_awaited());
        // Told again, as after a break.
        shared.show(&proof.id(), &proof.content());
        assert!(answer().is_some());
        shared.forget(&proof.id());
        assert_eq!(answer(), None);
        shared.forget(&tls.id());
        assert!(!challenges.is_awaited());
        shared.show("x", b"no proof");
        assert_ne!(proof.id(), Proof::http("a.example.com", "token", "other").id());
    }
}
