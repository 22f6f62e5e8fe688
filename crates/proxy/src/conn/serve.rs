//! From an accepted socket to a running HTTP connection.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use pomerium_config::settings::Codec;
use pomerium_web::canonical::Connection;
use pomerium_web::cookies::http_date;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Conn;
use super::decision::serve_decision;
use super::driver::{Driver, Ended, Graceful, LAST_CALL};
use super::handshake;
use super::io::{ServerStream, Transport};
use super::service::Requests;
use super::state::{ConnLimits, ConnState};
use super::streams::Streams;
pub(super) use crate::body::STALLED;
use crate::client_tls::ClientTls;
use crate::lifecycle::Registered;
use crate::listener::proxy_protocol;
use crate::worker::{Serving, Worker};

/// A TLS handshake may take this long.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// The largest request head (spec proxy.md 1.8).
pub(super) const MAX_HEAD: usize = 128 * 1024;
/// The most header fields. The canonical request checks it too; here it bounds the parser.
pub(super) const MAX_FIELDS: usize = 1000;
/// How far above these limits the parser still reads: a head that is a little too large gets an answer that
/// says so, one far above is cut short by the parser's own.
const OVER_HEAD: usize = 8 * 1024;
const OVER_FIELDS: usize = 200;
/// HTTP/2 windows and limits (spec proxy.md 6.1, brief of the listener).
pub(super) const STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams reset by the client that were not yet answered: more is a rapid-reset attack.
const PENDING_RESETS: usize = 20;
/// Streams we had to reset because of the client's errors, over the life of a connection. What comes for a stream that we have
/// let go counts as one, though it was under way before that, so there have to be many.
const ERROR_RESETS: usize = 1024;
/// How long a last word may take.
const PARTING: Duration = Duration::from_secs(5);
const SLOW_HEAD: &str = "Request Timeout: the head of the request did not arrive in time\n";
/// What may wait to be sent on one stream.
const SEND_BUFFER: usize = 64 * 1024;

type Http1 = http1::UpgradeableConnection<TokioIo<ServerStream>, Requests>;
type Http2 = http2::Connection<TokioIo<ServerStream>, Requests, Streams>;

