//! The listener for other services and for tools (spec databroker.md 8.2): gRPC over TLS or plain.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use pomerium_certs::services;
use pomerium_config::settings::Settings;
use pomerium_databroker::grpc::{self, Authenticated};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceExt;

use super::certificates::Certificates;
use super::core::Core;

/// Most connections at a time: every process of an installation keeps one, tools a few.
const MAX_CONNECTIONS: usize = 4096;
/// Most streams of a connection at a time.
const MAX_STREAMS: u32 = 1024;
/// Longest TLS handshake, and longest wait for a request head.
const PATIENCE: Duration = Duration::from_secs(10);
/// A silent peer is asked so often whether it is still there…
const PING: Duration = Duration::from_secs(30);
/// …and cut off after this long without an answer.
const PONG: Duration = Duration::from_secs(20);

/// Serves until the process stops, where the settings ask for it. Returns a second handle on the socket with its
/// setting.
///
/// Errors when the address cannot be listened on.
pub async fn start(
    settings: &Settings,
    core: &Core,
    certificates: &Arc<Certificates>,
    handed: Option<TcpListener>,
) -> anyhow::Result<Option<(String, TcpListener)>> {
    let Some(listener) = &settings.internal.listener else {
        return Ok(None);
    };
    let acceptor = match listener.insecure {
        true => None,
        false => {
            let mutual = settings.internal.mutual_tls.then_some(&core.derived);
            let config = services::listener(Arc::clone(certificates.store()), mutual)?;
            Some(TlsAcceptor::from(Arc::new(config)))
        }
    };
    let (socket, handle) = super::listeners::open(&listener.address, handed)
        .await
        .with_context(|| format!("grpc_address: cannot listen on {}", listener.address))?;
    tracing::info!(
        address = listener.address,
        tls = !listener.insecure,
        "grpc: listening"
    );
    tokio::spawn(serve(socket, acceptor, routes(settings, core), core.stop.clone()));
    Ok(Some((listener.address.clone(), handle)))
}

/// What is served there.
fn routes(settings: &Settings, core: &Core) -> Routes {
    let authenticated = Authenticated::new(core.shared, Arc::clone(&core.clock));
    let mut routes = Routes::default();
    if settings.services.databroker {
        let served = core.broker.served();
        routes = routes
            .add_service(grpc::records(served.clone(), authenticated.clone()))
            .add_service(grpc::writes(served.clone(), authenticated.clone()))
            .add_service(grpc::checkpoints(served, authenticated));
    }
    routes.prepare()
}

async fn serve(
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    routes: Routes,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "grpc: accept failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!("grpc: a connection is refused, there are too many");
            continue;
        };
        let (tls, routes, stop) = (tls.clone(), routes.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = secured(stream, tls, routes) => {}
                () = stop.cancelled() => {}
            }
            drop(slot);
        });
    }
}

async fn secured(stream: TcpStream, tls: Option<TlsAcceptor>, routes: Routes) {
    // Small messages that are waited for.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = tls else {
        return connection(stream, routes).await;
    };
    match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, routes).await,
        Ok(Err(error)) => tracing::info!(%error, "grpc: a TLS handshake failed"),
        Err(_) => tracing::debug!("grpc: a TLS handshake took too long"),
    }
}

async fn connection<S>(stream: S, routes: Routes)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(MAX_STREAMS);
    let service = routes
        .map_request(|request: http::Request<hyper::body::Incoming>| request.map(tonic::body::Body::new));
    let service = TowerToHyperService::new(service);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error, "grpc: a connection ended");
    }
}
