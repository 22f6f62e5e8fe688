//! HTTP/2 connections that only want to cost (CVE-2024-27316 and its kind, CVE-2019-9512, -9515, -9517,
//! Pomerium CVE-2021-39204): CONTINUATION, SETTINGS, PING and header floods end their own connection, and
//! nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use pomerium_testing::{Environment, PATIENCE, Route, Upstream, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    Ok((env, upstream))
}

async fn connect(env: &Environment) -> Result<TlsStream<TcpStream>> {
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

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A literal header field without indexing (RFC 7541, 6.2.2), of any length.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(u8::try_from(rest).unwrap_or(0));
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap_or(0));
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn request(authority: &str, path: &str) -> Vec<u8> {
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
    ]
    .iter()
    .flat_map(|(name, value)| field(name, value))
    .collect()
}

/// Writes `part` again and again, and reads what comes, until the server has had enough or `most` parts are
/// written. True when the server ended it, by GOAWAY or by closing, then or within `patience`.
async fn flood(
    env: &Environment,
    first: &[u8],
    patience: Duration,
    most: usize,
    mut part: impl FnMut(usize) -> Vec<u8>,
) -> Result<bool> {
    let stream = connect(env).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let ended = tokio::spawn(async move {
        loop {
            let mut head = [0; 9];
            if reader.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if reader.read_exact(&mut payload).await.is_err() || head[3] == 7 {
                return;
            }
        }
    });
    let write = async {
        writer.write_all(PREFACE).await?;
        writer.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        writer.write_all(first).await?;
        for count in 0..most {
            writer.write_all(&part(count)).await?;
            if ended.is_finished() {
                break;
            }
        }
        writer.flush().await
    };
    let broken = within("room for the flood", write).await?.is_err();
    if broken || ended.is_finished() {
        return Ok(true);
    }
    Ok(tokio::time::timeout(patience, ended).await.is_ok())
}

async fn others_are_served(env: &Environment, what: &str) -> Result<()> {
    let reply = env.client()?.get(&env.url("open", "/")).await?;
    assert_eq!(reply.status, 200, "after {what}");
    Ok(())
}

#[tokio::test]
async fn endless_continuation_is_cut_off() -> Result<()> {
    let (env, upstream) = stage().await?;
    let block = request(&env.authority_of("open"), "/flood");
    // END_STREAM without END_HEADERS: the block goes on and on.
    let first = frame(HEADERS, 1, 1, &block);
    for (name, payload) in [
        ("empty CONTINUATION", Vec::new()),
        ("CONTINUATION with fields", field("x", &"a".repeat(8000))),
        ("CONTINUATION with one byte fields", field("x", "")),
    ] {
        let cut = flood(&env, &first, PATIENCE, 50_000, |_| {
            frame(CONTINUATION, 0, 1, &payload)
        })
        .await?;
        assert!(cut, "{name} was taken without end");
        others_are_served(&env, name).await?;
    }
    assert!(upstream.requests().iter().all(|request| request.target == "/"));
    Ok(())
}

#[tokio::test]
async fn large_header_blocks_are_refused_and_the_rest_goes_on() -> Result<()> {
    let (env, upstream) = stage().await?;
    let client = env.client()?;
    for (name, size, count) in [("one large field", 200_000, 1), ("many fields", 10, 1500)] {
        let mut headers: Vec<(String, String)> = Vec::new();
        for at in 0..count {
            headers.push((format!("x-{at}"), "a".repeat(size)));
        }
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        // An answer, or a stream that is reset: both refuse.
        if let Ok(reply) = client.get_with(&env.url("open", "/large"), &headers).await {
            assert_eq!(reply.status, 431, "{name}");
        }
        others_are_served(&env, name).await?;
    }
    assert!(upstream.requests().iter().all(|request| request.target == "/"));
    Ok(())
}

