//! WebSocket and other upgrades over HTTP/1.1 (spec proxy.md 4.9).
//!
//! The switch is made only after the upstream has agreed to the very protocol that was asked for and
//! judged. Until then both sides speak HTTP: bytes a client sends early wait in its connection and reach
//! the upstream inside the tunnel, or, if the upstream declines, are read as the next request.

use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::forward::{Clues, Sending, balance_key, make_ready, send, stream};
use super::judged::Allowed;
use super::reply::{self, Problem};
use super::tunnel::Tunnel;
use super::{Flow, Reply};
use crate::body::{RequestBody, ResponseBody, Tail, Watchdog};
use crate::exchange::Exchange;
use crate::headers::response;
use crate::live::ENDED;
use crate::route::Route;
use crate::upstream::Lease;
use crate::worker::Worker;

/// Forwards an upgrade to `protocol`, which the route lets through.
pub(super) async fn upgrade(
    mut flow: Box<Flow>,
    route: Arc<Route>,
    allowed: Allowed,
    protocol: &str,
) -> Reply {
    let Some(client) = flow
        .upgrade
        .take()
        .filter(|_| http_body::Body::is_end_stream(&flow.body))
    else {
        return flow.fail(Problem::UpgradeBody);
    };
    if let Err(problem) = make_ready(&mut flow, &route, &allowed).await {
        return flow.fail(problem);
    }
    let Flow {
        conn,
        snapshot,
        request,
        mut parts,
        activity,
        mut exchange,
        ..
    } = *flow;
    let Ok(value) = HeaderValue::from_str(protocol) else {
        return reply::make(exchange, Clues::of(&parts.headers).kind(), Problem::Upgrade);
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(UPGRADE, value.clone());
    let clues = Clues::of(&parts.headers);
    let sending = Sending {
        conn: &conn,
        route: &route,
        host: route.headers.host.value(&request, &parts.headers),
        key: balance_key(&route, &request, &parts.headers),
        switches: true,
    };
    let mut watchdog = Watchdog::new(activity.clone(), route.limits(snapshot.limits()));
    let outgoing = Box::new(Request::from_parts(parts, RequestBody::empty(activity)));
    let (response, lease) = match send(sending, outgoing, &mut exchange, &mut watchdog).await {
        Ok(sent) => sent,
        Err(problem) => {
            conn.worker.shared.metrics.upstream_failure();
            return reply::make(exchange, clues.kind(), problem);
        }
    };
    watchdog.response_began();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let tail = Tail {
            exchange,
            lease: Some(lease),
            watchdog: Some(watchdog),
        };
        return stream(response, &route, &request, tail);
    }
    if !agrees(&response, protocol) {
        drop(lease);
        return reply::make(exchange, clues.kind(), Problem::UnaskedSwitch);
    }
    exchange.answered(101, "via_upstream");
    switch(
        Switch {
            worker: conn.worker,
            route,
            client,
            protocol: value,
            exchange,
            watchdog,
        },
        response,
        lease,
    )
}

/// Whether the upstream switches to what was asked for.
fn agrees(response: &Response<Incoming>, protocol: &str) -> bool {
    let mut values = response.headers().get_all(UPGRADE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()),
        _ => false,
    }
}

struct Switch {
    worker: Arc<Worker>,
    route: Arc<Route>,
    client: OnUpgrade,
    protocol: HeaderValue,
    exchange: Box<Exchange>,
    watchdog: Watchdog,
}

/// Answers 101 and leaves the tunnel to a task of its own.
fn switch(with: Switch, mut response: Response<Incoming>, lease: Lease) -> Reply {
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    parts.version = Version::HTTP_11;
    let (own, id) = (&with.exchange.snapshot.own_cookies, with.exchange.request_id());
    response::apply(&mut parts.headers, &with.route, (own, id));
    parts.headers.remove(CONTENT_LENGTH);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(UPGRADE, with.protocol.clone());
    tokio::spawn(tunnel(with, upstream, lease));
    Response::from_parts(parts, ResponseBody::none())
}

/// Carries bytes until either side ends, a limit of the route runs out, or the process stops.
async fn tunnel(mut with: Switch, upstream: OnUpgrade, lease: Lease) {
    let _open = with.worker.lifecycle.enter();
    let gauge = with.worker.shared.metrics.tunnels.clone();
    gauge.inc();
    let stopped = with.worker.lifecycle.stopped.clone();
    let hold = with.exchange.hold();
    let ended = std::future::poll_fn(|cx| hold.as_ref().map_or(Poll::Pending, |hold| hold.poll_ended(cx)));
    tokio::select! {
        ended = carry(with.client, upstream, lease, &mut with.watchdog) => {
            match ended {
                Ok((_, down)) => {
                    with.exchange.add_bytes(usize::try_from(down).unwrap_or(usize::MAX));
                    with.exchange.completed();
                }
                Err(details) => with.exchange.broke_off(details),
            }
        }
        () = ended => with.exchange.broke_off(ENDED),
        () = stopped.cancelled() => with.exchange.broke_off("local_shutdown"),
    }
    gauge.dec();
}

async fn carry(
    client: OnUpgrade,
    upstream: OnUpgrade,
    lease: Lease,
    watchdog: &mut Watchdog,
) -> Result<(u64, u64), &'static str> {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade was not carried through");
            return Err("upgrade_failed");
        }
    };
    let _running = lease.release();
    let mut client = Touching {
        stream: TokioIo::new(client),
        watched: watchdog.activity().clone(),
    };
    let mut upstream = TokioIo::new(upstream);
    let mut tunnel = Tunnel::default();
    std::future::poll_fn(|cx| match tunnel.poll(cx, &mut client, &mut upstream) {
        // An abrupt end of either side is the ordinary end of a tunnel.
        Poll::Ready(copied) => Poll::Ready(Ok(copied.unwrap_or_default())),
        Poll::Pending => watchdog.poll_expired(cx).map(|expired| Err(expired.details())),
    })
    .await
}

/// Notes progress in both directions of a tunnel.
struct Touching {
    stream: TokioIo<Upgraded>,
    watched: Arc<crate::body::Activity>,
}

mod touching {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Touching;

    impl AsyncRead for Touching {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
            if polled.is_ready() {
                self.watched.touch();
            }
            polled
        }
    }

    impl AsyncWrite for Touching {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
            if polled.is_ready() {
                self.watched.touch();
            }
            polled
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}
