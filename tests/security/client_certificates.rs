//! Client certificates that are not asked for (traefik CVE-2022-23632, CVE-2026-32305, CVE-2022-46153; caddy
//! CVE-2026-27586), and sessions that outlive the trust they began under (Envoy CVE-2022-21654): another spelling of
//! the name, a ClientHello in pieces, another host on an open connection, a file that is missing, a resumed session.

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pomerium_testing::{
    ClientAuthority, ClientCertificate, ClientIdentity, Environment, Route, TlsClient, Upstream,
};
use rustls::HandshakeKind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Stage {
    env: Environment,
    ca: ClientAuthority,
    identity: ClientIdentity,
    upstream: Upstream,
}

fn inline(ca: &ClientAuthority) -> Value {
    STANDARD.encode(ca.pem()).into()
}

async fn stage(enforcement: &str) -> Result<Stage> {
    let (ca, upstream) = (ClientAuthority::new("Clients")?, Upstream::start().await?);
    let env = Environment::builder()?
        .set(
            "downstream_mtls",
            json!({ "ca": inline(&ca), "enforcement": enforcement }),
        )
        .route(Route::new("app", &upstream.url()).public())
        .start()
        .await?;
    Ok(Stage {
        identity: ca.issue(&ClientCertificate::new(1))?,
        env,
        ca,
        upstream,
    })
}

/// A ClientHello for `name`, as bytes.
fn hello(name: &str) -> Result<Vec<u8>> {
    pomerium_testing::install_crypto_provider();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned())?;
    let mut client = rustls::ClientConnection::new(config.into(), name)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// Whether the server, after this name in whatever spelling, asks for a certificate. Asked over TLS 1.2, where the
/// request is readable.
async fn asks(env: &Environment, name: &str, hello: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Result<bool> {
    pomerium_testing::install_crypto_provider();
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned())?;
    let mut client = rustls::ClientConnection::new(config.into(), name)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    let mut stream = TcpStream::connect(env.address()).await?;
    stream.set_nodelay(true)?;
    for piece in hello(&bytes) {
        stream.write_all(&piece).await?;
        stream.flush().await?;
    }
    // The flight ends with ServerHelloDone (14, length 0); CertificateRequest is message 13 before it.
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let messages = handshake_messages(&seen);
        if messages.contains(&14) {
            return Ok(messages.contains(&13));
        }
        let read = pomerium_testing::within("the server's flight", stream.read(&mut buffer)).await??;
        if read == 0 {
            bail!("the server closed after {messages:?}");
        }
        seen.extend_from_slice(&buffer[..read]);
    }
}

/// Types of the handshake messages in whole TLS 1.2 records.
fn handshake_messages(bytes: &[u8]) -> Vec<u8> {
    let (mut payload, mut rest) = (Vec::new(), bytes);
    while rest.len() >= 5 {
        let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        if rest.len() < 5 + length {
            break;
        }
        if rest[0] == 22 {
            payload.extend_from_slice(&rest[5..5 + length]);
        }
        rest = &rest[5 + length..];
    }
    let (mut kinds, mut rest) = (Vec::new(), payload.as_slice());
    while rest.len() >= 4 {
        let length = usize::from(rest[1]) << 16 | usize::from(rest[2]) << 8 | usize::from(rest[3]);
        if rest.len() < 4 + length {
            break;
        }
        kinds.push(rest[0]);
        rest = &rest[4 + length..];
    }
    kinds
}

/// Cuts a hello into what is sent at once.
type Pieces = fn(&[u8]) -> Vec<Vec<u8>>;

/// Byte by byte, each in a TCP segment of its own.
fn trickle(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

/// The hello in several TLS records.
fn in_records(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes[5..]
        .chunks(37)
        .map(|chunk| {
            let length = u16::try_from(chunk.len()).unwrap_or_default().to_be_bytes();
            let mut record = vec![22, 3, 1, length[0], length[1]];
            record.extend_from_slice(chunk);
            record
        })
        .collect()
}

fn whole(bytes: &[u8]) -> Vec<Vec<u8>> {
    vec![bytes.to_vec()]
}

/// Gives the server name in a hello another spelling of the same length.
fn spelled(bytes: &[u8], from: &str, to: &str) -> Result<Vec<u8>> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .context("the name in the hello")?;
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    Ok(bytes)
}

