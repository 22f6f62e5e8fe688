//! The listener for other services and for tools (spec databroker.md 8.2): gRPC over TLS or plain.

mod authorize;
mod calm;
mod frames;
mod parting;

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use pomerium_certs::services;
use pomerium_config::settings::{LogFieldNames, Settings, log_field_names};
use pomerium_databroker::grpc::{self, Authenticated, HealthTable, LogFields, Router, Services};
use pomerium_proxy::Authorizer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use self::authorize::{Authorization, Ends};
use self::calm::Calm;
use super::certificates::Certificates;
use super::core::Core;
use crate::accept::{self, Door};

/// Every process of an installation keeps one connection, tools a few.
const DOOR: Door = Door {
    name: "grpc",
    most: 4096,
    parting: PARTING,
};
/// How long calls that are under way at the end may take.
const PARTING: Duration = Duration::from_secs(10);
/// Most streams of a connection at a time.
const MAX_STREAMS: u32 = 1024;
/// Largest head of a request, in bytes.
const LARGEST_HEAD: u32 = 64 * 1024;
/// Streams that a peer may open and reset before they are looked at.
const RESET_STREAMS: usize = 64;
/// Longest TLS handshake, and longest wait for the first words of a connection and for a request head of HTTP/1.1.
const PATIENCE: Duration = Duration::from_secs(10);
/// A silent peer is asked so often whether it is still there…
const PING: Duration = Duration::from_secs(30);
/// …and cut off after this long without an answer.
const PONG: Duration = Duration::from_secs(20);

/// The listener while it serves.
pub struct Listening {
    /// A second handle on the socket with its setting.
    pub handle: (String, TcpListener),
    /// Ends when the process stops, after the calls that are under way then.
    pub serving: JoinHandle<()>,
}

/// Serves until the process stops, where the settings ask for it.
///
/// Errors when the address cannot be listened on.
pub async fn start(
    settings: &Settings,
    core: &Core,
    (certificates, authorizer): (&Arc<Certificates>, Authorizer),
    handed: Option<TcpListener>,
) -> anyhow::Result<Option<Listening>> {
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
    let mut router = router(settings, core);
    if settings.services.authorize {
        router = router.with(Authorization(authorizer));
    }
    let router = router.reflected();
    let stop = core.stop.clone();
    let served = move |stream| served(stream, acceptor.clone(), router.clone(), stop.clone());
    Ok(Some(Listening {
        handle: (listener.address.clone(), handle),
        serving: tokio::spawn(accept::serve(DOOR, socket, core.stop.clone(), served)),
    }))
}

/// What is served there: the services of this process, and whether it is there at all.
fn router(settings: &Settings, core: &Core) -> Router {
    let version = env!("CARGO_PKG_VERSION");
    let health = Arc::clone(&core.health) as Arc<dyn HealthTable>;
    if !settings.services.databroker {
        let authenticated = Authenticated::new(Some(core.shared), Arc::clone(&core.clock));
        return Router::new(authenticated, version, health);
    }
    let services = Services {
        served: core.broker.served(),
        health,
        validate: Arc::new(judge),
        clock: Arc::clone(&core.clock),
        shared: Some(core.shared),
        version: version.to_owned(),
        log_fields: log_fields(),
    };
    grpc::router(services)
}

/// What the logs of this program may hold.
fn log_fields() -> LogFields {
    let LogFieldNames {
        access,
        access_default,
        authorize,
        authorize_default,
    } = log_field_names();
    LogFields {
        access,
        access_default,
        authorize,
        authorize_default,
    }
}

/// Whether a message may be kept as a record.
fn judge(kind: &str, message: &serde_json::Value) -> Result<(), String> {
    let faults = pomerium_config::records::validate(kind, message);
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")),
    }
}

async fn served(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    // Small messages that are waited for.
    let _ = stream.set_nodelay(true);
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return;
    };
    let ends = Ends { peer, local };
    let Some(acceptor) = tls else {
        return connection(stream, ends, router, stop).await;
    };
    let secured = stop.run_until_cancelled(accept::secured(DOOR, stream, &acceptor, PATIENCE));
    if let Some(Some(stream)) = secured.await {
        connection(stream, ends, router, stop).await;
    }
}

async fn connection<S>(stream: S, ends: Ends, router: Router, stop: CancellationToken)
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
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(LARGEST_HEAD)
        .max_pending_accept_reset_streams(RESET_STREAMS);
    let over = stop.clone();
    let service = router
        .map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ends);
            request.map(tonic::body::Body::new)
        })
        .map_response(move |response| parting::until(&over, response));
    let service = TowerToHyperService::new(service);
    let serving = builder.serve_connection(TokioIo::new(Calm::new(stream, PATIENCE)), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            // No further calls; those that are under way are answered.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "grpc: a connection ended");
    }
}
