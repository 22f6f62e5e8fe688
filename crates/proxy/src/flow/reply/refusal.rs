//! Answers to requests that cannot be read in one way only (spec proxy.md 1.8, 14).

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode, Version};
use pomerium_web::canonical::Refusal;
use pomerium_web::negotiate::ClientKind;
use pomerium_web::pages::Frame;
use pomerium_web::{body, error_reply, problem};

use super::{Ending, finish};
use crate::exchange::Exchange;
use crate::flow::Reply;

/// The answer to a request that is not served as it is (spec proxy.md 1.8, 14).
pub(crate) fn refusal(
    mut exchange: Box<Exchange>,
    refusal: &Refusal,
    (head, headers): (bool, &HeaderMap),
) -> Reply {
    exchange.answered(refusal.status, refusal.detail);
    if let Some(location) = &refusal.redirect {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::TEMPORARY_REDIRECT);
        return finish(
            exchange,
            error_reply::redirect(status, location),
            Ending {
                head,
                ..Ending::default()
            },
        );
    }
    let response = refusal_page(&exchange, refusal, headers).unwrap_or_else(|| plain_refusal(refusal));
    let old = exchange.version() == Version::HTTP_10;
    let mut reply = finish(
        exchange,
        response,
        Ending {
            close: refusal.close,
            head,
        },
    );
    if old {
        // Otherwise the library offers `keep-alive` beside our `close`.
        *reply.version_mut() = Version::HTTP_10;
    }
    reply
}

/// A page, where a person sees the answer and can do something about it: with too many cookies, or an old
/// program.
fn refusal_page(
    exchange: &Exchange,
    refusal: &Refusal,
    headers: &HeaderMap,
) -> Option<pomerium_web::Response> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok())?;
    if !matches!(refusal.status, 413 | 426 | 431) || !accept.contains("text/html") {
        return None;
    }
    let frame = Frame::new(&exchange.snapshot.pages.site, exchange.request_id());
    Some(error_reply::reply(
        ClientKind::Html,
        &problem::Problem::refused(refusal),
        &frame,
    ))
}

/// A few plain words: how a client that cannot be read would like its answer cannot be trusted either.
fn plain_refusal(refusal: &Refusal) -> pomerium_web::Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or("Bad Request");
    let words = format!("{reason}: {}\n", refusal.detail);
    body::response(status, "text/plain; charset=UTF-8", words)
}