impl Graceful for Http1 {
    fn graceful(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Graceful for Http2 {
    fn graceful(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves one accepted socket to its end.
pub(crate) async fn serve_socket(
    worker: Arc<Worker>,
    mut socket: TcpStream,
    peer: std::net::SocketAddr,
    serving: Serving,
) {
    let Ok(local) = socket.local_addr() else { return };
    let snapshot = worker.snapshot();
    if serving == Serving::Decision {
        return serve_decision(worker, socket, (peer, local)).await;
    }
    let addresses = if snapshot.proxy_protocol {
        match proxy_protocol::read(&mut socket, (peer, local), &snapshot.rules.trusted).await {
            Ok(addresses) => addresses,
            Err(error) => {
                worker.shared.metrics.proxy_protocol_refused.inc();
                if let Some(left_out) = worker.turned_away.line() {
                    tracing::warn!(%peer, %error, left_out, "use_proxy_protocol: a connection is closed");
                }
                return;
            }
        }
    } else {
        (peer, local)
    };
    let insecure = snapshot.insecure;
    drop(snapshot);
    match serving {
        Serving::Redirect => crate::listener::redirect::serve(&worker, socket).await,
        Serving::Main if insecure => {
            let codec = worker.snapshot().codec;
            serve_plain(worker, socket, addresses, (codec, serving)).await;
        }
        Serving::Main | Serving::Decision => serve_tls(worker, socket, addresses).await,
    }
}

/// Serves a TLS connection: handshake, then what ALPN says (or what `codec` forces).
async fn serve_tls(
    worker: Arc<Worker>,
    socket: TcpStream,
    addresses: (std::net::SocketAddr, std::net::SocketAddr),
) {
    let handshake = handshake::accept(&worker, socket, addresses.0);
    let (stream, client) = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(Some(secured))) => secured,
        // A certificate authority has looked at a challenge; such a connection never carries a request.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            worker.shared.metrics.handshake_failures.inc();
            tracing::debug!(%error, peer = %addresses.0, "TLS handshake failed");
            return;
        }
        Err(_) => {
            worker.shared.metrics.handshake_failures.inc();
            tracing::debug!(peer = %addresses.0, "TLS handshake timed out");
            return;
        }
    };
    let h2 = match worker.snapshot().codec {
        Codec::Http1 => false,
        Codec::Http2 => true,
        Codec::Auto | Codec::Http3 => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
    };
    let transport = Transport::Tls(Box::new(stream));
    serve(worker, (transport, client), (h2, Serving::Main), addresses).await;
}

/// Serves a plain connection: HTTP/2 when the client opens with its preface.
pub(super) async fn serve_plain(
    worker: Arc<Worker>,
    socket: TcpStream,
    addresses: (std::net::SocketAddr, std::net::SocketAddr),
    (codec, serving): (Codec, Serving),
) {
    let h2 = match codec {
        Codec::Http1 => false,
        Codec::Http2 => true,
        Codec::Auto | Codec::Http3 => {
            let (idle, read) = {
                let timeouts = &worker.snapshot().timeouts;
                (timeouts.idle.unwrap_or(STALLED), timeouts.read.unwrap_or(STALLED))
            };
            tokio::select! {
                seen = speaks_http2(&socket, idle, read) => match seen {
                    Ok(h2) => h2,
                    Err(_) => return,
                },
                () = last_call(&worker) => return,
            }
        }
    };
    let transport = (Transport::Plain(socket), None);
    serve(worker, transport, (h2, serving), addresses).await;
}

/// Some time after the process has begun to drain.
async fn last_call(worker: &Worker) {
    worker.lifecycle.draining.cancelled().await;
    tokio::time::sleep(LAST_CALL).await;
}

/// Whether the client opens with the HTTP/2 preface. `PRI` is no method of HTTP/1.1, so its four first
/// bytes decide. It may take `idle` to begin, and from then on `read` to send them.
async fn speaks_http2(socket: &TcpStream, idle: Duration, read: Duration) -> std::io::Result<bool> {
    tokio::time::timeout(idle, socket.readable()).await??;
    tokio::time::timeout(read, begins_with_preface(socket)).await?
}

async fn begins_with_preface(socket: &TcpStream) -> std::io::Result<bool> {
    const START: &[u8] = b"PRI ";
    const LONGEST: Duration = Duration::from_millis(250);
    let mut first = [0; 4];
    let mut pause = Duration::from_millis(5);
    loop {
        let seen = socket.peek(&mut first).await?;
        if seen == 0 || first[..seen] != START[..seen] {
            return Ok(false);
        }
        if seen == START.len() {
            return Ok(true);
        }
        // A client that sends its preface byte by byte: peeking again would not wait.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

pub(super) async fn serve(
    worker: Arc<Worker>,
    (transport, client): (Transport, Option<Arc<ClientTls>>),
    (h2, serving): (bool, Serving),
    (peer, local): (std::net::SocketAddr, std::net::SocketAddr),
) {
    let tls = matches!(transport, Transport::Tls(_));
    let state = ConnState::new();
    let _registered: Registered = worker.lifecycle.register(state.clone());
    let timeouts = &worker.snapshot().timeouts;
    let limits = ConnLimits {
        head: timeouts.read,
        idle: timeouts.idle,
        stalled: Some(STALLED),
    };
    let conn = Conn {
        info: Connection { peer, tls, local },
        state: state.clone(),
        worker: worker.clone(),
        client,
    };
    let stream = ServerStream::new(transport, state.clone());
    if h2 {
        state.is_multiplexed();
        let stream = stream.in_frames();
        let stream = match serving {
            Serving::Decision => stream.for_short_answers(),
            Serving::Main | Serving::Redirect => stream,
        };
        let requests = Requests { conn, serving };
        let connection = http2_builder().serve_connection(TokioIo::new(stream), requests);
        Driver::new(connection, state, worker, limits).await;
    } else {
        serve_http1(stream, (conn, serving), limits).await;
    }
}

/// Nearly every request fits the parser that allocates nothing. At the first head that does not, the
/// connection goes on with one that does, from the first byte of that head.
async fn serve_http1(stream: ServerStream, (conn, serving): (Conn, Serving), limits: ConnLimits) {
    let (state, worker) = (conn.state.clone(), conn.worker.clone());
    let requests = |conn| Requests { conn, serving };
    let narrow = http1_builder()
        .serve_connection(TokioIo::new(stream), requests(conn.clone()))
        .with_upgrades();
    let narrow = match Driver::new(narrow, state.clone(), worker.clone(), limits).await {
        Ended::Closed => return,
        Ended::SlowHead(connection) => return answer_slow_head(connection, &worker).await,
        Ended::NeedsWide(narrow) => narrow,
    };
    let Some(parts) = narrow.into_parts() else { return };
    let mut stream = parts.io.into_inner();
    stream.put_back(&parts.read_buf);
    state.is_wide();
    let wide = http1_builder()
        .max_headers(MAX_FIELDS + OVER_FIELDS)
        .serve_connection(TokioIo::new(stream), requests(conn))
        .with_upgrades();
    if let Ended::SlowHead(connection) = Driver::new(wide, state, worker.clone(), limits).await {
        answer_slow_head(connection, &worker).await;
    }
}

/// Says 408 before the connection closes (spec proxy.md 5). There is no request yet that the flow could answer.
async fn answer_slow_head(connection: Box<Http1>, worker: &Worker) {
    let Some(parts) = connection.into_parts() else {
        return;
    };
    let mut stream = parts.io.into_inner();
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/plain; charset=UTF-8\r\n\
         Content-Length: {}\r\nDate: {}\r\n\r\n{SLOW_HEAD}",
        SLOW_HEAD.len(),
        http_date(worker.shared.clock.now()),
    );
    let saying = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // Whoever does not read it either is not waited for.
    let _ = tokio::time::timeout(PARTING, saying).await;
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .preserve_header_case(true)
        .max_header_size(MAX_HEAD + OVER_HEAD)
        .max_buf_size(MAX_HEAD + 16 * 1024);
    builder
}

fn http2_builder() -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    builder
}
