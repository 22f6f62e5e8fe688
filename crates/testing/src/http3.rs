//! An HTTP/3 client, of other libraries than the server's HTTP/3.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::task::JoinHandle;

use crate::client_certs::tls_config;
use crate::{Authority, ClientIdentity};

/// One QUIC connection.
pub struct Http3Client {
    endpoint: quinn::Endpoint,
    quic: quinn::Connection,
    requests: SendRequest<h3_quinn::OpenStreams, Bytes>,
    driver: JoinHandle<()>,
}

/// An answer that comes at the pace at which it is read.
pub struct Http3Answer {
    /// Status.
    pub status: StatusCode,
    stream: RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>,
}

impl Http3Answer {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The answer or the connection breaks off.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        let piece = self.stream.recv_data().await?;
        Ok(piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())))
    }
}

impl std::fmt::Debug for Http3Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http3Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Http3Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Http3Client {
    /// Connects; `server_name` goes into SNI and is checked against the certificate.
    ///
    /// # Errors
    /// Nobody answers, or the handshake fails.
    pub async fn connect(
        address: SocketAddr,
        authority: &Authority,
        server_name: &str,
    ) -> Result<Http3Client> {
        Self::connect_as(address, authority, server_name, None).await
    }

    /// As [`Http3Client::connect`], with a certificate of the client's.
    ///
    /// # Errors
    /// Nobody answers, or the handshake fails.
    pub async fn connect_as(
        address: SocketAddr,
        authority: &Authority,
        server_name: &str,
        identity: Option<&ClientIdentity>,
    ) -> Result<Http3Client> {
        let tls = tls_config(authority, identity, &["h3"], &[&rustls::version::TLS13])?;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let quic = endpoint.connect_with(config, address, server_name)?.await?;
        let transport = h3_quinn::Connection::new(quic.clone());
        let (mut connection, requests) = h3::client::new(transport).await?;
        let driver = tokio::spawn(async move {
            std::future::poll_fn(|cx| connection.poll_close(cx)).await;
        });
        Ok(Http3Client {
            endpoint,
            quic,
            requests,
            driver,
        })
    }

    /// One request with its whole answer.
    ///
    /// # Errors
    /// The request or the connection breaks off.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Http3Reply> {
        let (parts, body) = request.into_parts();
        let mut stream = self
            .requests
            .clone()
            .send_request(Request::from_parts(parts, ()))
            .await?;
        if !body.is_empty() {
            stream.send_data(body).await?;
        }
        stream.finish().await?;
        let (parts, ()) = stream.recv_response().await?.into_parts();
        let mut body = Vec::new();
        while let Some(mut piece) = stream.recv_data().await? {
            body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        Ok(Http3Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// One request without a body; its answer is not read yet.
    ///
    /// # Errors
    /// The request or the connection breaks off.
    pub async fn begin(&self, request: Request<()>) -> Result<Http3Answer> {
        let mut stream = self.requests.clone().send_request(request).await?;
        stream.finish().await?;
        let status = stream.recv_response().await?.status();
        Ok(Http3Answer { status, stream })
    }

    /// A GET.
    ///
    /// # Errors
    /// The request or the connection breaks off.
    pub async fn get(&self, url: &str) -> Result<Http3Reply> {
        self.send(Request::get(url).body(Bytes::new())?).await
    }

    /// Goes on from another port of 127.0.0.1, as behind a NAT that forgets.
    ///
    /// # Errors
    /// There is no free port.
    pub fn move_to_new_port(&self) -> Result<()> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").context("no free port")?;
        Ok(self.endpoint.rebind(socket)?)
    }

    /// The connection, for what HTTP does not do.
    pub fn quic(&self) -> &quinn::Connection {
        &self.quic
    }
}

impl Drop for Http3Client {
    fn drop(&mut self) {
        self.quic.close(quinn::VarInt::from_u32(0x100), b"");
        self.driver.abort();
    }
}

impl std::fmt::Debug for Http3Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http3Client").finish_non_exhaustive()
    }
}
