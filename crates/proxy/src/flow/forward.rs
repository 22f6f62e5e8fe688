//! Forwarding: the request goes to a destination of the route, the answer comes back as it streams.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::negotiate::{ClientKind, wants_local_reply};
use std::sync::Arc;

use super::judge::Allowed;
use super::reply::{self, Problem};
use super::{Flow, Reply};
use crate::body::{RequestBody, ResponseBody, Tail, Watchdog};
use crate::conn::Conn;
use crate::exchange::Exchange;
use crate::headers::request::{Sources, prepare, rewrite_path};
use crate::headers::response;
use crate::route::{Route, RouteAction};
use crate::upstream::pool::Failed;
use crate::upstream::{Endpoint, Lease, UpstreamError};

/// Forwards an allowed request.
pub(super) async fn forward(mut flow: Box<Flow>, route: Arc<Route>, allowed: Allowed) -> Reply {
    if make_ready(&mut flow, &route, &allowed).is_err() {
        return flow.fail(Problem::BadRewrite);
    }
    let Flow {
        conn,
        snapshot,
        request,
        parts,
        body,
        activity,
        mut exchange,
        ..
    } = *flow;
    let mut watchdog = Watchdog::new(activity.clone(), route.limits(snapshot.limits()));
    let clues = Clues::of(&parts.headers);
    let host = route.host.value(&request, &parts.headers);
    let outgoing = Box::new(Request::from_parts(parts, RequestBody::new(body, activity)));
    match send(&conn, &route, outgoing, host, &mut exchange, &mut watchdog).await {
        Ok((response, lease)) => {
            watchdog.response_began();
            stream(
                response,
                &route,
                &request,
                Tail {
                    exchange,
                    lease: Some(lease),
                    watchdog: Some(watchdog),
                },
            )
        }
        Err(problem) => {
            conn.worker.shared.metrics.upstream_failure();
            reply::make(exchange, clues.kind(), problem)
        }
    }
}

/// What is needed of the request's headers to answer a failure in the right form.
pub(super) struct Clues {
    accept: Option<HeaderValue>,
    content_type: Option<HeaderValue>,
}

impl Clues {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            accept: headers.get(ACCEPT).cloned(),
            content_type: headers.get(CONTENT_TYPE).cloned(),
        }
    }

    pub(super) fn kind(self) -> ClientKind {
        let mut headers = HeaderMap::with_capacity(2);
        headers.extend(self.accept.map(|value| (ACCEPT, value)));
        headers.extend(self.content_type.map(|value| (CONTENT_TYPE, value)));
        wants_local_reply(&headers)
    }
}

/// Turns the client's head into the upstream's, all but `Host`.
pub(super) fn make_ready(flow: &mut Flow, route: &Route, allowed: &Allowed) -> Result<(), ()> {
    let sources = Sources {
        shared: &flow.conn.worker.shared,
        snapshot: &flow.snapshot,
        route,
        request: &flow.request,
        principal: allowed.principal.as_deref(),
        identity: allowed.identity.as_deref(),
        now: allowed.now,
    };
    prepare(&mut flow.parts, &sources);
    rewrite_path(&mut flow.parts, route, &flow.request)
}

/// Sends the request and waits for the response head, within the limits.
pub(super) async fn send(
    conn: &Conn,
    route: &Route,
    request: Box<Request<RequestBody>>,
    host: Option<HeaderValue>,
    exchange: &mut Exchange,
    watchdog: &mut Watchdog,
) -> Result<(Response<Incoming>, Lease), Problem> {
    let activity = watchdog.activity().clone();
    let mut trying = pin!(try_each(conn, route, request, host, exchange));
    let sent = std::future::poll_fn(|cx| match trying.as_mut().poll(cx) {
        Poll::Ready(sent) => Poll::Ready(sent.map_err(|error| Problem::upstream(&error))),
        Poll::Pending => watchdog
            .poll_expired(cx)
            .map(|expired| Err(Problem::expired(expired, activity.is_request_received()))),
    });
    sent.await
}

/// Tries the destinations until one takes the request. Another one is tried only when nothing was sent.
async fn try_each(
    conn: &Conn,
    route: &Route,
    mut request: Box<Request<RequestBody>>,
    host: Option<HeaderValue>,
    exchange: &mut Exchange,
) -> Result<(Response<Incoming>, Lease), UpstreamError> {
    let mut last = UpstreamError::ConnectTimeout;
    let RouteAction::Forward(cluster) = &route.action else {
        return Err(last);
    };
    for endpoint in cluster.order() {
        address(&mut request, host.as_ref(), endpoint);
        exchange.forwarded(request.headers().get(HOST).cloned(), request.uri().path());
        match conn.worker.pools.of(endpoint).send(request).await {
            Ok(sent) => return Ok(sent),
            Err(Failed {
                error,
                request: Some(untouched),
            }) if error.before_request() => {
                tracing::debug!(%error, cluster = %cluster.name, "a destination cannot be reached");
                request = untouched;
                last = error;
            }
            Err(failed) => return Err(failed.error),
        }
    }
    Err(last)
}

/// Writes the `Host` for this destination. One without an authority (a UNIX socket) gets it as it came.
fn address(request: &mut Request<RequestBody>, host: Option<&HeaderValue>, endpoint: &Endpoint) {
    if let Some(value) = host.or(endpoint.authority.as_ref()) {
        request.headers_mut().insert(HOST, value.clone());
    }
}

/// The upstream's answer on its way to the client.
pub(super) fn stream(
    response: Response<Incoming>,
    route: &Route,
    request: &CanonicalRequest,
    mut tail: Tail,
) -> Reply {
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked this upstream to switch.
        drop((tail.lease.take(), body));
        return reply::make(tail.exchange, ClientKind::Plain, Problem::UnaskedSwitch);
    }
    parts.version = Version::HTTP_11;
    response::apply(&mut parts.headers, route, &request.request_id);
    tail.exchange.answered(parts.status.as_u16(), "via_upstream");
    if request.method == Method::HEAD {
        tail.exchange.completed();
    }
    Response::from_parts(parts, ResponseBody::upstream(body, tail))
}
