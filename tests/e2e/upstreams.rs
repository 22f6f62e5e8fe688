//! How several upstreams are used: each key of balancing, limits, addresses and TLS has its effect.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine as _;
use pomerium_testing::{Authority, Environment, RawClient, RawReply, Route, Upstream, lease, within};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

async fn start(route: Route) -> Result<Environment> {
    Environment::builder()?.route(route.public()).start().await
}

async fn named(name: &str) -> Result<Upstream> {
    let upstream = Upstream::start().await?;
    upstream.reply_with(200, &[], name);
    Ok(upstream)
}

async fn send(env: &Environment, path: &str) -> Result<RawClient> {
    let mut client = env.raw("open").await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
        env.authority_of("open")
    );
    client.send(head).await?;
    Ok(client)
}

async fn ask(env: &Environment, path: &str) -> Result<RawReply> {
    send(env, path).await?.reply(false).await
}

/// Who answers how often.
async fn share(env: &Environment, count: usize) -> Result<HashMap<String, usize>> {
    let mut share = HashMap::new();
    for _ in 0..count {
        *share.entry(ask(env, "/").await?.text()).or_default() += 1;
    }
    Ok(share)
}

#[tokio::test]
async fn weights_share_the_requests() -> Result<()> {
    let (a, b) = (named("a").await?, named("b").await?);
    let to = json!([format!("{},3", a.url()), format!("{},1", b.url())]);
    let env = start(Route::new("open", "").set("to", to)).await?;
    assert_eq!(
        share(&env, 8).await?,
        HashMap::from([("a".into(), 6), ("b".into(), 2)])
    );
    Ok(())
}

#[tokio::test]
async fn load_balancing_policy_chooses_the_upstream() -> Result<()> {
    let (a, b) = (named("a").await?, named("b").await?);
    let to = json!([a.url(), b.url()]);
    let with = |policy: &str| {
        start(
            Route::new("open", "")
                .set("to", to.clone())
                .set("load_balancing_policy", policy),
        )
    };
    for policy in ["LOAD_BALANCING_POLICY_ROUND_ROBIN", "random", "LEAST_REQUEST"] {
        let env = with(policy).await?;
        assert_eq!(share(&env, 24).await?.len(), 2, "{policy}");
    }
    for policy in ["MAGLEV", "ring_hash"] {
        let env = with(policy).await?;
        // Without a session it goes by address: the same address, the same upstream.
        assert_eq!(share(&env, 8).await?.len(), 1, "{policy}");
    }
    // The one with a request in flight is mostly passed over: it is taken when it is drawn twice.
    let env = with("least_request").await?;
    let (_gates, before) = ((a.gate("busy"), b.gate("busy")), a.requests().len());
    let mut open = send(&env, "/gated/busy").await?;
    open.wait_for_bytes(b"200").await?;
    let busy = if a.requests().len() > before { "a" } else { "b" };
    let share = share(&env, 40).await?;
    let got = share.get(busy).copied().unwrap_or(0);
    assert!(got < 20, "{busy} is busy: {share:?}");
    Ok(())
}

#[tokio::test]
async fn max_requests_refuses_what_is_too_much() -> Result<()> {
    let upstream = Upstream::start().await?;
    let gate = upstream.gate("long");
    let limits = json!({ "max_requests": 1 });
    let env = start(Route::new("open", &upstream.url()).set("circuit_breaker_thresholds", limits)).await?;
    let mut first = send(&env, "/gated/long").await?;
    gate.send("begun").await?;
    first.wait_for_bytes(b"begun").await?;
    let refused = ask(&env, "/").await?;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-envoy-overloaded"), Some("true"));
    let details = "upstream_reset_before_response_started{overflow}";
    env.log()
        .wait_json(0, "the overflow", |line| line["response-code-details"] == details)
        .await?;
    drop(gate);
    first.wait_for_bytes(b"0\r\n\r\n").await?;
    assert_eq!(ask(&env, "/").await?.status, 200, "room again");
    Ok(())
}

