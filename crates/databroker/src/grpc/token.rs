//! Who may call: whoever brings a token made with the shared secret for this use (spec databroker.md 8.1).

use std::sync::Arc;

use http::HeaderMap;
use pomerium_api::clock::Clock;
use pomerium_crypto::service_token;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::reason::with_reason;

/// Forms of `authorization` that carry the token, in the order they are tried.
const PREFIXES: [&str; 3] = ["Bearer Pomerium-", "Pomerium ", "Bearer "];

/// Tells good tokens from others.
#[derive(Clone)]
pub struct Authenticated {
    shared: Option<Arc<Zeroizing<[u8; 32]>>>,
    clock: Arc<dyn Clock>,
}

impl Authenticated {
    /// For callers who know `shared`; without a secret nobody is let in.
    pub fn new(shared: Option<[u8; 32]>, clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: shared.map(|shared| Arc::new(Zeroizing::new(shared))),
            clock,
        }
    }

    /// Whether a request with these headers brings a good token.
    ///
    /// # Errors
    /// `unauthenticated`, and `unavailable` while there is no secret to check with.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Some(shared) = &self.shared else {
            return Err(Status::unavailable("no shared key defined"));
        };
        let refused = |reason, message| with_reason(Code::Unauthenticated, reason, message);
        let token = token(headers).ok_or_else(|| refused("MISSING_JWT", "unauthenticated"))?;
        service_token::verify(shared, token, self.clock.now().as_second()).map_err(|error| {
            tracing::debug!(%error, "a call to the internal services is refused");
            refused("INVALID_JWT", "invalid JWT")
        })
    }
}

/// The one token of a request. Of several nobody could say which one counts.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut tokens = headers.get_all("jwt").iter();
    if let Some(token) = tokens.next() {
        return token.to_str().ok().filter(|_| tokens.next().is_none());
    }
    let mut headers = headers.get_all(http::header::AUTHORIZATION).iter();
    let authorization = headers.next()?.to_str().ok()?;
    if headers.next().is_some() {
        return None;
    }
    PREFIXES
        .iter()
        .find_map(|prefix| authorization.strip_prefix(prefix))
}
