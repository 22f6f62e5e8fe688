//! One request on its stream, from its head to the last byte of its answer.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Version};
use pomerium_web::canonical::Refusal;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::time::timeout;

use super::super::Conn;
use super::answer::{self, Sender, Unsent};
use super::body::Body;
use super::code;
use super::head::{self, Limits, Refused};
use super::link::{Link, Running};
use super::reader::{Event, Fault, Reader};
use crate::body::ClientBody;
use crate::conn::serve::{MAX_FIELDS, MAX_HEAD};
use crate::flow::{self, Reply};

const LIMITS: Limits = Limits {
    bytes: MAX_HEAD,
    lines: MAX_FIELDS,
};

/// Some clients send the end of a request apart from its head. Where hardly ever a body follows it is waited for this
/// long: without it the upstream would be announced a body, and not every server takes a GET with one.
const END: Duration = Duration::from_millis(20);
/// How long the last answers of a connection may take to be acknowledged.
const PARTING: Duration = Duration::from_secs(5);

/// Serves the request on one stream.
pub(super) async fn serve(running: Running, send: SendStream, receive: RecvStream) {
    let link = &*running.0;
    let mut sender = Sender::new(send);
    let mut reader = Reader::new(receive, MAX_HEAD);
    let head = match timeout(link.patience, read(&mut reader)).await {
        Ok(head) => head,
        Err(_) => {
            link.conn.worker.shared.metrics.slow_heads.inc();
            Err(Fault::Stream(code::REQUEST_INCOMPLETE))
        }
    };
    let Some(conn) = here(link) else {
        link.leave();
        sender.reset(code::REQUEST_REJECTED);
        reader.stop(code::REQUEST_REJECTED);
        return;
    };
    let ended = match head {
        Ok(head) => answer(link, &conn, head, reader, &mut sender).await,
        Err(Fault::TooLarge) => {
            let refusal = too_large();
            let reply = flow::refuse(&conn, Version::HTTP_3, &refusal);
            let stopped = pin!(sender.stopped());
            reader.stop(code::EXCESSIVE_LOAD);
            let clock = &*conn.worker.shared.clock;
            answer::send(&mut sender, reply, clock, stopped).await
        }
        Err(Fault::Gone) => return sender.reset(code::REQUEST_INCOMPLETE),
        Err(Fault::Connection(code)) => return link.quic.close(code, b""),
        Err(Fault::Stream(code)) => return refuse(&mut sender, &mut reader, code),
    };
    match ended {
        // The connection closes when its last request is through, and with it what was not received yet.
        Ok(()) if link.finishing.load(Ordering::Relaxed) => {
            let _ = timeout(PARTING, sender.stopped()).await;
        }
        Ok(()) => {}
        Err(_) => sender.reset(code::INTERNAL_ERROR),
    }
}

fn refuse(sender: &mut Sender, reader: &mut Reader, code: VarInt) {
    sender.reset(code);
    reader.stop(code);
}

fn too_large() -> Refusal {
    Refusal {
        status: 431,
        detail: "header fields are too large",
        redirect: None,
        close: false,
    }
}

/// The connection as it is now; `None` when the client is somewhere else than it has shown to be.
fn here(link: &Link) -> Option<Conn> {
    let mut now = link.quic.remote_address();
    now.set_ip(now.ip().to_canonical());
    let mut conn = link.conn.clone();
    conn.info.peer = now;
    (now.ip() == link.home).then_some(conn)
}

/// Reads the head.
async fn read(reader: &mut Reader) -> Result<Parts, Fault> {
    match std::future::poll_fn(|cx| reader.poll_event(cx)).await? {
        Event::Section(block) => head::read(block, LIMITS).map_err(|refused| match refused {
            Refused::Malformed => Fault::Stream(code::MESSAGE_ERROR),
            Refused::TooLarge => Fault::TooLarge,
            Refused::Undecodable => Fault::Connection(code::QPACK_DECOMPRESSION_FAILED),
        }),
        Event::Data(_) => Err(Fault::Connection(code::FRAME_UNEXPECTED)),
        Event::End => Err(Fault::Stream(code::REQUEST_INCOMPLETE)),
    }
}

async fn answer(
    link: &Link,
    conn: &Conn,
    head: Parts,
    mut reader: Reader,
    sender: &mut Sender,
) -> Result<(), Unsent> {
    let bodyless =
        matches!(head.method, Method::GET | Method::HEAD) && !head.headers.contains_key(CONTENT_LENGTH);
    let length = length(&head.headers);
    let body = if reader.ends(bodyless.then_some(END)).await {
        if length.is_some_and(|length| length > 0) {
            // Passed on, the length would make the next request on the upstream's connection the body of this one.
            refuse(sender, &mut reader, code::MESSAGE_ERROR);
            return Ok(());
        }
        ClientBody::Empty
    } else {
        ClientBody::Streamed(Box::pin(Body::new(reader, link.quic.clone(), LIMITS, length)))
    };
    let mut stopped = pin!(sender.stopped());
    let reply = tokio::select! {
        biased;
        reply = reply(conn, Request::from_parts(head, body)) => reply,
        () = stopped.as_mut() => {
            link.cancelled();
            return Err(Unsent::Client);
        }
    };
    answer::send(sender, reply, &*conn.worker.shared.clock, stopped).await
}

async fn reply(conn: &Conn, request: Request<ClientBody>) -> Reply {
    match flow::begin(conn, request) {
        Ok(flow) => flow.dispatch().await,
        Err(refusal) => *refusal,
    }
}

/// The announced length of the body (RFC 9114 section 4.1.2). One that is not a number is refused with the request.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
