//! Client certificates over HTTP/3. Browsers show them over TCP only: hosts that ask for one do not tell of HTTP/3, and send a
//! client that shows nothing back.

use pomerium_testing::Http3Client;

use super::*;

async fn http3(env: &Environment, identity: Option<&ClientIdentity>, name: &str) -> Result<Http3Client> {
    let host = format!("{name}.example.com");
    Http3Client::connect_as(env.address(), env.authority(), &host, identity).await
}

async fn over_quic(env: &Environment, identity: Option<&ClientIdentity>, name: &str) -> Result<u16> {
    let client = http3(env, identity, name).await?;
    Ok(client.get(&env.url(name, "/")).await?.status.as_u16())
}

/// Whether answers of the host over TCP tell of HTTP/3.
async fn told(env: &Environment, identity: Option<&ClientIdentity>, name: &str) -> Result<bool> {
    let host = format!("{name}.example.com");
    let asking = client(env, identity, "h2")?;
    let answer = asking.get(&host, &env.authority_of(name), "/").await?;
    Ok(answer.headers().contains_key("alt-svc"))
}

#[tokio::test]
async fn a_certificate_counts_there_too() -> Result<()> {
    let (clients, upstream) = (clients()?, Upstream::start().await?);
    for enforcement in [None, Some("policy")] {
        let env = routes(Environment::builder()?, &upstream)
            .set("codec_type", "http3")
            .set("downstream_mtls", settings(&clients, enforcement)?)
            .start()
            .await?;
        assert_eq!(over_quic(&env, Some(&clients.valid), "named").await?, 200);
        let seen = upstream.take_requests().pop().context("a request")?;
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        for (flaw, identity) in &clients.flawed {
            assert_eq!(over_quic(&env, Some(identity), "named").await?, 495, "{flaw}");
        }
        assert_eq!(over_quic(&env, None, "named").await?, 421);
        assert!(!told(&env, Some(&clients.valid), "named").await?);
        assert!(upstream.take_requests().len() <= 1, "that over TCP");
    }
    Ok(())
}

#[tokio::test]
async fn the_handshake_may_reject_there_too() -> Result<()> {
    let (clients, upstream) = (clients()?, Upstream::start().await?);
    let env = routes(Environment::builder()?, &upstream)
        .set("codec_type", "http3")
        .set("downstream_mtls", settings(&clients, Some("reject_connection"))?)
        .start()
        .await?;
    assert_eq!(over_quic(&env, Some(&clients.valid), "app").await?, 200);
    upstream.take_requests();
    let strangers = clients
        .flawed
        .iter()
        .map(|(flaw, identity)| (*flaw, Some(identity)));
    for (flaw, identity) in strangers.chain([("presented no certificate", None)]) {
        let refused = over_quic(&env, identity, "app").await;
        assert!(refused.is_err(), "{flaw}: {refused:?}");
        let noted = |line: &Value| {
            let reason = line["downstream-transport-failure-reason"].as_str();
            reason.is_some_and(|reason| reason.contains(flaw))
        };
        let line = env.log().wait_json(0, flaw, noted).await?;
        assert_eq!(line["tls-sni-hostname"], APP);
        assert_eq!(line["client-certificate"].is_object(), identity.is_some());
    }
    assert!(upstream.take_requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_host_with_an_authority_of_its_own_is_reached_over_tcp() -> Result<()> {
    let (own, upstream) = (ClientAuthority::new("Own")?, Upstream::start().await?);
    let identity = own.issue(&ClientCertificate::new(1))?;
    let mut env = Environment::builder()?
        .set("codec_type", "http3")
        .route(
            Route::new("own", &upstream.url())
                .public()
                .set("tls_downstream_client_ca", inline(own.pem())),
        )
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    // Nobody is asked, because most hosts do not ask; so the host that does sends everybody back.
    assert_eq!(over_quic(&env, Some(&identity), "open").await?, 200);
    assert_eq!(over_quic(&env, Some(&identity), "own").await?, 421);
    assert!(told(&env, None, "open").await?);
    assert!(!told(&env, Some(&identity), "own").await?);

    // A connection from before goes on where it may, and no further.
    let before = http3(&env, None, "open").await?;
    assert_eq!(before.get(&env.url("open", "/")).await?.status, 200);
    let mtls = json!({ "ca": inline(own.pem()) });
    let mark = env.log().mark();
    env.rewrite_config(|config| config["downstream_mtls"] = mtls)?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    assert_eq!(before.get(&env.url("open", "/")).await?.status, 421);
    assert_eq!(over_quic(&env, None, "open").await?, 421);
    assert_eq!(over_quic(&env, Some(&identity), "open").await?, 200);
    assert_eq!(over_quic(&env, Some(&identity), "own").await?, 200);
    Ok(())
}
