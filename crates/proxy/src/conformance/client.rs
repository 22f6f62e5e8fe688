//! The client of a case: raw HTTP/1.1, or HTTP/2, with or without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::case::known_only;
use crate::upstream::unverified_client_config;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The request of a case.
pub(super) struct Request {
    method: String,
    scheme: &'static str,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
    http2: bool,
    tls: bool,
}

/// The response of a case; names lower case.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        known_only(
            value,
            &["method", "url", "host", "headers", "protocol", "tls", "client_ip"],
            "request",
        )?;
        let method = value["method"].as_str().unwrap_or("GET").to_owned();
        let url = value["url"].as_str().ok_or("no url")?;
        let (authority, target) = if method == "CONNECT" {
            (url, url.to_owned())
        } else {
            let rest = url.split_once("://").ok_or("url without scheme")?.1;
            let slash = rest.find('/').unwrap_or(rest.len());
            (
                &rest[..slash],
                if slash == rest.len() {
                    "/".into()
                } else {
                    rest[slash..].to_owned()
                },
            )
        };
        let http2 = match value["protocol"].as_str() {
            None | Some("h1") => false,
            Some("h2") => true,
            Some(other) => return Err(format!("unknown protocol {other:?}")),
        };
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        Ok(Self {
            method,
            scheme: if value["tls"] == false { "http" } else { "https" },
            host: value["host"].as_str().unwrap_or(authority).to_owned(),
            target,
            headers: value["headers"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(text)
                .collect(),
            http2,
            tls: value["tls"] != false,
        })
    }

    fn raw(&self) -> String {
        let mut raw = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.headers {
            raw.push_str(&format!("{name}: {value}\r\n"));
        }
        raw.push_str("\r\n");
        raw
    }
}

pub(super) async fn send(address: SocketAddr, request: &Request) -> Result<Answer, String> {
    let exchange = async {
        let socket = TcpStream::connect(address).await.map_err(text)?;
        if !request.tls {
            return exchange(socket, request).await;
        }
        let name = request
            .host
            .rsplit_once(':')
            .map_or(request.host.as_str(), |(host, _)| host)
            .to_owned();
        let name = rustls_pki_types::ServerName::try_from(name).map_err(text)?;
        let alpn: &[u8] = if request.http2 { b"h2" } else { b"http/1.1" };
        let config = unverified_client_config(alpn).map_err(text)?;
        let stream = TlsConnector::from(config)
            .connect(name, socket)
            .await
            .map_err(text)?;
        exchange(stream, request).await
    };
    tokio::time::timeout(TIMEOUT, Box::pin(exchange))
        .await
        .map_err(|_| "no answer in time".to_owned())?
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn exchange<S>(stream: S, request: &Request) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if request.http2 {
        over_http2(stream, request).await
    } else {
        over_http1(stream, request).await
    }
}

async fn over_http1<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &Request,
) -> Result<Answer, String> {
    stream.write_all(request.raw().as_bytes()).await.map_err(text)?;
    let mut read = Vec::new();
    loop {
        if let Some(answer) = parse(&read, request.method == "HEAD")? {
            return Ok(answer);
        }
        let before = read.len();
        stream.read_buf(&mut read).await.map_err(text)?;
        if read.len() == before {
            return Err(format!("closed after {:?}", String::from_utf8_lossy(&read)));
        }
    }
}

/// The response, once it is there whole.
fn parse(read: &[u8], head_only: bool) -> Result<Option<Answer>, String> {
    let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok());
    let mut answer = Answer {
        status: status.ok_or("no status line")?,
        ..Answer::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        answer
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = answer
        .header("content-length")
        .and_then(|length| length.parse::<usize>().ok());
    let without = head_only || answer.status < 200 || matches!(answer.status, 204 | 304);
    let body = &read[end + 4..];
    let whole = if without {
        Some(&body[..0])
    } else if let Some(length) = length {
        body.get(..length)
    } else {
        // The driver's upstreams and the proxy's own answers state their length; chunks mean a stream.
        body.ends_with(b"0\r\n\r\n").then_some(body)
    };
    let Some(whole) = whole else { return Ok(None) };
    answer.body = String::from_utf8_lossy(whole).into_owned();
    Ok(Some(answer))
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

async fn over_http2<S>(stream: S, request: &Request) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(text)?;
    let driver = tokio::spawn(connection);
    let mut outgoing = http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("{}://{}{}", request.scheme, request.host, request.target));
    for (name, value) in &request.headers {
        outgoing = outgoing.header(name, value);
    }
    let outgoing = outgoing.body(Empty::<Bytes>::new()).map_err(text)?;
    let response = sender.send_request(outgoing).await.map_err(text)?;
    let mut answer = Answer {
        status: response.status().as_u16(),
        ..Answer::default()
    };
    for (name, value) in response.headers() {
        answer.headers.push((
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ));
    }
    let body = response.into_body().collect().await.map_err(text)?.to_bytes();
    answer.body = String::from_utf8_lossy(&body).into_owned();
    driver.abort();
    Ok(answer)
}