#[tokio::test]
async fn a_hello_in_pieces_or_another_spelling_is_asked_all_the_same() -> Result<()> {
    let upstream = Upstream::start().await?;
    let ca = ClientAuthority::new("Clients")?;
    // Only `app` asks: a name that is not recognised would otherwise be asked for everything.
    let env = Environment::builder()?
        .route(
            Route::new("app", &upstream.url())
                .public()
                .set("tls_downstream_client_ca", inline(&ca)),
        )
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    assert!(!asks(&env, "open.example.com", whole).await?, "the control");
    for pieces in [whole as Pieces, trickle, in_records] {
        assert!(asks(&env, "app.example.com", pieces).await?);
        let shouted =
            |bytes: &[u8]| pieces(&spelled(bytes, "app.example.com", "APP.eXample.com").unwrap_or_default());
        assert!(asks(&env, "app.example.com", shouted).await?);
        // `app.example.com.`: as some clients send it.
        let dotted = |bytes: &[u8]| {
            pieces(&spelled(bytes, "xapp.example.com", "app.example.com.").unwrap_or_default())
        };
        match asks(&env, "xapp.example.com", dotted).await {
            Ok(asked) => assert!(asked),
            Err(refused) => assert!(refused.to_string().contains("closed"), "{refused}"),
        }
    }
    // Names that no route has, and none at all.
    assert!(asks(&env, "nowhere.example.com", whole).await?);
    assert!(asks(&env, "127.0.0.1", whole).await?);
    // And what is not asked opens nothing.
    let nobody = TlsClient::new(env.address(), env.authority(), None, &["http/1.1"])?;
    for host in [
        env.authority_of("app"),
        format!("APP.example.com.:{}", env.port()),
    ] {
        let answer = nobody.get("open.example.com", &host, "/").await?;
        assert_eq!(answer.status(), 421, "{host}");
    }
    assert!(upstream.take_requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn half_a_hello_opens_nothing() -> Result<()> {
    let stage = stage("reject_connection").await?;
    let bytes = hello("app.example.com")?;
    let mut stream = TcpStream::connect(stage.env.address()).await?;
    stream.write_all(&bytes[..bytes.len() / 2]).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: app.example.com\r\n\r\n")
        .await?;
    stream.shutdown().await?;
    let mut rest = Vec::new();
    pomerium_testing::within("the end", stream.read_to_end(&mut rest))
        .await?
        .ok();
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"));
    assert!(stage.upstream.take_requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_stops_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, namesake) = (ClientAuthority::new("Clients")?, ClientAuthority::new("Clients")?);
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "")?;
    let missing = folder.path().join("no-such-file.pem");
    let forged = STANDARD.encode(namesake.revocation_list(&[], true)?);
    for (mtls, says) in [
        (json!({ "ca_file": missing }), "no-such-file.pem"),
        (json!({ "ca_file": empty }), "no certificate"),
        (
            json!({ "ca": inline(&ca), "crl_file": missing }),
            "no-such-file.pem",
        ),
        (
            json!({ "ca": inline(&ca), "crl": inline(&ca) }),
            "no X.509 revocation list",
        ),
        (
            json!({ "ca": inline(&ca), "crl": forged }),
            "is not signed by the authority of that name",
        ),
    ] {
        let (status, log) = Environment::builder()?
            .set("downstream_mtls", mtls.clone())
            .route(Route::new("app", "http://127.0.0.1:9").public())
            .refused()
            .await?;
        assert!(!status.success());
        let text = log.all().join("\n");
        assert!(text.contains(says), "{mtls}: {text}");
    }
    // While running, it changes nothing.
    let mut stage = stage("policy_with_default_deny").await?;
    let mark = stage.env.log().mark();
    stage
        .env
        .rewrite_config(|config| config["downstream_mtls"] = json!({ "ca_file": missing }))?;
    stage
        .env
        .log()
        .wait_from(mark, "the refusal", |line| line.contains("no-such-file.pem"))
        .await?;
    let nobody = TlsClient::new(stage.env.address(), stage.env.authority(), None, &["h2"])?;
    let host = stage.env.authority_of("app");
    assert_eq!(nobody.get("app.example.com", &host, "/").await?.status(), 495);
    Ok(())
}

/// Connects, and says whether a session was resumed and what a request gets; `None` where the handshake is refused.
async fn visit(stage: &Stage, client: &TlsClient) -> Result<(HandshakeKind, Option<u16>)> {
    let stream = client.connect("app.example.com").await?;
    let kind = stream.get_ref().1.handshake_kind().context("a handshake")?;
    let answer = match client.ask(stream).await {
        Ok(mut requests) => requests.get(&stage.env.authority_of("app"), "/").await,
        Err(error) => Err(error),
    };
    Ok((kind, answer.ok().map(|answer| answer.status().as_u16())))
}

async fn change(stage: &mut Stage, mtls: Value) -> Result<()> {
    let mark = stage.env.log().mark();
    stage
        .env
        .rewrite_config(|config| config["downstream_mtls"] = mtls)?;
    stage
        .env
        .log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    Ok(())
}

#[tokio::test]
async fn no_session_outlives_the_trust_it_began_under() -> Result<()> {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for enforcement in ["policy_with_default_deny", "reject_connection"] {
            let mut stage = stage(enforcement).await?;
            let refused = (enforcement == "policy_with_default_deny").then_some(495);
            let client = TlsClient::with_versions(
                stage.env.address(),
                stage.env.authority(),
                Some(&stage.identity),
                &["http/1.1"],
                &[version],
            )?;
            assert_eq!(visit(&stage, &client).await?, (HandshakeKind::Full, Some(200)));
            assert_eq!(
                visit(&stage, &client).await?,
                (HandshakeKind::Resumed, Some(200)),
                "the certificate comes with the session"
            );
            let ca = inline(&stage.ca);
            let list = STANDARD.encode(stage.ca.revocation_list(&[1], true)?);
            let other = inline(&ClientAuthority::new("Others")?);
            for changed in [
                json!({ "ca": ca, "crl": list }),
                json!({ "ca": ca, "match_subject_alt_names": [{ "dns": "nobody" }] }),
                json!({ "ca": other }),
            ] {
                let mut changed = changed;
                changed["enforcement"] = enforcement.into();
                change(&mut stage, changed.clone()).await?;
                for _ in 0..2 {
                    let visited = visit(&stage, &client).await;
                    match visited {
                        // A session that was begun under the changed trust may be resumed; it is judged again.
                        Ok((_, status)) => assert_eq!(status, refused, "{changed}"),
                        Err(_) => assert_eq!(refused, None, "{changed}"),
                    }
                }
                // Back, so that there is a session to resume when the next change comes.
                change(&mut stage, json!({ "ca": ca, "enforcement": enforcement })).await?;
                let (kind, status) = visit(&stage, &client).await?;
                assert_eq!(
                    (kind, status),
                    (HandshakeKind::Full, Some(200)),
                    "new ticket keys"
                );
                assert_eq!(visit(&stage, &client).await?.0, HandshakeKind::Resumed);
            }
        }
    }
    Ok(())
}

/// A connection from before the demand is told to come again.
#[tokio::test]
async fn an_open_connection_is_held_to_a_new_demand() -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(Route::new("app", &upstream.url()).public())
        .start()
        .await?;
    let client = TlsClient::new(env.address(), env.authority(), None, &["h2"])?;
    let mut open = client.ask(client.connect("app.example.com").await?).await?;
    let host = env.authority_of("app");
    assert_eq!(open.get(&host, "/").await?.status(), 200);
    let ca = inline(&ClientAuthority::new("Clients")?);
    for (enforcement, later) in [
        ("policy_with_default_deny", Some(495)),
        ("reject_connection", None),
    ] {
        let mark = env.log().mark();
        env.rewrite_config(|config| {
            config["downstream_mtls"] = json!({ "ca": ca, "enforcement": enforcement });
        })?;
        env.log()
            .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
            .await?;
        for path in ["/", "/ping"] {
            assert_eq!(open.get(&host, path).await?.status(), 421, "{enforcement}");
        }
        let answer = client.get("app.example.com", &host, "/").await;
        assert_eq!(answer.ok().map(|answer| answer.status().as_u16()), later);
    }
    Ok(())
}
