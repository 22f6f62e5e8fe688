//! Answers that are there before the request's body is: they cost no connection, and everybody gets to read them.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pomerium_testing::{Environment, RawClient, Route, Upstream, within};
use serde_json::json;

/// More than the streams whose reset is remembered, and than those that a connection is ended for.
const REQUESTS: u32 = 400;

fn told(status: u16, body: &str) -> serde_json::Value {
    json!({ "status": status, "body": body })
}

async fn stage() -> Result<Environment> {
    let upstream = Upstream::start().await?;
    Environment::builder()?
        .route(
            Route::new("told", "")
                .set("to", serde_json::Value::Null)
                .set("response", told(200, "hi"))
                .public(),
        )
        .route(
            Route::new("closed", &upstream.url())
                .policy(json!([{ "deny": { "and": [{ "accept": true }] } }])),
        )
        .start()
        .await
}

async fn http2(env: &Environment, name: &str) -> Result<h2::client::SendRequest<Bytes>> {
    pomerium_testing::install_crypto_provider();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(env.address()).await?;
    let name = rustls::pki_types::ServerName::try_from(format!("{name}.example.com"))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Posts whose body comes only when the answer is there, one after another on one connection.
#[tokio::test]
async fn a_connection_of_http2_outlives_them() -> Result<()> {
    let env = stage().await?;
    for (name, status) in [("told", 200), ("closed", 403), ("nowhere", 404)] {
        let mut sender = http2(&env, name).await?;
        for number in 0..REQUESTS {
            sender = within("room for a stream", sender.ready()).await??;
            let request = Request::post(env.url(name, "/")).header("accept", "application/json");
            let (answer, mut body) = sender.send_request(request.body(())?, false)?;
            let answer = within("an answer", answer).await?;
            let answer = answer.with_context(|| format!("{name}: request {number}"))?;
            ensure!(answer.status() == status, "{name}: {}", answer.status());
            body.send_data(Bytes::from_static(b"late"), true)
                .with_context(|| format!("{name}: the body of request {number}"))?;
        }
    }
    Ok(())
}

fn post(env: &Environment, name: &str, length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nContent-Length: {length}\r\n\r\n",
        env.authority_of(name)
    )
}

#[tokio::test]
async fn a_connection_of_http1_goes_on_after_a_small_body() -> Result<()> {
    let env = stage().await?;
    for (name, status) in [("told", 200), ("closed", 403), ("nowhere", 404)] {
        let mut client = env.raw("told").await?;
        for _ in 0..3 {
            client.send(post(&env, name, 10)).await?;
            let reply = client.reply(false).await?;
            ensure!(reply.status == status, "{name}: {}", reply.status);
            ensure!(
                reply.header("connection").is_none(),
                "{name}: {:?}",
                reply.headers
            );
            client.send("0123456789").await?;
        }
    }
    Ok(())
}

/// Whoever sends everything first, as simple clients do, still reads the answer; and knows that it was the last one.
#[tokio::test]
async fn a_large_body_does_not_lose_the_answer() -> Result<()> {
    let env = stage().await?;
    let whole = vec![b'x'; 800 * 1024];
    let mut client = env.raw("told").await?;
    client.send(post(&env, "nowhere", whole.len())).await?;
    client.send(&whole).await?;
    ensure!(client.reply(false).await?.status == 404);
    client.send(post(&env, "told", 0)).await?;
    ensure!(
        client.reply(false).await?.status == 200,
        "and the connection goes on"
    );

    let mut client = env.raw("told").await?;
    client.send(post(&env, "nowhere", 64 << 20)).await?;
    client.send(&whole).await?;
    let reply = client.reply(false).await?;
    ensure!(
        reply.status == 404 && reply.header("connection") == Some("close"),
        "{reply:?}"
    );
    client.read_to_close().await?;
    Ok(())
}

/// What waits to be told to send is not told.
#[tokio::test]
async fn nobody_is_asked_for_a_body_that_is_not_wanted() -> Result<()> {
    let env = stage().await?;
    let mut client: RawClient = env.raw("told").await?;
    let head = post(&env, "closed", 10).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    client.send(head).await?;
    let reply = client.reply(false).await?;
    ensure!(reply.status == 403, "{reply:?}");
    Ok(())
}

/// A body that a status cannot have is not sent, over any version.
#[tokio::test]
async fn an_answer_without_a_body_has_none() -> Result<()> {
    let mut builder = Environment::builder()?.set("codec_type", "http3");
    for status in [204, 205, 304] {
        let route = Route::new(&format!("s{status}"), "")
            .set("to", serde_json::Value::Null)
            .set("response", told(status, "nobody"))
            .public();
        builder = builder.route(route);
    }
    let env = builder.start().await?;
    let clients = [env.client()?, env.http1_client()?];
    for status in [204, 205, 304] {
        let url = env.url(&format!("s{status}"), "/");
        for client in &clients {
            let reply = client.get(&url).await?;
            ensure!(
                reply.status.as_u16() == status && reply.text().is_empty(),
                "{status}: {}",
                reply.text()
            );
        }
        let mut sender = http2(&env, &format!("s{status}")).await?.ready().await?;
        let (answer, _) = sender.send_request(Request::get(&url).body(())?, true)?;
        let answer: Response<h2::RecvStream> = answer.await?;
        ensure!(answer.status() == StatusCode::from_u16(status)?);
        ensure!(answer.into_body().data().await.is_none(), "{status}");
    }
    Ok(())
}
