//! Applications behind UNIX sockets, with and without TLS.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use pomerium_testing::{Authority, Environment, Route};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

/// Answers each request with its head. Connections stay open, and say which one they are.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, number: usize) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let length = head.len();
        let answer = format!("HTTP/1.1 200 OK\r\nX-Connection: {number}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(&[answer.as_bytes(), &head].concat()).await?;
        stream.flush().await?;
    }
}

/// Serves until it is dropped.
fn serve(path: &Path, tls: Option<rustls::ServerConfig>) -> Result<JoinSet<()>> {
    let listener = UnixListener::bind(path)?;
    let tls = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let tls = tls.clone();
            // How a connection ends is not the matter here.
            connections.spawn(async move {
                let _ = match tls {
                    None => echo(stream, number).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => echo(stream, number).await,
                        Err(error) => Err(error),
                    },
                };
            });
        }
    });
    Ok(server)
}

#[tokio::test]
async fn a_socket_is_an_upstream_like_any_other() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let (authority, folder) = (Authority::new()?, tempfile::tempdir()?);
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("ca.pem"), authority.pem())?;
    let tls = authority
        .issue(&["inner.example.com"])?
        .server_config(&["http/1.1"])?;
    let _plain = serve(&file("plain.sock"), None)?;
    let _tls = serve(&file("tls.sock"), Some(tls))?;
    let to = |scheme: &str, name: &str| format!("{scheme}://{}", file(name).display());
    let env = Environment::builder()?
        .route(
            Route::new("plain", &to("unix", "plain.sock"))
                .public()
                .set("prefix_rewrite", "/"),
        )
        .route(
            Route::new("tls", &to("https+unix", "tls.sock"))
                .public()
                .set("prefix_rewrite", "/")
                .set("tls_upstream_server_name", "inner.example.com")
                .set("tls_custom_ca_file", file("ca.pem").display().to_string()),
        )
        .route(Route::new("nobody", &to("unix", "nobody.sock")).public())
        .start()
        .await?;
    for name in ["plain", "tls"] {
        let mut client = env.raw(name).await?;
        for _ in 0..3 {
            let host = env.authority_of(name);
            client
                .send(format!("GET /here?a=b HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await?;
            let reply = client.reply(false).await?;
            let head = reply.text().to_lowercase();
            ensure!(reply.status == 200, "{name}: {} {head}", reply.status);
            ensure!(head.starts_with("get /here?a=b http/1.1"), "{head}");
            ensure!(
                head.contains(&format!("\r\nhost: {host}\r\n")),
                "a socket has no name of its own: {head}"
            );
            ensure!(reply.header("x-connection") == Some("0"), "{name}: not kept");
        }
    }
    let nobody = env.client()?.get(&env.url("nobody", "/")).await?;
    ensure!(nobody.status == 503, "{}", nobody.text());
    Ok(())
}
