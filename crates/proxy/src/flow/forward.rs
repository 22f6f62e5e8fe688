//! Forwarding: the request goes to a destination of the route, the answer comes back as it streams.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::task::Poll;

use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::negotiate::{ClientKind, wants_local_reply};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use std::sync::Arc;

use super::judged::Allowed;
use super::reply::{self, Problem};
use super::{Flow, Reply};
use crate::body::{Expired, RequestBody, ResponseBody, Tail, Watchdog};
use crate::conn::Conn;
use crate::exchange::Exchange;
use crate::headers::request::{Sources, prepare, rewrite_path};
use crate::headers::response;
use crate::route::{Route, RouteAction};
use crate::upstream::balance::key_of;
use crate::upstream::cluster::Choice;
use crate::upstream::pool::To;
use crate::upstream::{Cluster, Endpoint, Host, Lease, Outcome, UpstreamError};
use crate::worker::Worker;

/// Hosts that one request tries at most.
const MOST_HOSTS: usize = 8;
const ROUTING_KEY: HeaderName = HeaderName::from_static("x-pomerium-routing-key");

/// Forwards an allowed request.
pub(super) async fn forward(mut flow: Box<Flow>, route: Arc<Route>, allowed: Allowed) -> Reply {
    if let Err(problem) = make_ready(&mut flow, &route, &allowed).await {
        return flow.fail(problem);
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
    let sending = Sending {
        conn: &conn,
        route: &route,
        host: route.headers.host.value(&request, &parts.headers),
        key: balance_key(&route, &request, &parts.headers),
        switches: false,
    };
    let body = RequestBody::new(body, activity, request.is_grpc);
    let outgoing = Box::new(Request::from_parts(parts, body));
    match send(sending, outgoing, &mut exchange, &mut watchdog).await {
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
pub(super) async fn make_ready(flow: &mut Flow, route: &Route, allowed: &Allowed) -> Result<(), Problem> {
    set_headers(flow, route, allowed).await?;
    let session = allowed
        .principal
        .as_deref()
        .map(|principal| &principal.session_id);
    let key = session
        .filter(|_| hashes(route))
        .and_then(|session| routing_key(session));
    if let Some(key) = key {
        flow.parts.headers.insert(ROUTING_KEY, key);
    }
    rewrite_path(&mut flow.parts, route, &flow.request).map_err(|()| Problem::BadRewrite)
}

/// Takes credentials of ours off the head, and puts identity and the headers of the route on it. Waits only for the
/// first Google token of an upstream that wants one.
pub(crate) async fn set_headers(flow: &mut Flow, route: &Route, allowed: &Allowed) -> Result<(), Problem> {
    if let Some(audience) = &route.settings.google_audience {
        flow.conn.worker.shared.tokens.google_tried(audience).await;
    }
    let sources = Sources {
        shared: &flow.conn.worker.shared,
        snapshot: &flow.snapshot,
        route,
        request: &flow.request,
        principal: allowed.principal.as_deref(),
        identity: allowed.identity.as_deref(),
        certificate: super::client_certificate(
            &flow.snapshot,
            flow.conn.client.as_deref(),
            route,
            allowed.now,
        ),
        now: allowed.now,
    };
    prepare(&mut flow.parts, &sources).map_err(Problem::missing)
}

fn hashes(route: &Route) -> bool {
    matches!(&route.action, RouteAction::Forward(cluster) if cluster.hashes())
}

/// The same for all requests of a session, and no secret (spec proxy.md 6.4).
fn routing_key(session: &str) -> Option<HeaderValue> {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(session.as_bytes()) {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
    }
    HeaderValue::try_from(text).ok()
}

/// What the hashing policies look at: the routing key of a session, otherwise the client's address. One
/// key for everybody without a session would send all of them to one host.
pub(super) fn balance_key(route: &Route, request: &CanonicalRequest, headers: &HeaderMap) -> u64 {
    if !hashes(route) {
        return 0;
    }
    match (headers.get(ROUTING_KEY), request.client_ip) {
        (Some(key), _) => key_of(key.as_bytes()),
        (None, IpAddr::V4(client)) => key_of(&client.octets()),
        (None, IpAddr::V6(client)) => key_of(&client.octets()),
    }
}

/// What sending needs beside the request.
pub(super) struct Sending<'a> {
    pub(super) conn: &'a Conn,
    pub(super) route: &'a Route,
    /// The `Host` for the upstream, where the route says so.
    pub(super) host: Option<HeaderValue>,
    /// What the hashing policies of balancing look at.
    pub(super) key: u64,
    /// The request asks for an upgrade.
    pub(super) switches: bool,
}

/// Sends the request and waits for the response head, within the limits and for as long as the client may ask for it.
/// Another host is tried only when the one before has certainly not looked at the request.
pub(super) async fn send(
    sending: Sending<'_>,
    mut request: Box<Request<RequestBody>>,
    exchange: &mut Exchange,
    watchdog: &mut Watchdog,
) -> Result<(Response<Incoming>, Lease), Problem> {
    let worker = &sending.conn.worker;
    let RouteAction::Forward(cluster) = &sending.route.action else {
        return Err(Problem::upstream(&UpstreamError::NoHost));
    };
    let Some(mut running) = cluster.begin() else {
        worker.shared.metrics.upstream_overflow();
        return Err(Problem::upstream(&UpstreamError::Overflow("max_requests")));
    };
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    let mut last = UpstreamError::NoHost;
    // Of one request however often it is sent on.
    let mut retrying = None;
    loop {
        let host = match cluster.choose(sending.key, &tried) {
            Choice::Host(host) => host,
            Choice::None => return Err(Problem::upstream(&last)),
            Choice::Unknown => {
                resolve(cluster, worker, watchdog).await?;
                continue;
            }
        };
        cluster.count_at(&mut running, &host);
        address(&mut request, sending.host.as_ref(), &host.endpoint);
        exchange.forwarded(request.headers().get(HOST).cloned(), request.uri().path());
        let pool = worker.pools.of(&host);
        let to = To {
            cluster,
            host: &host,
            switches: sending.switches,
        };
        let mut trying = pin!(pool.send(to, running, request));
        let sent = std::future::poll_fn(|cx| match trying.as_mut().poll(cx) {
            Poll::Ready(sent) => Poll::Ready(Ok(sent)),
            Poll::Pending if exchange.poll_ended(cx).is_ready() => Poll::Ready(Err(Problem::Ended)),
            Poll::Pending => {
                let expired = watchdog.poll_expired(cx);
                expired.map(|expired| Err(too_late(expired, &host, watchdog)))
            }
        });
        let failed = match sent.await {
            Ok(Ok((response, lease))) => {
                host.answered(&response);
                return Ok((response, lease));
            }
            Ok(Err(failed)) => failed,
            Err(problem) => return Err(problem),
        };
        if let Some(outcome) = failed.error.outcome() {
            host.report(outcome);
        }
        let Some(untouched) = failed.request.filter(|_| failed.error.concerns_host()) else {
            return Err(Problem::upstream(&failed.error));
        };
        unreachable(worker, cluster, &host, &failed.error);
        tried.push(host.id);
        retrying = retrying.or_else(|| cluster.retry());
        if retrying.is_none() || tried.len() >= MOST_HOSTS {
            return Err(Problem::upstream(&failed.error));
        }
        (request, running, last) = (untouched, failed.running, failed.error);
    }
}

/// Says why, which the client is not told: a certificate that does not fit, a refused connection.
fn unreachable(worker: &Worker, cluster: &Cluster, host: &Host, error: &UpstreamError) {
    if let Some(left_out) = worker.unreachable.line() {
        tracing::warn!(%error, cluster = %cluster.name, ?host, left_out, "a host of an upstream cannot be reached");
    }
}

/// The first request of a cluster waits until its hosts are known. In a box: it happens once.
async fn resolve(cluster: &Arc<Cluster>, worker: &Worker, watchdog: &mut Watchdog) -> Result<(), Problem> {
    let activity = watchdog.activity().clone();
    let mut resolving = Box::pin(cluster.resolve(worker.pools.upstreams()));
    std::future::poll_fn(|cx| match resolving.as_mut().poll(cx) {
        Poll::Ready(resolved) => Poll::Ready(resolved.map_err(|error| Problem::upstream(&error))),
        Poll::Pending => watchdog
            .poll_expired(cx)
            .map(|expired| Err(Problem::expired(expired, activity.is_request_received()))),
    })
    .await
}

/// A limit ran out. Whether that is the host's doing depends on who owed the next byte.
fn too_late(expired: Expired, host: &Host, watchdog: &Watchdog) -> Problem {
    let problem = Problem::expired(expired, watchdog.activity().is_request_received());
    if matches!(problem, Problem::UpstreamSlow(_)) {
        host.report(Outcome::ResponseTimeout);
    }
    problem
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
    response::one_length(&mut parts.headers, parts.status);
    let own = &tail.exchange.snapshot.own_cookies;
    response::apply(&mut parts.headers, route, (own, &request.request_id));
    tail.exchange.answered(parts.status.as_u16(), "via_upstream");
    if request.method == Method::HEAD {
        tail.exchange.completed();
    }
    Response::from_parts(parts, ResponseBody::upstream(body, tail))
}
