//! The short way to the built-in provider: calls to it never leave the process, so that it works before any
//! name resolves and any certificate is trusted. Everything else goes to the client behind.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use pomerium_api::clock::Clock;
use pomerium_api::databroker::Databroker;
use pomerium_identity::{HttpClient, HttpError};

use super::provider::{BackCall, LocalProvider, json};

/// An [`HttpClient`] that answers for the local issuer itself.
pub struct LocalBackchannel {
    provider: Arc<LocalProvider>,
    fallback: Arc<dyn HttpClient>,
    broker: Arc<dyn Databroker>,
    clock: Arc<dyn Clock>,
}

impl LocalBackchannel {
    /// Puts `provider`, which asks `broker`, before `fallback`.
    pub fn new(
        provider: Arc<LocalProvider>,
        fallback: Arc<dyn HttpClient>,
        (broker, clock): (Arc<dyn Databroker>, Arc<dyn Clock>),
    ) -> Self {
        Self {
            provider,
            fallback,
            broker,
            clock,
        }
    }

    /// Whether a URL is one of the provider's: its base, then a slash. `…/idp.evil` is not.
    fn is_local(&self, url: &str) -> bool {
        url.strip_prefix(&self.provider.base)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let call = BackCall {
            method: request.method(),
            path: request.uri().path(),
            headers: request.headers(),
            body: request.body(),
            now: self.clock.now().as_second(),
        };
        let missing = || json(StatusCode::NOT_FOUND, &serde_json::json!({"error": "not_found"}));
        let answer = self.provider.back_channel(&*self.broker, call).await;
        answer.unwrap_or_else(missing)
    }
}

impl HttpClient for LocalBackchannel {
    fn send(
        &self,
        request: Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Response<Bytes>, HttpError>> {
        if self.is_local(&request.uri().to_string()) {
            return async { Ok(self.answer(request).await) }.boxed();
        }
        self.fallback.send(request, limit)
    }
}