#[tokio::test]
async fn floods_of_control_frames_cost_nobody_else() -> Result<()> {
    let (env, _upstream) = stage().await?;
    let authority = env.authority_of("open");
    for name in ["SETTINGS", "PING", "empty DATA", "unknown frames", "PRIORITY"] {
        let first = frame(HEADERS, 4, 1, &request(&authority, "/stall"));
        // Whether the connection is ended or each frame is answered: others are served meanwhile and after.
        let flooding = flood(&env, &first, Duration::ZERO, 20_000, |_| match name {
            "SETTINGS" => frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            "PING" => frame(PING, 0, 0, &[7; 8]),
            "empty DATA" => frame(DATA, 0, 1, &[]),
            "unknown frames" => frame(0xEE, 0, 0, &[1; 64]),
            _ => frame(2, 0, 1, &[0, 0, 0, 0, 1]),
        });
        let (flooded, served) = tokio::join!(flooding, others_are_served(&env, name));
        flooded?;
        served?;
        others_are_served(&env, name).await?;
    }
    Ok(())
}

/// Windows that grow past their end, that shrink below nothing under running answers, or that are moved to and fro.
#[tokio::test]
async fn games_with_windows_cost_nobody_else() -> Result<()> {
    let (env, _upstream) = stage().await?;
    let authority = env.authority_of("open");
    let first = frame(HEADERS, 4, 1, &request(&authority, "/stall"));
    let window = |size: u32| frame(SETTINGS, 0, 0, &[&[0, 4][..], &size.to_be_bytes()].concat());
    let ended = [
        (
            "past the end, connection",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
        ),
        ("by nothing, connection", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window of settings past the end", window(u32::MAX)),
        (
            "on a stream nobody opened",
            frame(WINDOW_UPDATE, 0, 7, &[0, 0, 0, 1]),
        ),
    ];
    for (name, part) in ended {
        let cut = flood(&env, &first, PATIENCE, 2, |_| part.clone()).await?;
        assert!(cut, "{name}: the connection goes on");
        others_are_served(&env, name).await?;
    }
    for name in [
        "past the end, stream",
        "by one",
        "settings to and fro",
        "settings to nothing",
    ] {
        let flooding = flood(&env, &first, Duration::ZERO, 20_000, |count| match name {
            "past the end, stream" => frame(WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255]),
            "by one" => frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            "settings to and fro" => window(if count % 2 == 0 { 0 } else { 0x7fff_ffff }),
            _ => window(0),
        });
        let (flooded, served) = tokio::join!(flooding, others_are_served(&env, name));
        flooded?;
        served?;
        others_are_served(&env, name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn more_streams_than_announced_are_refused() -> Result<()> {
    const ANNOUNCED: usize = 100;
    let (env, upstream) = stage().await?;
    let block = request(&env.authority_of("open"), "/stall");
    let (mut reader, mut writer) = tokio::io::split(connect(&env).await?);
    writer.write_all(PREFACE).await?;
    writer.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    for number in 0..ANNOUNCED + 20 {
        let stream = u32::try_from(2 * number + 1)?;
        writer.write_all(&frame(HEADERS, 5, stream, &block)).await?;
    }
    writer.flush().await?;
    let refusals = async {
        let mut refused = 0;
        while refused < 20 {
            let mut head = [0; 9];
            reader.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            reader.read_exact(&mut payload).await?;
            // REFUSED_STREAM: it was not looked at.
            refused += usize::from(head[3] == RST_STREAM && payload == [0, 0, 0, 7]);
        }
        anyhow::Ok(())
    };
    within("refused streams", refusals).await??;
    upstream.wait_for(ANNOUNCED).await?;
    assert_eq!(upstream.requests().len(), ANNOUNCED);
    others_are_served(&env, "many streams").await
}

#[tokio::test]
async fn a_compression_bomb_does_not_unpack() -> Result<()> {
    let (env, upstream) = stage().await?;
    let authority = env.authority_of("open");
    // One indexed field of 4000 bytes, then thousands of one-byte references to it (RFC 7541, 6.1).
    let mut block = request(&authority, "/bomb");
    let mut large = field("x", &"a".repeat(3900));
    large[0] = 0x40;
    block.extend_from_slice(&large);
    block.extend(std::iter::repeat_n(0xBE_u8, 10_000));
    let first = frame(HEADERS, 5, 1, &block);
    flood(&env, &first, Duration::from_secs(1), 0, |_| Vec::new()).await?;
    others_are_served(&env, "a bomb").await?;
    assert!(
        upstream.requests().iter().all(|request| request.target == "/"),
        "40 MB of headers reached the application"
    );
    Ok(())
}
