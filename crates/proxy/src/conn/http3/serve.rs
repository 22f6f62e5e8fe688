//! One connection, from its handshake to its end.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use pomerium_web::canonical::Connection;
use quinn::{RecvStream, SendStream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::Conn;
use super::super::serve::{HANDSHAKE, MAX_HEAD, STALLED};
use super::super::state::{ConnLimits, ConnState, Verdict};
use super::link::Link;
use super::{code, control, handshake, request, varint};
use crate::lifecycle::Phase;
use crate::listener::quic::{Offer, UnderWay};
use crate::worker::Worker;

/// Stream type and frame types of our control stream.
const CONTROL: u8 = 0x0;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
/// Settings (RFC 9114 section 7.2.4.1). The capacity of the dynamic table is zero unless said otherwise.
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// A connection that is told to go and has nothing running is closed this much later: what was sent by then still
/// arrives.
const PARTING: Duration = Duration::from_millis(250);

/// Serves one connection.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    (incoming, offer): (quinn::Incoming, Arc<Offer>),
    bound: SocketAddr,
    under_way: UnderWay,
) {
    let metrics = worker.shared.metrics.clone();
    let from = incoming.remote_address();
    let accepting = handshake::accept(&worker, incoming, &offer);
    let (quic, client) = match tokio::time::timeout(HANDSHAKE, accepting).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            metrics.handshake_failures.inc();
            return tracing::debug!(%error, peer = %from, "QUIC handshake failed");
        }
        Err(_) => {
            metrics.handshake_failures.inc();
            return tracing::debug!(peer = %from, "QUIC handshake timed out");
        }
    };
    drop((under_way, offer));
    let state = ConnState::new();
    state.is_multiplexed();
    let _registered = worker.lifecycle.register(state.clone());
    let timeouts = &worker.snapshot().timeouts;
    let conn = Conn {
        info: addresses(&quic, bound),
        state: state.clone(),
        worker: worker.clone(),
        client,
    };
    let limits = ConnLimits {
        head: None,
        idle: timeouts.idle,
        stalled: None,
    };
    let link = Link::new(quic, conn, timeouts.read.unwrap_or(STALLED));
    tokio::spawn(control::accept(link.clone()));
    drive(&link, limits).await;
    link.quic.close(code::NO_ERROR, b"");
    // The connection's own task sends the goodbye; it runs before we are asked again.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
}

fn addresses(quic: &quinn::Connection, bound: SocketAddr) -> Connection {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let ip = quic.local_ip().map_or(bound.ip(), |ip: IpAddr| ip.to_canonical());
    Connection {
        peer: plain(quic.remote_address()),
        tls: true,
        local: SocketAddr::new(ip, bound.port()),
    }
}

/// Takes requests until the connection is to end.
async fn drive(link: &Arc<Link>, limits: ConnLimits) {
    let Some(mut control) = open(link).await else {
        return;
    };
    let mut ending = pin!(Ending::new(link.clone(), limits));
    let mut next = 0;
    let end = loop {
        tokio::select! {
            biased;
            end = ending.as_mut() => break end,
            stream = link.quic.accept_bi() => match stream {
                Ok((send, receive)) => next = next.max(take(link, send, receive)),
                Err(error) => {
                    return tracing::debug!(%error, peer = %link.conn.info.peer, "downstream connection ended");
                }
            },
        }
    };
    if end == End::Finish {
        finish(link, &mut control, next).await;
    }
}

/// Opens our control stream and says what we support.
async fn open(link: &Link) -> Option<SendStream> {
    let mut stream = link.quic.open_uni().await.ok()?;
    let mut settings = BytesMut::new();
    varint::write(MAX_FIELD_SECTION_SIZE, &mut settings);
    varint::write(MAX_HEAD as u64, &mut settings);
    let mut out = BytesMut::from(&[CONTROL, SETTINGS][..]);
    varint::write(settings.len() as u64, &mut out);
    out.unsplit(settings);
    stream.write_all(&out).await.ok()?;
    Some(stream)
}

/// Serves one request; returns the id that the next one would have.
fn take(link: &Arc<Link>, send: SendStream, receive: RecvStream) -> u64 {
    // Ids of requests count in fours (RFC 9000 section 2.1).
    let next = quinn::VarInt::from(send.id()).into_inner() + 4;
    tokio::spawn(request::serve(link.begin(), send, receive));
    next
}

/// Tells the client to go and waits for what runs. Requests that come meanwhile are refused in the way that says
/// that nothing was done (RFC 9114 section 5.2).
async fn finish(link: &Link, control: &mut SendStream, next: u64) {
    link.finishing.store(true, Ordering::Relaxed);
    let mut id = BytesMut::new();
    varint::write(next, &mut id);
    let mut out = BytesMut::from(&[GOAWAY][..]);
    varint::write(id.len() as u64, &mut out);
    out.unsplit(id);
    let said = async {
        let _ = control.write_all(&out).await;
    };
    let waiting = async {
        said.await;
        while !link.is_quiet() {
            link.quiet.notified().await;
        }
        // What was just sent may still be on its way, or need to be sent again.
        tokio::time::sleep(PARTING.max(3 * link.quic.rtt())).await;
    };
    let refusing = async {
        while let Ok((mut send, mut receive)) = link.quic.accept_bi().await {
            let _ = send.reset(code::REQUEST_REJECTED);
            let _ = receive.stop(code::REQUEST_REJECTED);
        }
    };
    let stopped = link.conn.worker.lifecycle.stopped.clone();
    tokio::select! {
        () = waiting => {}
        () = refusing => {}
        () = stopped.cancelled() => {}
    }
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// In order.
    Finish,
    /// At once.
    Cut,
}

/// Ready when the connection is to end: the process drains, it was idle for too long, its client has moved.
struct Ending {
    link: Arc<Link>,
    limits: ConnLimits,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    fn new(link: Arc<Link>, limits: ConnLimits) -> Self {
        let timer = match link.conn.state.verdict(&limits) {
            Verdict::Wait(at) => Some(Box::pin(sleep_until(at))),
            _ => None,
        };
        Self { link, limits, timer }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.link.conn.state.verdict(&self.limits) {
                Verdict::Wait(at) => timer
                    .as_mut()
                    .reset(at.max(Instant::now() + Duration::from_millis(10))),
                Verdict::Unlimited => self.timer = None,
                Verdict::Idle | Verdict::Cut | Verdict::SlowHead => return Poll::Ready(End::Finish),
            }
        }
        Poll::Pending
    }
}

impl Future for Ending {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        self.link.conn.state.driver.register(cx.waker());
        match self.link.conn.worker.lifecycle.phase() {
            Phase::Running if !self.link.moved.load(Ordering::Relaxed) => self.poll_idle(cx),
            Phase::Running | Phase::Draining => Poll::Ready(End::Finish),
            Phase::Stopped => Poll::Ready(End::Cut),
        }
    }
}
