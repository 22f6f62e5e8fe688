//! One client that asks as fast as it can, on one HTTP/2 connection with every stream in use, keeps nobody else from
//! being served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use http::Request;
use pomerium_testing::{Environment, Route, Upstream, within};
use tokio::task::JoinSet;

/// As many as the proxy lets a connection have.
const STREAMS: usize = 100;

#[tokio::test]
async fn a_busy_connection_starves_nobody() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let url = env.url("open", "/busy");
    let busy = busy_connection(&env).await?;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = JoinSet::new();
    for _ in 0..STREAMS {
        let (busy, url, answered) = (busy.clone(), url.clone(), answered.clone());
        load.spawn(async move {
            loop {
                let mut ready = busy.clone().ready().await?;
                let request = Request::get(&url).body(())?;
                let (response, _) = ready.send_request(request, true)?;
                let response = response.await?;
                ensure!(response.status() == 200);
                // To the end: a client that gives up its requests is another matter.
                let mut body = response.into_body();
                while let Some(part) = body.data().await {
                    body.flow_control().release_capacity(part?.len())?;
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            #[allow(unreachable_code, reason = "says what the task returns")]
            anyhow::Ok(())
        });
    }
    // Connections of their own land on every worker, the busy one included.
    let others = async {
        for _ in 0..40 {
            let mut other = env.raw("open").await?;
            let host = env.authority_of("open");
            other
                .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await?;
            ensure!(other.reply(false).await?.status == 200);
        }
        anyhow::Ok(())
    };
    within("answers for the others", others).await??;
    if let Some(stopped) = load.try_join_next() {
        stopped??;
    }
    ensure!(answered.load(Ordering::Relaxed) > STREAMS, "there was no load");
    Ok(())
}

async fn busy_connection(env: &Environment) -> Result<h2::client::SendRequest<bytes::Bytes>> {
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("open.example.com")?;
    let socket = tokio::net::TcpStream::connect(env.address()).await?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}
