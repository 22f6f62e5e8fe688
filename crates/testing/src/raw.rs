//! A client that sends exactly the bytes it is given, and reads answers without forgiving anything.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::{Authority, within};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection for raw HTTP/1.1.
pub struct RawClient {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// An HTTP/1.1 answer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReply {
    /// Status.
    pub status: u16,
    /// Headers in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
}

impl RawReply {
    /// The first value of a header, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl RawClient {
    /// Connects without TLS.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(address: SocketAddr, source: Option<IpAddr>) -> Result<RawClient> {
        Ok(RawClient {
            stream: Box::new(tcp(address, source).await?),
            buffer: Vec::new(),
        })
    }

    /// Connects with TLS; `server_name` goes into SNI and is checked against the certificate.
    ///
    /// # Errors
    /// Nobody listens, or the handshake fails.
    pub async fn connect_tls(
        address: SocketAddr,
        source: Option<IpAddr>,
        authority: &Authority,
        server_name: &str,
        alpn: &[&str],
    ) -> Result<RawClient> {
        crate::install_crypto_provider();
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(authority.roots()?)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::connect_with(address, source, config, server_name).await
    }

    /// Connects with TLS and HTTP/1.1, whatever certificate is shown.
    ///
    /// # Errors
    /// Nobody listens, or the handshake fails.
    pub async fn connect_tls_trusting_anyone(
        address: SocketAddr,
        source: Option<IpAddr>,
        server_name: &str,
    ) -> Result<RawClient> {
        crate::install_crypto_provider();
        let mut config = rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnyone))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self::connect_with(address, source, config, server_name).await
    }

    async fn connect_with(
        address: SocketAddr,
        source: Option<IpAddr>,
        config: rustls::ClientConfig,
        server_name: &str,
    ) -> Result<RawClient> {
        let name = ServerName::try_from(server_name.to_owned())?;
        let stream = tcp(address, source).await?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        Ok(RawClient {
            stream: Box::new(stream),
            buffer: Vec::new(),
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Ends the sending half.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// Reads one answer. `head_request` means that a length comes without a body.
    ///
    /// # Errors
    /// The connection ends before, or the framing is wrong, or it takes too long.
    pub async fn reply(&mut self, head_request: bool) -> Result<RawReply> {
        within("an answer", self.read_reply(head_request)).await?
    }

    /// Reads until these bytes have come; they stay to be read as part of the answer.
    ///
    /// # Errors
    /// They do not come.
    pub async fn wait_for_bytes(&mut self, wanted: &[u8]) -> Result<()> {
        within("bytes of the answer", async {
            while !self.buffer.windows(wanted.len()).any(|window| window == wanted) {
                if self.fill().await? == 0 {
                    bail!(
                        "the connection ended: {:?}",
                        String::from_utf8_lossy(&self.buffer)
                    );
                }
            }
            Ok(())
        })
        .await?
    }

    /// Reads until the other side closes and returns what came. A reset counts as closing.
    ///
    /// # Errors
    /// It stays open.
    pub async fn read_to_close(&mut self) -> Result<Vec<u8>> {
        within("the end of the connection", async {
            while self.fill().await.unwrap_or(0) > 0 {}
        })
        .await?;
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn fill(&mut self) -> Result<usize> {
        self.buffer.reserve(16 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }

    async fn read_reply(&mut self, head_request: bool) -> Result<RawReply> {
        let mut reply = loop {
            let reply = self.read_head().await?;
            // 100 and 103 come before the answer; 101 is one.
            if reply.status >= 200 || reply.status == 101 {
                break reply;
            }
        };
        if head_request || matches!(reply.status, 101 | 204 | 304) {
            return Ok(reply);
        }
        if reply
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            reply.body = self.read_chunks().await?;
        } else if let Some(length) = reply.header("content-length") {
            let length = length.parse().context("content-length")?;
            reply.body = self.take(length).await?;
        } else {
            while self.fill().await? > 0 {}
            reply.body = std::mem::take(&mut self.buffer);
        }
        Ok(reply)
    }

    async fn read_head(&mut self) -> Result<RawReply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines
            .first()
            .and_then(|line| line.split(' ').nth(1))
            .context("no status line")?;
        let status = status.parse().context("status")?;
        let headers = lines.iter().skip(1).map(|line| {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no colon in {line:?}"))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        });
        Ok(RawReply {
            status,
            headers: headers.collect::<Result<_>>()?,
            body: Vec::new(),
        })
    }

    async fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                .with_context(|| format!("chunk size {line:?}"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size).await?);
            if !self.line().await?.is_empty() {
                bail!("a chunk is longer than its size");
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.fill().await? == 0 {
                bail!(
                    "the connection ended inside a line: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
            }
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                bail!("the body ended after {} of {length} bytes", self.buffer.len());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }
}

async fn tcp(address: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket
        .connect(address)
        .await
        .with_context(|| format!("nobody listens at {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// For listeners with generated certificates, where the certificate is not what is tested.
#[derive(Debug)]
struct TrustAnyone;

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme as S;
        vec![
            S::ECDSA_NISTP256_SHA256,
            S::ECDSA_NISTP384_SHA384,
            S::RSA_PSS_SHA256,
            S::RSA_PKCS1_SHA256,
            S::ED25519,
        ]
    }
}
