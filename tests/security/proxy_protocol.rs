//! PROXY protocol (spec proxy.md 1.4): who the client is, believed from those who may say so, and from nobody in
//! a form that could be read in two ways.

use anyhow::{Context, Result};
use pomerium_testing::{Environment, EnvironmentBuilder, Program, RawClient, Route, Upstream, lease, tools};
use serde_json::json;

async fn stage(
    change: impl FnOnce(EnvironmentBuilder) -> EnvironmentBuilder,
) -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let inner = json!([{ "allow": { "or": [{ "source_ip": "192.0.2.0/24" }] } }]);
    let builder = Environment::builder()?
        .set("use_proxy_protocol", true)
        .set("access_log_fields", json!(["ip"]))
        .route(Route::new("open", &upstream.url()).public())
        .route(Route::new("inner", &upstream.url()).policy(inner));
    Ok((change(builder).start().await?, upstream))
}

fn plain(builder: EnvironmentBuilder) -> EnvironmentBuilder {
    builder.set("insecure_server", true)
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// 192.0.2.9:1234 → 198.51.100.1:443, with a TLV behind.
const ADDRESSES: [u8; 16] = [192, 0, 2, 9, 198, 51, 100, 1, 4, 210, 1, 187, 0x20, 0, 1, 7];

/// What comes back for a header followed by a request.
async fn asked(env: &Environment, header: &[u8], name: &str) -> Result<String> {
    let mut client = RawClient::connect(env.address(), None).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n",
        env.authority_of(name)
    );
    // It may be closed before all is sent.
    let _ = client.send([header, request.as_bytes()].concat()).await;
    Ok(String::from_utf8_lossy(&client.read_to_close().await?).into_owned())
}

