//! Who may call: whoever brings a token made with the shared secret for this use (spec databroker.md 8.1).

use std::sync::Arc;

use pomerium_api::clock::Clock;
use pomerium_crypto::service_token;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};
use zeroize::Zeroizing;

/// Forms of `authorization` that carry the token, in the order they are tried.
const PREFIXES: [&str; 3] = ["Bearer Pomerium-", "Pomerium ", "Bearer "];

/// Lets calls through that bring a good token.
#[derive(Clone)]
pub struct Authenticated {
    shared: Arc<Zeroizing<[u8; 32]>>,
    clock: Arc<dyn Clock>,
}

impl Authenticated {
    /// For callers who know `shared`.
    pub fn new(shared: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Zeroizing::new(shared)),
            clock,
        }
    }
}

impl Interceptor for Authenticated {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let token = token(request.metadata()).ok_or_else(|| Status::unauthenticated("unauthenticated"))?;
        match service_token::verify(&self.shared, token, self.clock.now().as_second()) {
            Ok(()) => Ok(request),
            Err(error) => {
                tracing::debug!(%error, "a call to the databroker is refused");
                Err(Status::unauthenticated("invalid JWT"))
            }
        }
    }
}

fn token(metadata: &MetadataMap) -> Option<&str> {
    if let Some(token) = metadata.get("jwt") {
        return token.to_str().ok();
    }
    let authorization = metadata.get("authorization")?.to_str().ok()?;
    PREFIXES
        .iter()
        .find_map(|prefix| authorization.strip_prefix(prefix))
}
