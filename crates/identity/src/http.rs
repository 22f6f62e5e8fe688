//! Outbound HTTP to identity providers: the trait, and the client that goes over the network. No redirects
//! are followed, and no more of an answer is read than is asked for.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_crypto::tls;
use reqwest::{Client, redirect};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// How long a request may take altogether.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to get a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests to identity providers.
pub trait HttpClient: Send + Sync + 'static {
    /// Sends one request; redirects come back as they are. Errors when there is no answer, or one with a
    /// body of more than `limit` bytes.
    fn send(
        &self,
        request: ::http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'_, Result<::http::Response<Bytes>, HttpError>>;
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{text}")]
pub struct HttpError {
    /// What sort of failure it is.
    pub kind: HttpErrorKind,
    /// What happened, with its causes.
    pub text: String,
}

/// Sorts of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// No connection: address, DNS, refused.
    Connect,
    /// The server's certificate is not trusted.
    Certificate,
    /// It took too long.
    Timeout,
    /// The answer is larger than allowed.
    TooLarge,
    /// Anything else: the connection broke, the request makes no sense.
    Other,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authorities given cannot be used: {0}")]
pub struct ClientError(String);

/// The client that goes over the network. Takes proxies from the environment (`HTTPS_PROXY`, `NO_PROXY`).
pub struct ReqwestClient {
    roots: Vec<CertificateDer<'static>>,
    direct: bool,
    // Reading the roots of the system takes longer than a start may take.
    client: OnceLock<Result<Client, String>>,
}

impl ReqwestClient {
    /// Trusts the roots of the system and those of `extra_roots_pem` (any number of PEM certificates, may
    /// be empty). Errors when that has no certificate in it or a broken one.
    pub fn new(extra_roots_pem: &[u8]) -> Result<Self, ClientError> {
        let roots = CertificateDer::pem_slice_iter(extra_roots_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ClientError(error.to_string()))?;
        if roots.is_empty() && !extra_roots_pem.trim_ascii().is_empty() {
            return Err(ClientError("there is no PEM certificate in them".into()));
        }
        Ok(Self {
            roots,
            direct: false,
            client: OnceLock::new(),
        })
    }

    /// The same, past any proxy: for servers of the machine itself.
    #[must_use]
    pub fn direct(self) -> Self {
        Self {
            direct: true,
            client: OnceLock::new(),
            ..self
        }
    }

    fn client(&self) -> Result<&Client, HttpError> {
        let client = self.client.get_or_init(|| build(&self.roots, self.direct));
        client.as_ref().map_err(|text| HttpError {
            kind: HttpErrorKind::Other,
            text: text.clone(),
        })
    }

    async fn exchange(
        &self,
        request: ::http::Request<Bytes>,
        limit: usize,
    ) -> Result<::http::Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request).map_err(to_http_error)?;
        let mut answer = self.client()?.execute(request).await.map_err(to_http_error)?;
        if answer
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_large(limit));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(to_http_error)? {
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = ::http::Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

impl HttpClient for ReqwestClient {
    fn send(
        &self,
        request: ::http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'_, Result<::http::Response<Bytes>, HttpError>> {
        self.exchange(request, limit).boxed()
    }
}

fn build(roots: &[CertificateDer<'static>], direct: bool) -> Result<Client, String> {
    let builder = match direct {
        true => Client::builder().no_proxy(),
        false => Client::builder(),
    };
    let builder = if roots.is_empty() {
        builder.tls_backend_rustls()
    } else {
        let system = rustls_native_certs::load_native_certs().certs;
        let trusting = tls::trusting_client(system, roots.to_vec(), &["h2", "http/1.1"])
            .map_err(|error| error.to_string())?;
        builder.tls_backend_preconfigured(trusting)
    };
    builder
        .redirect(redirect::Policy::none())
        .referer(false)
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent("pomerium")
        .pool_max_idle_per_host(4)
        .build()
        .map_err(|error| chain(&error))
}

fn too_large(limit: usize) -> HttpError {
    HttpError {
        kind: HttpErrorKind::TooLarge,
        text: format!("the answer is larger than {limit} bytes"),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn to_http_error(error: reqwest::Error) -> HttpError {
    let mut text = chain(&error);
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if text.contains("certificate") {
        HttpErrorKind::Certificate
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Other
    };
    if let Some(advice) = tls::advice(&error, "certificate_authority") {
        text = format!("{text}; {advice}");
    }
    HttpError { kind, text }
}

/// The error with its causes; without the URL, which may have secrets in its query.
fn chain(error: &reqwest::Error) -> String {
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
    match parts.is_empty() {
        true if error.is_timeout() => "it took too long".into(),
        true if error.is_redirect() => "it answers with a redirect".into(),
        true => "the request failed".into(),
        false => parts.join(": "),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    async fn answer_once(mut connection: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
        let mut request = vec![0; 4096];
        let _ = connection.read(&mut request).await;
        let _ = connection.write_all(answer).await;
        let _ = connection.shutdown().await;
    }

    async fn serve(answer: impl Into<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, answer) = (listener.local_addr().unwrap(), answer.into());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                answer_once(connection, &answer).await;
            }
        });
        address
    }

    async fn get(
        client: &ReqwestClient,
        url: String,
        limit: usize,
    ) -> Result<::http::Response<Bytes>, HttpError> {
        client
            .send(::http::Request::get(url).body(Bytes::new()).unwrap(), limit)
            .await
    }

    fn client() -> ReqwestClient {
        ReqwestClient::new(b"").unwrap()
    }

    #[tokio::test]
    async fn answers_come_back_with_status_headers_and_body() {
        let address = serve("HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 2\r\n\r\nno").await;
        let answer = get(&client(), format!("http://{address}/x"), 2).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.body().as_ref()),
            (404, &b"no"[..])
        );
        assert_eq!(answer.headers()["x-a"], "b");
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let target = serve("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let redirect =
            format!("HTTP/1.1 302 Found\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n");
        let address = serve(redirect).await;
        let answer = get(&client(), format!("http://{address}/"), 100).await.unwrap();
        assert_eq!(answer.status(), 302);
    }

    #[tokio::test]
    async fn too_much_is_not_read() {
        let long = "x".repeat(101);
        let announced = serve(format!("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n{long}")).await;
        let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
        let chunks = chunk.repeat(50);
        let unannounced = serve(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
        ))
        .await;
        for address in [announced, unannounced] {
            let error = get(&client(), format!("http://{address}/"), 100)
                .await
                .unwrap_err();
            assert_eq!(error.kind, HttpErrorKind::TooLarge, "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_without_the_query() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = get(&client(), format!("http://{address}/?code=secret"), 100)
            .await
            .unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::Connect, "{error}");
        assert!(!error.text.contains("secret"), "{error}");
    }

    /// A server that shows one certificate and answers everything; its address.
    async fn serve_tls(certificate: &rcgen::Certificate, key: &rcgen::KeyPair) -> String {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                if let Ok(connection) = acceptor.accept(connection).await {
                    answer_once(connection, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        });
        url
    }

    /// Also when it is an authority's own, as small identity providers make it.
    #[tokio::test]
    async fn a_certificate_counts_only_if_it_was_given() {
        for is_ca in [
            rcgen::IsCa::NoCa,
            rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
        ] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.is_ca = is_ca;
            let certificate = params.self_signed(&key).unwrap();
            let url = serve_tls(&certificate, &key).await;
            let error = get(&client(), url.clone(), 100).await.unwrap_err();
            assert_eq!(error.kind, HttpErrorKind::Certificate, "{error}");
            assert!(error.text.contains("into certificate_authority"), "{error}");
            let trusting = ReqwestClient::new(certificate.pem().as_bytes()).unwrap();
            assert_eq!(get(&trusting, url, 100).await.unwrap().status(), 200);
        }
    }

    #[test]
    fn authorities_must_be_certificates() {
        assert!(ReqwestClient::new(b"\n").is_ok());
        assert!(ReqwestClient::new(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----").is_err());
        assert!(ReqwestClient::new(b"hello").is_err());
    }
}
