//! WebSocket through the proxy, without a browser.

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use pomerium_testing::{Client, Environment, Route, Upstream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

pub(crate) type Socket = WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

async fn open(env: &Environment) -> Result<Socket> {
    open_as(env, None).await
}

/// As the person who is signed in with `client`.
pub(crate) async fn open_with(env: &Environment, client: &Client) -> Result<Socket> {
    client.follow(&env.url("ws", "/")).await?;
    let cookie = client
        .cookie(&env.url("ws", "/"), "_pomerium")
        .unwrap_or_default();
    open_as(env, Some(format!("_pomerium={cookie}"))).await
}

/// With a session handle from elsewhere.
pub(crate) async fn open_with_handle(env: &Environment, handle: &str) -> Result<Socket> {
    open_as(env, Some(format!("_pomerium={handle}"))).await
}

async fn open_as(env: &Environment, cookie: Option<String>) -> Result<Socket> {
    pomerium_testing::install_crypto_provider();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(env.address()).await?;
    let name = rustls::pki_types::ServerName::try_from("ws.example.com")?;
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, stream)
        .await?;
    let mut request = format!("wss://{}/ws", env.authority_of("ws")).into_client_request()?;
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse()?);
    }
    Ok(client_async(request, stream).await?.0)
}

pub(crate) async fn echoes(socket: &mut Socket, text: &str) -> Result<()> {
    socket.send(Message::text(text)).await?;
    let answer = pomerium_testing::within("an echo", socket.next()).await?;
    assert_eq!(
        answer.transpose()?.map(|message| message.to_string()).as_deref(),
        Some(text)
    );
    Ok(())
}

#[tokio::test]
async fn an_open_socket_survives_a_reload_of_other_routes() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(
            Route::new("ws", &upstream.url())
                .public()
                .set("allow_websockets", true),
        )
        .start()
        .await?;
    let mut socket = open(&env).await?;
    echoes(&mut socket, "before").await?;

    let port = env.port();
    let to = upstream.url();
    env.rewrite_config(|config| {
        let more = serde_json::json!({
            "from": format!("https://more.example.com:{port}"), "to": to,
            "allow_public_unauthenticated_access": true,
        });
        if let Some(routes) = config["routes"].as_array_mut() {
            routes.push(more);
        }
    })?;
    let client = env.client()?;
    let url = env.url("more", "/");
    pomerium_testing::within("the new route", async {
        while client.get(&url).await.is_ok_and(|reply| reply.status != 200) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await?;
    echoes(&mut socket, "after").await
}
