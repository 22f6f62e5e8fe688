//! Bodies flow both ways as they come.

use anyhow::Result;
use http::Method;
use pomerium_testing::{Environment, RawClient, Route, Upstream};

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    Ok((env, upstream))
}

#[tokio::test]
async fn the_first_part_arrives_before_the_second_is_sent() -> Result<()> {
    let (env, upstream) = stage().await?;
    let gate = upstream.gate("parts");
    let mut client: RawClient = env.raw("open").await?;
    client
        .send(format!(
            "GET /gated/parts HTTP/1.1\r\nHost: {}\r\n\r\n",
            env.authority_of("open")
        ))
        .await?;
    upstream.wait_for(1).await?;
    gate.send("first").await?;
    client.wait_for_bytes(b"first").await?;
    gate.send("second").await?;
    drop(gate);
    assert_eq!(client.reply(false).await?.text(), "firstsecond");
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_holds_the_upstream_back() -> Result<()> {
    let (env, upstream) = stage().await?;
    let gate = upstream.gate("flood");
    let mut client: RawClient = env.raw("open").await?;
    client
        .send(format!(
            "GET /gated/flood HTTP/1.1\r\nHost: {}\r\n\r\n",
            env.authority_of("open")
        ))
        .await?;
    upstream.wait_for(1).await?;
    // Nobody reads: after the buffers on the way are full, a part no longer leaves.
    let part = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 256 {
        let send = gate.send(part.clone());
        if tokio::time::timeout(std::time::Duration::from_secs(1), send)
            .await
            .is_err()
        {
            break;
        }
        sent += 1;
    }
    assert!(sent < 64, "{sent} MB went into the proxy without a reader");
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_upstream() -> Result<()> {
    let (env, upstream) = stage().await?;
    let gate = upstream.gate("left");
    let mut client: RawClient = env.raw("open").await?;
    client
        .send(format!(
            "GET /gated/left HTTP/1.1\r\nHost: {}\r\n\r\n",
            env.authority_of("open")
        ))
        .await?;
    upstream.wait_for(1).await?;
    gate.send("first").await?;
    client.wait_for_bytes(b"first").await?;
    drop(client);
    pomerium_testing::within("the upstream to notice", gate.abandoned()).await
}

#[tokio::test]
async fn large_bodies_pass_unchanged_over_both_versions() -> Result<()> {
    let (env, upstream) = stage().await?;
    let body: Vec<u8> = (0..3_000_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap_or_default())
        .collect();
    for client in [env.client()?, env.http1_client()?] {
        let reply = client
            .send(Method::POST, &env.url("open", "/upload"), &[], body.clone())
            .await?;
        assert_eq!(reply.status, 200);
        assert!(
            upstream
                .take_requests()
                .pop()
                .is_some_and(|request| request.body == body)
        );
    }
    Ok(())
}
