//! Outbound HTTP to certificate authorities and their responders: the trait, and the client that goes over the
//! network. No redirects are followed, and no more of an answer is read than is asked for.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pomerium_crypto::tls;
use reqwest::{Client, redirect};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// How long an exchange may take altogether.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to get a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests to certificate authorities.
pub trait Web: Send + Sync + 'static {
    /// Sends one request; redirects come back as they are.
    ///
    /// Errors when there is no answer, or one with a body of more than `limit` bytes.
    fn send(
        &self,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, WebError>>;
}

/// Why there is no answer, with the causes and without the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebError(pub String);

/// The client that goes over the network. Takes proxies from the environment (`HTTPS_PROXY`, `NO_PROXY`).
pub struct WebClient {
    roots: Vec<CertificateDer<'static>>,
    // Reading the roots of the system takes longer than a start may take.
    client: OnceLock<Result<Client, WebError>>,
}

impl WebClient {
    /// Trusts the roots of the system and those of `extra_roots_pem` (any number of PEM certificates, may be empty).
    ///
    /// # Errors
    /// When a certificate in it is broken, or when there is text but no certificate in it.
    pub fn new(extra_roots_pem: &[u8]) -> Result<Self, WebError> {
        let roots = CertificateDer::pem_slice_iter(extra_roots_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| WebError(error.to_string()))?;
        if roots.is_empty() && !extra_roots_pem.trim_ascii().is_empty() {
            return Err(WebError("there is no PEM certificate in it".into()));
        }
        Ok(Self {
            roots,
            client: OnceLock::new(),
        })
    }

    fn client(&self) -> Result<&Client, WebError> {
        let client = self.client.get_or_init(|| build(&self.roots));
        client.as_ref().map_err(Clone::clone)
    }

    async fn exchange(
        &self,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> Result<http::Response<Bytes>, WebError> {
        let request = reqwest::Request::try_from(request).map_err(|error| causes(&error))?;
        let answer = self.client()?.execute(request).await;
        let mut answer = answer.map_err(|error| causes(&error))?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| causes(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(WebError(format!("the answer is larger than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = http::Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

impl Web for WebClient {
    fn send(
        &self,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, WebError>> {
        self.exchange(request, limit).boxed()
    }
}

fn build(roots: &[CertificateDer<'static>]) -> Result<Client, WebError> {
    let builder = if roots.is_empty() {
        Client::builder().tls_backend_rustls()
    } else {
        let system = rustls_native_certs::load_native_certs().certs;
        let trusting = tls::trusting_client(system, roots.to_vec(), &["h2", "http/1.1"])
            .map_err(|error| WebError(error.to_string()))?;
        Client::builder().tls_backend_preconfigured(trusting)
    };
    builder
        .redirect(redirect::Policy::none())
        .referer(false)
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent("pomerium")
        .pool_max_idle_per_host(2)
        .build()
        .map_err(|error| causes(&error))
}

fn causes(error: &reqwest::Error) -> WebError {
    use std::error::Error as _;
    let mut parts: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        source = error.source();
    }
    parts.extend(tls::advice(error, "autocert_trusted_ca"));
    WebError(match parts.is_empty() {
        true if error.is_timeout() => "it took too long".into(),
        true => "the request failed".into(),
        false => parts.join(": "),
    })
}