#[tokio::test]
async fn the_client_is_the_one_that_the_header_names() -> Result<()> {
    let (env, upstream) = stage(plain).await?;
    for (name, header, client) in [
        (
            "version 1",
            b"PROXY TCP4 192.0.2.9 198.51.100.1 1234 443\r\n".to_vec(),
            "192.0.2.9",
        ),
        (
            "version 1, IPv6",
            b"PROXY TCP6 2001:db8::9 ::1 1234 443\r\n".to_vec(),
            "2001:db8::9",
        ),
        ("version 2", v2(1, 0x11, &ADDRESSES), "192.0.2.9"),
        ("unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("local", v2(0, 0, &[]), "127.0.0.1"),
    ] {
        let answer = asked(&env, &header, "open").await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        let request = upstream.take_requests().pop().context("a request")?;
        // What the client says itself stands in front and is believed by nobody.
        let wanted = format!("203.0.113.7,{client}");
        assert_eq!(request.header("x-forwarded-for"), Some(wanted.as_str()), "{name}");
        let external = request.header("x-envoy-external-address");
        assert_eq!(external, (client != "127.0.0.1").then_some(client), "{name}");
        env.log()
            .wait_json(0, "the access log", |line| {
                line["message"] == "http-request" && line["ip"] == client
            })
            .await?;
        // The policy sees the same client.
        let answer = asked(&env, &header, "inner").await?;
        let allowed = answer.starts_with("HTTP/1.1 200 ");
        assert_eq!(allowed, client.starts_with("192.0.2."), "{name}: {answer}");
        upstream.take_requests();
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_without_a_good_header_is_closed() -> Result<()> {
    let (env, upstream) = stage(plain).await?;
    let mut two = b"PROXY TCP4 192.0.2.9 198.51.100.1 1234 443\r\n".to_vec();
    two.extend_from_slice(b"PROXY TCP4 192.0.2.10 198.51.100.1 1234 443\r\n");
    for (name, header) in [
        ("none", Vec::new()),
        (
            "line feed only",
            b"PROXY TCP4 192.0.2.9 198.51.100.1 1234 443\n".to_vec(),
        ),
        (
            "wrong family",
            b"PROXY TCP4 2001:db8::9 ::1 1234 443\r\n".to_vec(),
        ),
        ("no ports", b"PROXY TCP4 192.0.2.9 198.51.100.1\r\n".to_vec()),
        (
            "a name",
            b"PROXY TCP4 inner.example.com 198.51.100.1 1 2\r\n".to_vec(),
        ),
        (
            "too long",
            [&b"PROXY UNKNOWN "[..], &[b'x'; 4096], b"\r\n"].concat(),
        ),
        ("announces 64 kB", v2(1, 0x11, &[0; 65535])),
        ("too short for its family", v2(1, 0x21, &ADDRESSES)),
        ("unknown command", v2(7, 0x11, &ADDRESSES)),
        ("datagrams", v2(1, 0x12, &ADDRESSES)),
        ("a blank in front", b" PROXY UNKNOWN\r\n".to_vec()),
    ] {
        let answer = asked(&env, &header, "open").await?;
        assert!(answer.is_empty(), "{name}: {answer}");
    }
    // A second header is no request.
    let answer = asked(&env, &two, "open").await?;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert!(upstream.requests().is_empty());
    let refused = |line: &str| line.contains("use_proxy_protocol: a connection is closed");
    env.log().wait("a line about it", refused).await?;
    Ok(())
}

#[tokio::test]
async fn a_flood_of_bad_headers_does_not_flood_the_log() -> Result<()> {
    let (env, _upstream) = stage(plain).await?;
    let start = std::time::Instant::now();
    for _ in 0..200 {
        asked(&env, b"", "open").await?;
    }
    let most = usize::try_from(start.elapsed().as_secs())? + 2;
    let workers = std::thread::available_parallelism()?.get();
    let lines = env.log().all();
    let count = lines
        .iter()
        .filter(|line| line.contains("use_proxy_protocol: a connection"))
        .count();
    assert!(
        (1..=most * workers).contains(&count),
        "{count} lines for 200 connections"
    );
    Ok(())
}

#[tokio::test]
async fn only_trusted_proxies_name_clients() -> Result<()> {
    let header = v2(1, 0x11, &ADDRESSES);
    let (env, upstream) =
        stage(|builder| plain(builder).set("trusted_proxies", json!(["198.51.100.0/24"]))).await?;
    assert_eq!(asked(&env, &header, "open").await?, "");
    assert!(upstream.requests().is_empty());
    let (env, upstream) =
        stage(|builder| plain(builder).set("trusted_proxies", json!(["127.0.0.0/8"]))).await?;
    assert!(asked(&env, &header, "open").await?.contains(" 200 "));
    let request = upstream.take_requests().pop().context("a request")?;
    // The client that it names is not one of the proxies: what it forwards is not believed.
    assert_eq!(request.header("x-envoy-external-address"), Some("192.0.2.9"));
    Ok(())
}

#[tokio::test]
async fn the_redirect_listener_wants_it_too() -> Result<()> {
    let redirect = lease()?;
    let address = format!("127.0.0.1:{}", redirect.number());
    let (_env, _upstream) = stage(|builder| builder.set("http_redirect_addr", address.as_str())).await?;
    let request = "GET /x HTTP/1.1\r\nHost: open.example.com\r\n\r\n";
    let mut client = RawClient::connect(address.parse()?, None).await?;
    let _ = client.send(request).await;
    assert!(client.read_to_close().await?.is_empty());
    let mut client = RawClient::connect(address.parse()?, None).await?;
    client.send(format!("PROXY UNKNOWN\r\n{request}")).await?;
    assert_eq!(client.reply(false).await?.status, 301);
    Ok(())
}

#[tokio::test]
async fn curl_and_haproxy_speak_it_to_us() -> Result<()> {
    let (env, upstream) = stage(|builder| builder).await?;
    let authority = env.folder().join("authority.pem");
    std::fs::write(&authority, env.authority().pem())?;
    let status = tokio::process::Command::new(tools::find("curl")?)
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--output",
            "/dev/null",
            "--haproxy-protocol",
        ])
        .args([
            "--noproxy",
            "*",
            "--resolve",
            &format!("{}:127.0.0.1", env.authority_of("open")),
        ])
        .arg("--cacert")
        .arg(&authority)
        .arg(env.url("open", "/curl"))
        .status()
        .await?;
    assert!(status.success());
    assert_eq!(upstream.take_requests().len(), 1);
    for send in ["send-proxy", "send-proxy-v2"] {
        let front = lease()?;
        let config = env.folder().join("haproxy.cfg");
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen front\n  bind 127.0.0.1:{}\n  server pomerium {} {send}\n",
            front.number(),
            env.address()
        );
        std::fs::write(&config, text)?;
        let mut command = tokio::process::Command::new(tools::find("haproxy")?);
        command.arg("-db").arg("-f").arg(&config);
        let program = Program::start(command)?;
        let from = [127, 0, 0, 77].into();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], front.number()));
        let connect = async || {
            RawClient::connect_tls(
                address,
                Some(from),
                env.authority(),
                "open.example.com",
                &["http/1.1"],
            )
            .await
        };
        let mut client = pomerium_testing::within("haproxy", async {
            loop {
                match connect().await {
                    Ok(client) => break client,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        })
        .await?;
        let host = env.authority_of("open");
        client
            .send(format!("GET /haproxy HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await?;
        assert_eq!(
            client.reply(false).await?.status,
            200,
            "{}",
            program.output().tail(5)
        );
        let request = upstream.take_requests().pop().context("a request")?;
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.77"), "{send}");
    }
    Ok(())
}
