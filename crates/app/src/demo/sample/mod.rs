//! The application behind the demo's proxy: shows who the proxy says you are, and proves it by verifying
//! the assertion against the published keys, as any application should.

mod page;
mod websocket;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pomerium_api::clock::Clock;
use pomerium_crypto::jwt::{Algorithm, Expect, JwkSet};
use pomerium_identity::HttpClient;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The header that carries the signed identity.
const ASSERTION: &str = "x-pomerium-jwt-assertion";
/// Longest key set that is read, bytes.
const KEYS_LIMIT: usize = 64 * 1024;
/// Tolerated difference between clocks, seconds.
const LEEWAY_SECONDS: i64 = 30;

/// The sample application.
pub struct Sample {
    /// Fetches the keys.
    pub http: Arc<dyn HttpClient>,
    /// Where the keys are published.
    pub jwks_url: String,
    /// Tells whether an assertion has expired.
    pub clock: Arc<dyn Clock>,
}

/// Who the request is from, as far as the application can prove.
pub enum Visitor {
    /// No assertion came with it.
    Anonymous,
    /// The assertion verifies; its claims.
    Verified(Map<String, Value>),
    /// The assertion does not verify, and why.
    Refused(String),
}

impl Sample {
    /// Serves until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "sample application: accept failed");
                        continue;
                    }
                },
            };
            let sample = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let sample = Arc::clone(&sample);
                    async move { Ok::<_, Infallible>(sample.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "sample application: connection ended");
                }
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if websocket::asked_for(request.headers()) {
            return websocket::accept(request);
        }
        let visitor = self.visitor(request.headers()).await;
        match request.uri().path() {
            page::STYLE_PATH => page::style(),
            page::SCRIPT_PATH => page::script(),
            _ if wants_json(request.headers()) => json_answer(&request, &visitor),
            _ => page::page(&request, &visitor),
        }
    }

    async fn visitor(&self, headers: &HeaderMap) -> Visitor {
        let Some(assertion) = headers.get(ASSERTION).and_then(|value| value.to_str().ok()) else {
            return Visitor::Anonymous;
        };
        match self.verify(assertion, host(headers)).await {
            Ok(claims)
                if claims
                    .get("sub")
                    .and_then(Value::as_str)
                    .is_none_or(str::is_empty) =>
            {
                Visitor::Anonymous
            }
            Ok(claims) => Visitor::Verified(claims),
            Err(error) => Visitor::Refused(format!("{error:#}")),
        }
    }

    async fn verify(&self, assertion: &str, host: &str) -> anyhow::Result<Map<String, Value>> {
        let request = Request::get(&self.jwks_url).body(Bytes::new())?;
        let answer = self.http.send(request, KEYS_LIMIT).await?;
        let keys = JwkSet::parse(answer.body())?;
        let expect = Expect {
            issuer: Some(host),
            audience: Some(host),
            algorithms: &[Algorithm::Es256],
            now: self.clock.now().as_second(),
            leeway: LEEWAY_SECONDS,
        };
        Ok(keys.verify(assertion, &expect)?)
    }
}

/// Host by which the person asked, without port.
fn host(headers: &HeaderMap) -> &str {
    let forwarded = headers
        .get("x-forwarded-host")
        .or_else(|| headers.get(header::HOST));
    let host = forwarded
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    host.split(':').next().unwrap_or_default()
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

fn json_answer(request: &Request<Incoming>, visitor: &Visitor) -> Response<Full<Bytes>> {
    let identity = match visitor {
        Visitor::Anonymous => json!({ "verified": false }),
        Visitor::Verified(claims) => json!({ "verified": true, "claims": claims }),
        Visitor::Refused(why) => json!({ "verified": false, "why": why }),
    };
    let body =
        json!({ "method": request.method().as_str(), "path": request.uri().path(), "identity": identity });
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body:#}\n"))));
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_one_the_person_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(host(&headers), "127.0.0.1");
        headers.insert("x-forwarded-host", "app.localhost:8443".parse().unwrap());
        assert_eq!(host(&headers), "app.localhost");
    }
}
