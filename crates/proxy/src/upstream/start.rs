//! HTTP on a fresh byte stream. The connection runs in a task of its own, which holds its place among
//! the connections of the cluster until it has really ended.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::task::AtomicWaker;
use hyper::client::conn::{http1 as h1, http2 as h2};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::breakers::Open;
use super::connect::Stream;
use super::doubt::{Bounded, Budget};
use super::error::UpstreamError;
use super::h2pool::STREAMS;
use super::pool::H1Connection;
use crate::body::RequestBody;

/// Largest response header block. The number of fields is the library's default, 100: more would cost an
/// allocation per response.
const MAX_HEADER_BYTES: usize = 128 * 1024;
/// Read buffer of an upstream connection.
const MAX_BUFFER: usize = 256 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
/// Room for the windows of all streams: a client that reads slowly holds up its own stream only.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// Streams given up a moment ago that are remembered: what the upstream sends on them, not knowing it yet, is ignored.
const GIVEN_UP: usize = 4096;

/// Speaks HTTP/1.1.
pub(super) async fn http1(stream: Stream, open: Open) -> Result<H1Connection, UpstreamError> {
    let budget = Arc::<Budget>::default();
    let stream = Bounded::new(stream, budget.clone());
    let (sender, connection) = h1::Builder::new()
        .preserve_header_case(true)
        // Old applications fold long lines; they go on as one (RFC 9112 5.2).
        .allow_obsolete_multiline_headers_in_responses(true)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| UpstreamError::from_hyper(&error))?;
    let task = tokio::spawn(async move {
        let _open = open;
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream HTTP/1.1 connection ended");
        }
    });
    Ok(H1Connection::new(sender, task.abort_handle(), budget))
}

/// Speaks HTTP/2. Returns when the upstream has said how many streams it allows, with that number, which
/// it may change.
pub(super) async fn http2(
    stream: Stream,
    open: Open,
) -> Result<(h2::SendRequest<RequestBody>, Arc<AtomicUsize>), UpstreamError> {
    stream.expect_acknowledgements();
    let told = Told::default();
    let (sender, mut connection) = h2::Builder::new(told.clone())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .initial_max_send_streams(0)
        .max_concurrent_reset_streams(GIVEN_UP)
        // Clients give up as many requests as they like: that must not end the connection that others share.
        .max_local_error_reset_streams(None)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| UpstreamError::from_hyper(&error))?;
    let allowed = Arc::new(AtomicUsize::new(0));
    let settled = Arc::new(Notify::new());
    let (noted, notify) = (allowed.clone(), settled.clone());
    tokio::spawn(async move {
        let ended = std::future::poll_fn(|cx| {
            told.0.waker.register(cx.waker());
            let polled = Pin::new(&mut connection).poll(cx);
            let now = connection.current_max_send_streams();
            let before = noted.swap(now, Ordering::Relaxed);
            if before == 0 && now > 0 {
                told.0.settled.store(true, Ordering::Relaxed);
                notify.notify_one();
            }
            if now > before {
                open.destination().has_room();
            }
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "upstream HTTP/2 connection ended");
        }
        drop(open);
        notify.notify_one();
    });
    while allowed.load(Ordering::Relaxed) == 0 {
        if sender.is_closed() {
            return Err(UpstreamError::Protocol("no HTTP/2 is spoken there".into()));
        }
        settled.notified().await;
    }
    Ok((sender, allowed))
}

/// Runs the tasks of an HTTP/2 connection. The library reads frames in one task and knows the settings in
/// another: until the settings are there, the second is woken after each turn of the first.
#[derive(Clone, Default)]
struct Told(Arc<Telling>);

#[derive(Default)]
struct Telling {
    waker: AtomicWaker,
    settled: AtomicBool,
}

impl<F> hyper::rt::Executor<F> for Told
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let told = self.0.clone();
        tokio::spawn(async move {
            let mut future = pin!(future);
            std::future::poll_fn(|cx| {
                let polled = future.as_mut().poll(cx);
                if !told.settled.load(Ordering::Relaxed) {
                    told.waker.wake();
                }
                polled
            })
            .await
        });
    }
}
