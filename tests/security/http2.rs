//! HTTP/2: malformed pseudo-headers (grpc-go CVE-2026-33186), rapid reset (CVE-2023-44487).

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use pomerium_testing::{Environment, Route, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connect(env: &Environment) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    pomerium_testing::install_crypto_provider();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("open.example.com")?;
    let stream = TcpStream::connect(env.address()).await?;
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    Ok((env, upstream))
}

/// A literal header field without indexing (RFC 7541, 6.2.2); lengths below 127.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap_or(126)];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(u8::try_from(value.len()).unwrap_or(126));
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Sends one request made of these fields and waits until it is refused or answered.
async fn send_fields(env: &Environment, fields: &[(&str, &str)]) -> Result<()> {
    let mut stream = connect(env).await?;
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // HEADERS with END_STREAM and END_HEADERS.
    bytes.extend(frame(1, 5, 1, &block));
    stream.write_all(&bytes).await?;
    pomerium_testing::within("an end of the stream", async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            let _ = stream.read_exact(&mut payload).await;
            // HEADERS or RST_STREAM on our stream, or GOAWAY.
            if (matches!(head[3], 1 | 3) && head[8] == 1) || head[3] == 7 {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn malformed_requests_do_not_reach_the_application() -> Result<()> {
    let (env, upstream) = stage().await?;
    let authority = env.authority_of("open");
    let good = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", authority.as_str()),
        (":path", "/good"),
    ];
    send_fields(&env, &good).await?;
    assert_eq!(upstream.take_requests().len(), 1, "the well-formed one arrives");

    // The library drops a fragment: then what is judged is what is forwarded, without it.
    let mut fragment = good;
    fragment[3].1 = "/good#/open";
    send_fields(&env, &fragment).await?;
    assert!(
        upstream
            .take_requests()
            .iter()
            .all(|request| request.target == "/good")
    );

    let with = |change: &[(&'static str, &'static str)]| -> Vec<(String, String)> {
        let mut fields: Vec<_> = good
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, value) in change {
            match fields.iter_mut().find(|(known, _)| known == name) {
                Some(field) => (*value).clone_into(&mut field.1),
                None => fields.push(((*name).to_owned(), (*value).to_owned())),
            }
        }
        fields
    };
    let mut cases = vec![
        with(&[(":path", "admin")]),
        with(&[(":path", "")]),
        with(&[(":path", "/a b")]),
        with(&[("Upper", "case")]),
        with(&[("connection", "keep-alive")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("x", "a\r\nevil: 1")]),
        with(&[("x", "a\0b")]),
        with(&[("x_y", "1")]),
        with(&[(":unknown", "x")]),
        with(&[("host", "other.example.com")]),
        with(&[(":authority", "user@open.example.com")]),
        with(&[("content-length", "5")]),
    ];
    // A pseudo-header behind an ordinary one, and one given twice.
    let mut late = with(&[]);
    late.insert(0, ("x".into(), "1".into()));
    cases.push(late);
    let mut twice = with(&[]);
    twice.push((":path".into(), "/other".into()));
    cases.push(twice);
    for case in cases {
        let fields: Vec<_> = case
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        send_fields(&env, &fields).await?;
        let arrived = upstream.take_requests();
        assert!(arrived.is_empty(), "{fields:?} arrived as {arrived:?}");
    }
    Ok(())
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_nobody_else_notices() -> Result<()> {
    let (env, _upstream) = stage().await?;
    let (mut sender, connection) = h2::client::Builder::new()
        .handshake::<_, Bytes>(connect(&env).await?)
        .await?;
    let ended = tokio::spawn(connection);
    let url = env.url("open", "/stall");
    let mut refused = false;
    for _ in 0..20_000 {
        let Ok(ready) = sender.ready().await else {
            refused = true;
            break;
        };
        sender = ready;
        let Ok((_, mut body)) = sender.send_request(Request::get(&url).body(())?, false) else {
            refused = true;
            break;
        };
        body.send_reset(h2::Reason::CANCEL);
        if ended.is_finished() {
            refused = true;
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(refused, "20 000 resets on one connection were taken");
    assert_eq!(env.client()?.get(&env.url("open", "/")).await?.status, 200);
    Ok(())
}
