//! Early data (0-RTT): what comes with it can be sent again by anybody who saw it (Traefik CVE-2024-39321: rules about
//! addresses were passed by early data over QUIC). Over QUIC it is refused (`quic`); over TCP it is not even offered.

use std::sync::Arc;

use anyhow::{Result, ensure};
use pomerium_testing::{Environment, Route, Upstream};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn sessions_are_resumed_and_take_no_early_data() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    pomerium_testing::install_crypto_provider();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let name = ServerName::try_from("open.example.com")?;
    let get = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        env.authority_of("open")
    );
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        // A client takes early data from the ticket that it goes on with.
        let mut next = rustls::ClientConnection::new(Arc::clone(&config), name.clone())?;
        ensure!(next.early_data().is_none(), "a ticket offers early data");
        drop(next);
        let stream = TcpStream::connect(env.address()).await?;
        let connector = TlsConnector::from(Arc::clone(&config));
        let mut stream = connector.connect(name.clone(), stream).await?;
        stream.write_all(get.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
        let (_, session) = stream.get_ref();
        ensure!(
            session.handshake_kind() == Some(kind),
            "{:?}",
            session.handshake_kind()
        );
        ensure!(!session.is_early_data_accepted());
    }
    Ok(())
}
