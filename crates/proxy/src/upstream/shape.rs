//! The form of a request on the wire: origin form with `Host` on HTTP/1.1, `:authority` on HTTP/2.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use http_body::Body;

use crate::body::RequestBody;

/// Without a body there is no length but 0, whatever was announced: an upstream that waits for more would take the next
/// request on the connection for it.
fn settle_length(request: &mut Request<RequestBody>) {
    if request.body().is_end_stream()
        && let Some(length) = request.headers_mut().get_mut(CONTENT_LENGTH)
    {
        *length = HeaderValue::from_static("0");
    }
}

/// Makes the request fit for HTTP/1.1.
///
/// A body of unknown length is sent chunked whatever the method: the library would leave it out of a
/// GET otherwise, and the upstream would get another request than the one that was judged.
pub(super) fn http1(request: &mut Request<RequestBody>) {
    if let Some(authority) = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned())
    {
        if let Ok(value) = HeaderValue::try_from(authority) {
            request.headers_mut().insert(HOST, value);
        }
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    *request.version_mut() = Version::HTTP_11;
    request.body_mut().without_trailers();
    settle_length(request);
    let unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    if unknown && !request.headers().contains_key(CONTENT_LENGTH) {
        request
            .headers_mut()
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes the request fit for HTTP/2.
pub(super) fn http2(request: &mut Request<RequestBody>, tls: bool) {
    *request.version_mut() = Version::HTTP_2;
    settle_length(request);
    request.headers_mut().remove(TRANSFER_ENCODING);
    let Some(host) = request.headers_mut().remove(HOST) else {
        return;
    };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else {
        return;
    };
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts
        .path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
