//! Clients that send slowly, read slowly or make no room: each costs its own request and nobody else's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use pomerium_testing::{Environment, Http3Client, Route, Upstream, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// Between two bytes of a client that drips.
const DRIP: Duration = Duration::from_millis(130);

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set("timeout_read", "1s")
        .set("codec_type", "http3")
        .route(
            Route::new("open", &upstream.url())
                .public()
                .set("idle_timeout", "1s"),
        )
        .start()
        .await?;
    Ok((env, upstream))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A GET as header block, fields as literals (RFC 7541, 6.2.2).
fn get(authority: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", "/"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap_or(126));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Speaks HTTP/2.
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

#[tokio::test]
async fn a_client_that_makes_no_room_loses_its_stream_and_only_that() -> Result<()> {
    let (env, upstream) = stage().await?;
    let mut stream = connect(&env).await?;
    // SETTINGS_INITIAL_WINDOW_SIZE 0: not one byte of a body may come.
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    bytes.extend(frame(HEADERS, 5, 1, &get(&env.authority_of("open"))));
    bytes.extend(frame(HEADERS, 5, 3, &get(&env.authority_of("open"))));
    stream.write_all(&bytes).await?;
    let mut reset = Vec::new();
    within("both streams to be reset", async {
        while reset.len() < 2 {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await?;
            anyhow::ensure!(head[3] != GOAWAY, "the connection goes on");
            if head[3] == RST_STREAM {
                reset.push(head[8]);
            }
        }
        Ok(())
    })
    .await??;
    reset.sort_unstable();
    assert_eq!(reset, [1, 3]);
    assert_eq!(upstream.requests().len(), 2);
    env.log()
        .wait_json(0, "the access log", |line| {
            line["message"] == "http-request" && line["response-code-details"] == "stream_idle_timeout"
        })
        .await?;
    assert_eq!(env.client()?.get(&env.url("open", "/")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_408_on_routes_and_on_our_own_paths() -> Result<()> {
    let (env, upstream) = stage().await?;
    for (name, path) in [
        ("open", "/form"),
        ("open", "/.pomerium/sign_out"),
        ("auth", "/.pomerium/sign_out"),
    ] {
        let mut client = env.raw(name).await?;
        let host = env.authority_of(name);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 100\r\n\r\na="
        );
        client.send(head).await?;
        let reply = client.reply(false).await?;
        // A path that reads no body answers at once; none blames the application.
        assert!(
            matches!(reply.status, 400..=499 | 302),
            "{name}{path}: {}",
            reply.status
        );
        if name == "open" && path == "/form" {
            assert_eq!(reply.status, 408);
            assert_eq!(reply.header("connection"), Some("close"));
        }
    }
    assert!(upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_head_that_drips_is_a_408() -> Result<()> {
    let (env, upstream) = stage().await?;
    let mut client = env.raw("open").await?;
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\n", env.authority_of("open"));
    for byte in head.bytes().chain(std::iter::repeat(b'x')) {
        // It may be closed at this moment; the answer is here then.
        if client.send([byte]).await.is_err() {
            break;
        }
        let answered = client.wait_for_bytes(b"\r\n\r\n");
        if let Ok(answered) = tokio::time::timeout(DRIP, answered).await {
            answered?;
            break;
        }
    }
    let reply = client.reply(false).await?;
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    assert!(client.read_to_close().await?.is_empty());
    assert!(upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_head_in_frames_that_does_not_end_is_cut() -> Result<()> {
    let (env, upstream) = stage().await?;
    // END_STREAM without END_HEADERS.
    let begun = frame(HEADERS, 1, 1, &get(&env.authority_of("open")));
    let whole = frame(HEADERS, 5, 1, &get(&env.authority_of("open")));
    let drop_of = frame(CONTINUATION, 0, 1, &[0, 1, b'x', 0]);
    for (name, first, drip) in [
        ("a preface that stops", PREFACE[..10].to_vec(), Vec::new()),
        ("a head that stops", begun.clone(), Vec::new()),
        (
            "a head that stops inside a frame",
            whole[..20].to_vec(),
            Vec::new(),
        ),
        ("a head that drips", begun, drop_of),
    ] {
        let (mut reader, mut writer) = tokio::io::split(connect(&env).await?);
        if first.first() != PREFACE.first() {
            writer.write_all(PREFACE).await?;
            writer.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        }
        writer.write_all(&first).await?;
        writer.flush().await?;
        let dripping = async {
            while writer.write_all(&drip).await.is_ok() && writer.flush().await.is_ok() {
                tokio::time::sleep(DRIP).await;
            }
        };
        let ended = async {
            let mut buffer = [0; 1024];
            while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        };
        within(name, async {
            tokio::select! {
                () = dripping => {}
                () = ended => {}
            }
        })
        .await?;
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(env.client()?.get(&env.url("open", "/")).await?.status, 200);
    Ok(())
}

/// `timeout_idle`: GOAWAY tells a client that what it sends now is not looked at.
#[tokio::test]
async fn an_idle_connection_in_frames_is_told_before_it_is_closed() -> Result<()> {
    const PING: u8 = 6;
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set("timeout_idle", "1s")
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let mut stream = connect(&env).await?;
    stream.write_all(PREFACE).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream
        .write_all(&frame(HEADERS, 5, 1, &get(&env.authority_of("open"))))
        .await?;
    let mut seen = Vec::new();
    within("the end of the connection", async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return Ok(());
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await?;
            if head[3] == PING && head[4] == 0 {
                stream.write_all(&frame(PING, 1, 0, &payload)).await?;
            }
            if matches!(head[3], HEADERS | GOAWAY) {
                // Of GOAWAY the code: no error.
                seen.push((head[3], payload.get(4..8).map(<[u8]>::to_vec)));
            }
        }
        #[allow(unreachable_code)]
        anyhow::Ok(())
    })
    .await??;
    let goodbye = (GOAWAY, Some(vec![0; 4]));
    assert_eq!(
        seen.first().map(|(kind, _)| *kind),
        Some(HEADERS),
        "it was served"
    );
    assert!(
        seen.len() > 1 && seen[1..].iter().all(|frame| *frame == goodbye),
        "{seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_head_over_quic_that_does_not_end_costs_its_stream() -> Result<()> {
    // H3_REQUEST_INCOMPLETE
    const INCOMPLETE: u32 = 0x10d;
    let (env, upstream) = stage().await?;
    let client = Http3Client::connect(env.address(), env.authority(), "open.example.com").await?;
    for drips in [false, true] {
        let (mut send, mut receive) = client.quic().open_bi().await?;
        // HEADERS of 100 bytes, of which two come.
        send.write_all(&[1, 0x40, 100, 0, 0]).await?;
        let dripping = async {
            while drips && send.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(DRIP).await;
            }
            std::future::pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                () = dripping => Ok(None),
                ended = receive.read_chunk(1, true) => ended,
            }
        };
        match within("the end of the stream", ended).await? {
            Err(quinn::ReadError::Reset(code)) => assert_eq!(code, quinn::VarInt::from_u32(INCOMPLETE)),
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(client.get(&env.url("open", "/")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_old_client_is_told_to_upgrade_and_nothing_else() -> Result<()> {
    let (env, _upstream) = stage().await?;
    let mut client = env.raw("open").await?;
    let host = env.authority_of("open");
    client
        .send(format!(
            "GET / HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\r\n"
        ))
        .await?;
    let answer = String::from_utf8(client.read_to_close().await?)?;
    assert!(answer.contains(" 426 "), "{answer}");
    let head = answer
        .split("\r\n\r\n")
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let connection: Vec<_> = head
        .lines()
        .filter(|line| line.starts_with("connection:"))
        .collect();
    assert_eq!(connection, ["connection: close"], "{answer}");
    Ok(())
}

#[tokio::test]
async fn requests_sent_ahead_wait_and_answers_nobody_reads_are_not_piled_up() -> Result<()> {
    let (env, upstream) = stage().await?;
    let mut client = env.raw("open").await?;
    let one = format!(
        "GET /ahead HTTP/1.1\r\nHost: {}\r\n\r\n",
        env.authority_of("open")
    );
    let many = one.repeat(1000);
    // As much as fits; nothing is read meanwhile.
    let sent = tokio::time::timeout(std::time::Duration::from_secs(1), async {
        loop {
            client.send(&many).await?;
        }
        #[allow(unreachable_code)]
        anyhow::Ok(())
    })
    .await;
    assert!(
        sent.is_err() || sent.is_ok_and(|sent| sent.is_err()),
        "without end"
    );
    let passed = upstream.requests().len();
    assert!(passed < 200_000, "{passed} requests were answered to nobody");
    assert_eq!(env.client()?.get(&env.url("open", "/")).await?.status, 200);
    Ok(())
}
