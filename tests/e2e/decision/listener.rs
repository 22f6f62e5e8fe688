//! The listener itself: TLS, certificates of peers, reload, a process that takes over.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pomerium_testing::{
    ClientAuthority, ClientCertificate, Environment, RawClient, Route, TlsClient, Upstream, lease,
};
use serde_json::json;

/// The head of a question about the route `open`.
fn question(env: &Environment) -> String {
    format!(
        "GET /forward-auth HTTP/1.1\r\nHost: decision\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: {}\r\nX-Forwarded-Uri: /\r\n\r\n",
        env.authority_of("open")
    )
}

async fn ask(env: &Environment, address: SocketAddr) -> Result<u16> {
    let mut client = RawClient::connect(address, None).await?;
    client.send(question(env)).await?;
    Ok(client.reply(false).await?.status)
}

#[tokio::test]
async fn peers_show_a_certificate_where_one_is_wanted() -> Result<()> {
    let asked = lease()?;
    let (ca, stranger) = (
        ClientAuthority::new("Proxies")?,
        ClientAuthority::new("Stranger")?,
    );
    let upstream = Upstream::start().await?;
    let builder = Environment::builder()?;
    let leaf = builder.authority().issue(&["decision.example.com"])?;
    let env = builder
        .set(
            "decision_listener",
            json!({
                "address": format!("127.0.0.1:{}", asked.number()),
                "trusted_peers": ["127.0.0.0/8"],
                "tls_certificate": STANDARD.encode(&leaf.certificate_pem),
                "tls_key": STANDARD.encode(&leaf.key_pem),
                "tls_client_ca": STANDARD.encode(ca.pem()),
            }),
        )
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let address = SocketAddr::from(([127, 0, 0, 1], asked.number()));
    let known = ca.issue(&ClientCertificate::new(1))?;
    let unknown = stranger.issue(&ClientCertificate::new(1))?;
    for (identity, allowed) in [(Some(&known), true), (Some(&unknown), false), (None, false)] {
        let client = TlsClient::new(address, env.authority(), identity, &["http/1.1"])?;
        // With TLS 1.3 a client learns of the refusal when it reads.
        let answer = client
            .get("decision.example.com", "decision.example.com", "/ping")
            .await;
        let got_in = answer.as_ref().is_ok_and(|answer| answer.status() == 200);
        assert_eq!(got_in, allowed, "{:?}", answer.map(|answer| answer.status()));
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_opens_moves_and_closes_the_listener_and_changes_its_peers() -> Result<()> {
    let (first, second) = (lease()?, lease()?);
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let at = |port: &pomerium_testing::Port| SocketAddr::from(([127, 0, 0, 1], port.number()));
    let (first, second) = (at(&first), at(&second));
    let reload = async |env: &mut Environment, listener: serde_json::Value| -> Result<()> {
        let mark = env.log().mark();
        env.rewrite_config(|config| config["decision_listener"] = listener)?;
        env.log()
            .wait_json(mark, "the reload", |line| {
                line["message"] == "config: loaded configuration"
            })
            .await?;
        Ok(())
    };
    reload(
        &mut env,
        json!({ "address": first.to_string(), "trusted_peers": ["127.0.0.1"] }),
    )
    .await?;
    assert_eq!(ask(&env, first).await?, 200);

    let mut open = RawClient::connect(first, None).await?;
    open.send(question(&env)).await?;
    assert_eq!(open.reply(false).await?.status, 200);
    reload(
        &mut env,
        json!({ "address": second.to_string(), "trusted_peers": ["192.0.2.1"] }),
    )
    .await?;
    // A connection of somebody who is not trusted any more gets no further answer.
    open.send(question(&env)).await?;
    assert_eq!(open.reply(false).await?.status, 403);
    assert!(ask(&env, first).await.is_err(), "the old address is closed");
    assert!(ask(&env, second).await.is_err(), "this peer is not trusted");

    reload(
        &mut env,
        json!({ "address": second.to_string(), "trusted_peers": ["127.0.0.1"] }),
    )
    .await?;
    assert_eq!(ask(&env, second).await?, 200);
    reload(&mut env, json!(null)).await?;
    assert!(ask(&env, second).await.is_err(), "there is no listener any more");
    Ok(())
}

#[tokio::test]
async fn a_process_that_takes_over_takes_this_listener_too() -> Result<()> {
    let asked = lease()?;
    let address = SocketAddr::from(([127, 0, 0, 1], asked.number()));
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set(
            "decision_listener",
            json!({ "address": address.to_string(), "trusted_peers": ["127.0.0.1"] }),
        )
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    assert_eq!(ask(&env, address).await?, 200);
    let _next = crate::upgrade::upgrade(&env).await?;
    assert_eq!(ask(&env, address).await?, 200);
    Ok(())
}

#[tokio::test]
async fn what_would_let_anybody_ask_stops_the_start() -> Result<()> {
    for (listener, word) in [
        (json!({ "address": "127.0.0.1:9" }), "trusted_peers"),
        (
            json!({ "address": "127.0.0.1:9", "trusted_peers": [] }),
            "trusted_peers",
        ),
        (
            json!({ "address": "127.0.0.1:9", "trusted_peers": ["0.0.0.0/0"] }),
            "trusts everybody",
        ),
        (
            json!({ "address": "127.0.0.1:9", "trusted_peers": ["proxy"] }),
            "no network",
        ),
        (
            json!({ "address": ":9", "trusted_peers": ["10.0.0.1"] }),
            "allow_plain_text",
        ),
        (
            json!({ "address": "unix:/run/p.sock", "trusted_peers": ["10.0.0.1"] }),
            "UNIX sockets",
        ),
        (json!({ "trusted_peers": ["10.0.0.1"] }), "`address` is missing"),
        (
            json!({ "address": "127.0.0.1:9", "trusted_peers": ["::1"], "protocols": ["http"] }),
            "unknown protocol",
        ),
        (
            json!({ "address": "127.0.0.1:9", "trusted_peers": ["::1"], "tls_client_ca_file": "/nowhere" }),
            "tls_client_ca_file",
        ),
        (
            json!({ "address": "127.0.0.1:9", "trusted_peer": ["::1"] }),
            "trusted_peer",
        ),
    ] {
        let (status, output) = Environment::builder()?
            .set("decision_listener", listener.clone())
            .refused()
            .await
            .with_context(|| listener.to_string())?;
        let said = output.tail(50);
        ensure!(!status.success() && said.contains(word), "{listener}:\n{said}");
    }
    Ok(())
}