#[tokio::test]
async fn a_route_overrides_the_global_limits_field_by_field() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set(
            "circuit_breaker_thresholds",
            json!({ "max_requests": 0, "max_pending_requests": 0 }),
        )
        .route(Route::new("open", &upstream.url()).public().set(
            "circuit_breaker_thresholds",
            json!({ "max_requests": 5, "max_pending_requests": 5 }),
        ))
        .route(Route::new("shut", &upstream.url()).public())
        .route(
            Route::new("half", &upstream.url())
                .public()
                .set("circuit_breaker_thresholds", json!({ "max_requests": 5 })),
        )
        .start()
        .await?;
    let client = env.http1_client()?;
    let mut statuses = Vec::new();
    for name in ["open", "shut", "half"] {
        statuses.push(client.get(&env.url(name, "/")).await?.status.as_u16());
    }
    assert_eq!(statuses, [200, 503, 503]);
    Ok(())
}

/// An upstream that counts its connections and answers when it is told to.
async fn counting() -> Result<(
    SocketAddr,
    Arc<tokio::sync::Semaphore>,
    tokio::sync::watch::Receiver<usize>,
)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (answers, (accepted, count)) = (
        Arc::new(tokio::sync::Semaphore::new(0)),
        tokio::sync::watch::channel(0),
    );
    let may = answers.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            accepted.send_modify(|count| *count += 1);
            let may = may.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    let Ok(permit) = may.acquire().await else { return };
                    permit.forget();
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok((address, answers, count))
}

#[tokio::test]
async fn max_connections_makes_requests_wait_in_line() -> Result<()> {
    let (address, answers, mut accepted) = counting().await?;
    let limits = json!({ "max_connections": 1, "max_pending_requests": 2 });
    let to = format!("http://{address}");
    let env = start(Route::new("open", &to).set("circuit_breaker_thresholds", limits)).await?;
    let mut first = send(&env, "/").await?;
    within("a connection", accepted.wait_for(|count| *count == 1)).await??;
    // Two may wait; of the others every one is refused.
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(send(&env, "/").await?);
    }
    let line =
        |line: &Value| line["response-code-details"] == "upstream_reset_before_response_started{overflow}";
    within("four refusals", async {
        while env.access_log().iter().filter(|entry| line(entry)).count() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await?;
    answers.add_permits(3);
    assert_eq!(first.reply(false).await?.status, 200);
    let mut statuses = Vec::new();
    for mut client in waiting {
        statuses.push(client.reply(false).await?.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
    assert_eq!(*accepted.borrow(), 1, "never a second connection, from no worker");
    Ok(())
}

#[tokio::test]
async fn max_retries_bounds_second_attempts() -> Result<()> {
    let (down, up) = (lease()?, named("up").await?);
    let to = json!([format!("http://127.0.0.1:{}", down.number()), up.url()]);
    let env = start(Route::new("open", "").set("to", to.clone())).await?;
    assert_eq!(share(&env, 4).await?, HashMap::from([("up".into(), 4)]));
    let limits = json!({ "max_retries": 0 });
    let env = start(
        Route::new("open", "")
            .set("to", to)
            .set("circuit_breaker_thresholds", limits),
    )
    .await?;
    let mut refused = 0;
    for _ in 0..4 {
        refused += usize::from(ask(&env, "/").await?.status == 503);
    }
    assert_eq!(refused, 2);
    Ok(())
}

/// An upstream that answers with the address it is asked from.
async fn who_asks() -> Result<SocketAddr> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut socket, from)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let from = from.ip().to_string();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{from}", from.len());
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(address)
}

#[tokio::test]
async fn envoy_bind_config_source_address_is_where_connections_come_from() -> Result<()> {
    let to = format!("http://{}", who_asks().await?);
    let env = Environment::builder()?
        .set("envoy_bind_config_source_address", "127.0.0.77")
        .route(Route::new("open", &to).public())
        .start()
        .await?;
    assert_eq!(ask(&env, "/").await?.text(), "127.0.0.77");
    Ok(())
}

#[tokio::test]
async fn envoy_bind_config_freebind_allows_a_foreign_address() -> Result<()> {
    let upstream = who_asks().await?;
    let why = async |freebind: bool| -> Result<String> {
        let env = Environment::builder()?
            .set("envoy_bind_config_source_address", "198.51.100.7")
            .set("envoy_bind_config_freebind", freebind)
            .route(
                Route::new("open", &format!("http://{upstream}"))
                    .public()
                    .set("timeout", "3s"),
            )
            .start()
            .await?;
        ask(&env, "/").await?;
        let wanted = |line: &Value| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains("cannot be reached"))
        };
        let refused = |line: &Value| line["response-code"].as_u64().is_some_and(|code| code >= 503);
        let line = env
            .log()
            .wait_json(0, "what went wrong", |line| wanted(line) || refused(line))
            .await?;
        Ok(line.to_string())
    };
    // EADDRNOTAVAIL without it; with it the socket is bound, and only the way back is missing here.
    assert!(why(false).await?.contains("os error 99"));
    assert!(!why(true).await?.contains("os error 99"));
    Ok(())
}

