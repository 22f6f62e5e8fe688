//! The listener for services under callers who mean no good (HTTP/2 floods: CVE-2019-9512 and its kin, CVE-2024-27316):
//! pings without end, heads without end, streams without end. Nobody of them has a token, and nobody else notices.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use h2::client::SendRequest;
use h2::{Ping, PingPong, Reason};
use http::Request;
use pomerium_api::pb::grpc_health::HealthCheckRequest;
use pomerium_api::pb::grpc_health::health_client::HealthClient;
use pomerium_testing::{Environment, Port, lease};
use pomerium_tests::services::channel;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

struct Caller {
    requests: SendRequest<bytes::Bytes>,
    pings: PingPong,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Caller {
    async fn connect(address: SocketAddr) -> Result<Caller> {
        let stream = TcpStream::connect(address).await?;
        let (requests, mut connection) = h2::client::handshake(stream).await?;
        let mut pings = connection.ping_pong().context("pings")?;
        let connection = tokio::spawn(connection);
        // With its answer the server's settings are here.
        pings.ping(Ping::opaque()).await?;
        Ok(Caller {
            requests,
            pings,
            connection,
        })
    }
}

async fn start() -> Result<(Environment, Port, SocketAddr)> {
    let port = lease()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let env = Environment::builder()?
        .set("grpc_address", address.to_string())
        .start()
        .await?;
    Ok((env, port, address))
}

#[tokio::test]
async fn too_many_pings_end_their_connection_and_no_other() -> Result<()> {
    let (_env, _port, address) = start().await?;
    let mut health = HealthClient::new(channel(address)?);
    let ask = || HealthCheckRequest::default();
    health.check(ask()).await?;
    let mut caller = Caller::connect(address).await?;
    let mut answered = 0;
    while caller.pings.ping(Ping::opaque()).await.is_ok() {
        answered += 1;
        ensure!(answered < 10, "pings are answered without end");
    }
    let error = caller
        .connection
        .await?
        .err()
        .context("the connection ended well")?;
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    assert!(error.is_go_away() && error.is_remote(), "{error}");
    health.check(ask()).await?;
    Caller::connect(address).await?;
    Ok(())
}

#[tokio::test]
async fn a_head_without_end_and_streams_without_end_are_refused() -> Result<()> {
    let (_env, _port, address) = start().await?;
    let caller = Caller::connect(address).await?;
    assert_eq!(caller.requests.current_max_send_streams(), 1024);
    for (size, expected) in [(70 * 1024, 431), (1024, 200)] {
        let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-large", "x".repeat(size))
            .body(())?;
        let mut requests = caller.requests.clone().ready().await?;
        let (response, mut body) = requests.send_request(request, false)?;
        body.send_data(bytes::Bytes::from_static(b"\0\0\0\0\0"), true)?;
        assert_eq!(response.await?.status(), expected, "{size} bytes");
    }
    Ok(())
}
