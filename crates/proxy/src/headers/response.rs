//! The headers of the response (spec proxy.md 4.8).

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, SERVER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode};
use pomerium_web::cookies::{self, OwnCookies};
use pomerium_web::error_reply::INTERCEPTED;
use smallvec::SmallVec;

use crate::route::Route;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Removes what belongs to the upstream's hop and what only we say, then applies the route's rules. `server` says nothing a
/// client needs (proxy.md 14).
pub(crate) fn apply(headers: &mut HeaderMap, route: &Route, (own, request_id): (&OwnCookies, &str)) {
    strip_hop_by_hop(headers);
    headers.remove(SERVER);
    if !route.settings.leads_to_sign_in {
        headers.remove(INTERCEPTED);
        cookies::strip_from_response(headers, own);
    }
    for rule in &route.settings.rewrite_response_headers {
        let Some(value) = headers.get(&rule.header) else {
            continue;
        };
        let Some(rest) = value.as_bytes().strip_prefix(rule.prefix.as_bytes()) else {
            continue;
        };
        // The first value counts; further ones (of `Set-Cookie`, say) stay as they are.
        if let Ok(rewritten) = HeaderValue::from_bytes(&[rule.value.as_bytes(), rest].concat())
            && let Some(first) = headers.get_mut(&rule.header)
        {
            *first = rewritten;
        }
    }
    route.set_response_headers(headers);
    set_request_id(headers, request_id);
}

/// One length, and none where there is no body (RFC 9110 sections 8.6 and 15.3.5): HTTP/1.1 is lenient about that, later
/// versions are not.
pub(crate) fn one_length(headers: &mut HeaderMap, status: StatusCode) {
    let Some(length) = headers.get(CONTENT_LENGTH) else {
        return;
    };
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
        return;
    }
    // All the same: the client of the upstream has looked at that.
    let first = length.as_bytes().split(|byte| *byte == b',').next();
    let alone = first
        .map(<[u8]>::trim_ascii)
        .filter(|first| first.len() < length.len());
    if let Some(alone) = alone.and_then(|alone| HeaderValue::from_bytes(alone).ok()) {
        headers.insert(CONTENT_LENGTH, alone);
    }
}

/// The request id is always told.
///
/// Over HTTP/2 it is kept out of the compression table ("sensitive" is how one says so): no two are the
/// same, and each would drive out a header that repeats.
pub(crate) fn set_request_id(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(mut value) = HeaderValue::from_str(request_id) {
        value.set_sensitive(true);
        headers.insert(REQUEST_ID, value);
    }
}

/// Headers of one hop.
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
];

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One look at the names is cheaper than a lookup for each, and most responses have none.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let mut nominated: SmallVec<[HeaderName; 2]> = SmallVec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            nominated.extend(HeaderName::from_bytes(token.trim_ascii()));
        }
    }
    for name in nominated {
        headers.remove(name);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        // The library has read the body by its chunks; a length beside them says something else.
        headers.remove(CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