#[tokio::test]
async fn a_source_of_the_other_family_is_an_error_and_not_ignored() -> Result<()> {
    let to = format!("http://{}", who_asks().await?);
    let env = Environment::builder()?
        .set("envoy_bind_config_source_address", "::1")
        .route(Route::new("open", &to).public())
        .start()
        .await?;
    assert_eq!(ask(&env, "/").await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn an_upstream_certificate_must_be_trusted() -> Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start_tls(&authority, &["127.0.0.1"], true).await?;
    let route = || Route::new("open", &upstream.url());
    let env = start(route()).await?;
    assert_eq!(ask(&env, "/").await?.status, 503, "nobody vouches for it");
    let env = start(route().set("tls_custom_ca", base64(authority.pem()))).await?;
    assert_eq!(ask(&env, "/").await?.status, 200);
    let file = env.folder().join("ca.pem");
    std::fs::write(&file, authority.pem())?;
    let env = start(route().set("tls_custom_ca_file", file.to_string_lossy().into_owned())).await?;
    assert_eq!(ask(&env, "/").await?.status, 200);
    let other = Authority::new()?;
    let env = start(route().set("tls_custom_ca", base64(other.pem()))).await?;
    assert_eq!(ask(&env, "/").await?.status, 503, "another authority");
    let mut env = start(route().set("tls_skip_verify", true)).await?;
    assert_eq!(ask(&env, "/").await?.status, 200);
    let loud = |line: &Value| {
        line["level"]
            .as_str()
            .is_some_and(|level| level.eq_ignore_ascii_case("warn"))
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("tls_skip_verify"))
    };
    env.log().wait_json(0, "a warning", loud).await?;
    // At each load, also where the route stays as it is.
    let mark = env.log().mark();
    env.rewrite_config(|config| config["timeout_idle"] = "4m".into())?;
    env.log().wait_json(mark, "another warning", loud).await?;
    Ok(())
}

