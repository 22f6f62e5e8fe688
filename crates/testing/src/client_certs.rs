//! Client certificates and those who present them: authorities with intermediates and revocation lists, and a TLS
//! client that keeps its sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::client::Resumption;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::Authority;

/// Issues client certificates.
#[derive(Debug)]
pub struct ClientAuthority {
    pem: String,
    der: CertificateDer<'static>,
    /// What a client has to send along: this certificate and those above it, without the root.
    above: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a client certificate says.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Common name.
    pub name: String,
    /// Alternative name.
    pub email: String,
    /// Serial number, for revoking.
    pub serial: u64,
    /// Whether it has ended.
    pub expired: bool,
    /// Whether it is for clients; otherwise for servers.
    pub for_clients: bool,
}

impl ClientCertificate {
    /// A good one.
    pub fn new(serial: u64) -> ClientCertificate {
        ClientCertificate {
            name: format!("client {serial}"),
            email: format!("client-{serial}@example.com"),
            serial,
            expired: false,
            for_clients: true,
        }
    }
}

/// A client certificate with its key and what goes along.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// PEM, with the intermediates.
    pub certificate_pem: String,
    /// PEM, PKCS#8.
    pub key_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl ClientAuthority {
    /// A root.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(name: &str) -> Result<ClientAuthority> {
        let (params, key) = (authority_params(name), KeyPair::generate()?);
        let certificate = params.self_signed(&key)?;
        Ok(ClientAuthority {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            above: Vec::new(),
            issuer: Issuer::new(params, key),
        })
    }

    /// An intermediate.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn below(&self, name: &str) -> Result<ClientAuthority> {
        let (params, key) = (authority_params(name), KeyPair::generate()?);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut above = vec![certificate.der().clone()];
        above.extend(self.above.iter().cloned());
        Ok(ClientAuthority {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            above,
            issuer: Issuer::new(params, key),
        })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// A name is not one.
    pub fn issue(&self, wanted: &ClientCertificate) -> Result<ClientIdentity> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, wanted.name.as_str());
        params.subject_alt_names = vec![
            SanType::Rfc822Name(wanted.email.as_str().try_into()?),
            SanType::DnsName(format!("host-{}.example.com", wanted.serial).try_into()?),
        ];
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        params.extended_key_usages = vec![if wanted.for_clients {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        if wanted.expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        let mut pem = certificate.pem();
        if !self.above.is_empty() {
            pem.push_str(&self.pem);
        }
        Ok(ClientIdentity {
            certificate_pem: pem,
            key_pem: key.serialize_pem(),
            chain,
            key: key.serialize_der(),
        })
    }

    /// A list of revoked serial numbers, PEM; current, or one that ended long ago.
    ///
    /// # Errors
    /// Never in practice.
    pub fn revocation_list(&self, serials: &[u64], current: bool) -> Result<String> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(if current { 2120 } else { 2021 }, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2020, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }
}

/// What a client that trusts `authority`, and may show a certificate, brings into a handshake.
pub(crate) fn tls_config(
    authority: &Authority,
    identity: Option<&ClientIdentity>,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<rustls::ClientConfig> {
    crate::install_crypto_provider();
    let builder = rustls::ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(authority.roots()?);
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(
            identity.chain.clone(),
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone())),
        )?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

/// A TLS client with a certificate of its own, or none; it comes back with its sessions.
#[derive(Debug, Clone)]
pub struct TlsClient {
    config: Arc<rustls::ClientConfig>,
    address: SocketAddr,
}

/// An answer: status, headers and body.
pub type Answer = Response<Bytes>;

impl TlsClient {
    /// Trusts `authority` and speaks the protocols of `alpn`.
    ///
    /// # Errors
    /// The certificate does not fit its key.
    pub fn new(
        address: SocketAddr,
        authority: &Authority,
        identity: Option<&ClientIdentity>,
        alpn: &[&str],
    ) -> Result<TlsClient> {
        Self::with_versions(address, authority, identity, alpn, rustls::DEFAULT_VERSIONS)
    }

    /// As [`TlsClient::new`], with these versions of TLS.
    ///
    /// # Errors
    /// The certificate does not fit its key.
    pub fn with_versions(
        address: SocketAddr,
        authority: &Authority,
        identity: Option<&ClientIdentity>,
        alpn: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<TlsClient> {
        let mut config = tls_config(authority, identity, alpn, versions)?;
        config.resumption = Resumption::in_memory_sessions(32);
        Ok(TlsClient {
            config: Arc::new(config),
            address,
        })
    }

    /// Connects with `server_name` in SNI.
    ///
    /// # Errors
    /// The handshake fails; in TLS 1.3 a refused certificate shows only when something is read.
    pub async fn connect(&self, server_name: &str) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(server_name.to_owned())?;
        Ok(tokio_rustls::TlsConnector::from(Arc::clone(&self.config))
            .connect(name, stream)
            .await?)
    }

    /// A connection of its own, and one request on it for `https://<host><path>`, asking for JSON.
    ///
    /// # Errors
    /// No connection, or no answer on it.
    pub async fn get(&self, server_name: &str, host: &str, path: &str) -> Result<Answer> {
        let stream = self.connect(server_name).await?;
        self.ask(stream).await?.get(host, path).await
    }

    /// Makes a connection ready for requests.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn ask(&self, stream: TlsStream<TcpStream>) -> Result<Requests> {
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        if h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            return Ok(Requests::Http2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Requests::Http1(sender))
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub enum Requests {
    /// HTTP/1.1.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2.
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Requests {
    /// Asks for `https://<host><path>`, wanting JSON.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer> {
        let request = Request::get(match self {
            Self::Http1(_) => path.to_owned(),
            Self::Http2(_) => format!("https://{host}{path}"),
        })
        .header("accept", "application/json");
        let response = match self {
            Self::Http1(sender) => {
                let request = request.header("host", host).body(Full::default())?;
                crate::within("an answer", sender.send_request(request)).await??
            }
            Self::Http2(sender) => {
                let request = request.body(Full::default())?;
                crate::within("an answer", sender.send_request(request)).await??
            }
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.context("the body")?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}
