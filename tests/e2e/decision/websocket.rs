//! A WebSocket through nginx: judged once, then nginx's.

use std::sync::Arc;

use anyhow::Result;
use pomerium_testing::{Browser, Look};
use pomerium_tests::developer;
use pomerium_tests::foreign::{self, ForeignStage};
use serde_json::json;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::websocket::{Socket, echoes};

async fn open(stage: &ForeignStage, cookie: Option<&str>) -> Result<Socket> {
    pomerium_testing::install_crypto_provider();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(stage.env.authority().roots()?)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", stage.front.number())).await?;
    let name = rustls::pki_types::ServerName::try_from("wiki.example.com")?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let mut request = format!("wss://{}/ws", stage.host()).into_client_request()?;
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse()?);
    }
    Ok(client_async(request, stream).await?.0)
}

#[tokio::test]
async fn a_websocket_passes_nginx_with_a_session_only() -> Result<()> {
    let mut stage = ForeignStage::start(json!({})).await?;
    foreign::nginx(&mut stage).await?;
    assert!(open(&stage, None).await.is_err(), "nobody is signed in");

    let page = Browser::start().await?.open(Look::DESKTOP).await?;
    page.goto(&stage.url("/inside")).await?;
    page.sign_in("developer@example.com", developer().password())
        .await?;
    let cookie = super::session_cookie(&page).await?;
    let mut socket = open(&stage, Some(&cookie)).await?;
    echoes(&mut socket, "through a proxy that is not ours").await
}