#[tokio::test]
async fn the_server_name_is_sent_and_verified() -> Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start_tls(&authority, &["wiki.internal.example.com"], false).await?;
    let with = |key: &str, name: &str| {
        let route = Route::new("open", &upstream.url()).set("tls_custom_ca", base64(authority.pem()));
        if key.is_empty() {
            route
        } else {
            route.set(key, name)
        }
    };
    for (key, name, status) in [
        ("", "", 503),
        ("tls_server_name", "wiki.internal.example.com", 200),
        ("tls_upstream_server_name", "wiki.internal.example.com", 200),
        ("tls_server_name", "other.internal.example.com", 503),
        ("tls_upstream_server_name", "*.internal.example.com", 200),
        ("tls_upstream_server_name", "*.external.example.com", 503),
    ] {
        let env = start(with(key, name)).await?;
        assert_eq!(ask(&env, "/").await?.status, status, "{key}: {name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_upstream() -> Result<()> {
    let authority = Authority::new()?;
    let trust = Arc::new(authority.roots()?);
    let leaf = authority.issue(&["127.0.0.1"])?;
    pomerium_testing::install_crypto_provider();
    let verifier = rustls::server::WebPkiClientVerifier::builder(trust).build()?;
    let chain = vec![CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())?;
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    let upstream = Upstream::start_tls_with(config).await?;
    let route = || Route::new("open", &upstream.url()).set("tls_custom_ca", base64(authority.pem()));
    let env = start(route()).await?;
    assert_eq!(ask(&env, "/").await?.status, 503, "without one it lets nobody in");
    let own = authority.issue(&["proxy.example.com"])?;
    let env = start(
        route()
            .set("tls_client_cert", base64(&own.certificate_pem))
            .set("tls_client_key", base64(&own.key_pem)),
    )
    .await?;
    assert_eq!(ask(&env, "/").await?.status, 200);
    let (certificate, key) = (env.folder().join("client.pem"), env.folder().join("client.key"));
    std::fs::write(&certificate, &own.certificate_pem)?;
    std::fs::write(&key, &own.key_pem)?;
    let env = start(
        route()
            .set("tls_client_cert_file", certificate.to_string_lossy().into_owned())
            .set("tls_client_key_file", key.to_string_lossy().into_owned()),
    )
    .await?;
    assert_eq!(ask(&env, "/").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn h2c_and_alpn_decide_which_http_is_spoken() -> Result<()> {
    let (plain, authority) = (Upstream::start().await?, Authority::new()?);
    let both = Upstream::start_tls(&authority, &["127.0.0.1"], true).await?;
    let old = Upstream::start_tls(&authority, &["127.0.0.1"], false).await?;
    for (to, from, version) in [
        (plain.url(), &plain, "HTTP/1.1"),
        (plain.h2c_url(), &plain, "HTTP/2.0"),
        (both.url(), &both, "HTTP/2.0"),
        (old.url(), &old, "HTTP/1.1"),
    ] {
        let env = start(Route::new("open", &to).set("tls_custom_ca", base64(authority.pem()))).await?;
        assert_eq!(ask(&env, "/").await?.status, 200, "{to}");
        let seen = from.take_requests();
        assert_eq!(seen.first().context("no request")?.version, version, "{to}");
    }
    let env = start(
        Route::new("open", &both.url())
            .set("tls_custom_ca", base64(authority.pem()))
            .set("allow_websockets", true),
    )
    .await?;
    assert_eq!(ask(&env, "/").await?.status, 200);
    assert_eq!(both.take_requests()[0].version, "HTTP/1.1", "WebSockets need it");
    for (to, from) in [(plain.h2c_url(), &plain), (both.url(), &both)] {
        let route = Route::new("open", &to)
            .set("tls_custom_ca", base64(authority.pem()))
            .set("allow_upgrades", vec!["spdy/3.1"]);
        let env = start(route).await?;
        let mut client = env.raw("open").await?;
        let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n", env.authority_of("open"));
        // The application declines the upgrade; its connection serves nobody else.
        for (more, version) in [
            ("", "HTTP/2.0"),
            ("Connection: Upgrade\r\nUpgrade: spdy/3.1\r\n", "HTTP/1.1"),
            ("", "HTTP/2.0"),
        ] {
            client.send(format!("{ask}{more}\r\n")).await?;
            assert_eq!(client.reply(false).await?.status, 200, "{to}: {more}");
            let seen = from.take_requests();
            assert_eq!(
                seen.first().context("no request")?.version,
                version,
                "{to}: {more}"
            );
        }
    }
    Ok(())
}

/// Where it turned out that HTTP/1.1 is spoken, an upgrade takes an unused connection, also when there may be no more.
#[tokio::test]
async fn an_upgrade_takes_an_unused_connection() -> Result<()> {
    let authority = Authority::new()?;
    let old = Upstream::start_tls(&authority, &["127.0.0.1"], false).await?;
    let route = Route::new("open", &old.url())
        .set("tls_custom_ca", base64(authority.pem()))
        .set("allow_upgrades", vec!["spdy/3.1"])
        .set("circuit_breaker_thresholds", json!({ "max_connections": 1 }));
    let env = start(route).await?;
    let mut client = env.raw("open").await?;
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n", env.authority_of("open"));
    for more in ["", "Connection: Upgrade\r\nUpgrade: spdy/3.1\r\n", ""] {
        client.send(format!("{ask}{more}\r\n")).await?;
        assert_eq!(client.reply(false).await?.status, 200, "{more}");
    }
    Ok(())
}
