//! One request, from its head to its answer. The steps, in order:
//!
//! 1. the canonical request (`pomerium_web::canonical`): what cannot be read in one way only is refused;
//! 2. whether the host wants another connection, with a client certificate ([`Problem::Misdirected`]);
//! 3. the route table: an internal path ([`control`]), a route, or 404;
//! 4. who asks and whether they may ([`judge`]): in memory, except once for a session not seen before;
//! 5. what the route does ([`action`]): redirect, answer, forward ([`forward`]) or upgrade ([`upgrade`]).
//!
//! Whatever goes wrong on the way ends in a refusal; every refusal is made in [`reply`].

mod action;
mod control;
pub(crate) mod forward;
mod identify;
pub(crate) mod judge;
mod judged;
pub(crate) mod record;
pub(crate) mod reply;
mod tunnel;
mod upgrade;

use std::sync::Arc;

use http::header::EXPECT;
use http::request::Parts;
use http::{Request, Response, Version};
use hyper::upgrade::OnUpgrade;
use pomerium_policy::ClientCertificate;
use pomerium_web::canonical::{self, CanonicalRequest, Refusal};
use tokio::time::Instant;

use crate::body::{Activity, ClientBody, ResponseBody};
use crate::client_tls::ClientTls;
use crate::conn::Conn;
use crate::exchange::Exchange;
use crate::route::Route;
use crate::router::Match;
use crate::snapshot::Snapshot;
use reply::Problem;

/// A response on its way to the client.
pub(crate) type Reply = Response<ResponseBody>;

/// One request with everything known about it so far.
pub(crate) struct Flow {
    pub(crate) conn: Conn,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) request: Arc<CanonicalRequest>,
    pub(crate) parts: Parts,
    pub(crate) body: ClientBody,
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) exchange: Box<Exchange>,
}

/// About how many headers a request gets on its way through.
const ADDED_HEADERS: usize = 8;

/// Reads one request; [`Flow::dispatch`] answers it. A request that cannot be read has its answer already.
///
/// Not part of the future that answers, and in a box, because a request is large: every `async` function
/// that takes it by value would copy it, and hold room for the copy.
pub(crate) fn begin(conn: &Conn, request: Request<impl Into<ClientBody>>) -> Result<Box<Flow>, Box<Reply>> {
    let start = Instant::now();
    let snapshot = conn.worker.snapshot();
    let (mut parts, body) = request.into_parts();
    let mut body = body.into();
    if parts.headers.contains_key(EXPECT) {
        body.waits_for_leave();
    }
    // At once, instead of growing one by one. Without the room they still find their place.
    let _ = parts.headers.try_reserve(ADDED_HEADERS);
    let exchange = Exchange::start(conn, snapshot.clone(), start, parts.version);
    let canonical = canonical::canonicalize(&mut parts, &conn.info, &snapshot.rules, &mut request_id);
    let activity = Activity::start(start, http_body::Body::is_end_stream(&body));
    match canonical {
        Ok(request) => Ok(assemble(conn, exchange, activity, (request, parts, body))),
        Err(refusal) => Err(unreadable(exchange, &refusal, &parts)),
    }
}

/// The same for a request that another proxy hands on to us because its path is ours: whatever that proxy says about
/// the client is believed.
pub(crate) fn begin_handed_on(
    conn: &Conn,
    snapshot: &Arc<Snapshot>,
    request: Request<impl Into<ClientBody>>,
    activity: Arc<Activity>,
) -> Result<Box<Flow>, Box<Reply>> {
    let (mut parts, body) = request.into_parts();
    let exchange = Exchange::start(conn, snapshot.clone(), activity.started(), parts.version);
    let rules = snapshot
        .decision
        .as_ref()
        .map_or(&snapshot.rules, |plan| &plan.reading.rules);
    match canonical::canonicalize(&mut parts, &conn.info, rules, &mut request_id) {
        Ok(request) => Ok(assemble(conn, exchange, activity, (request, parts, body.into()))),
        Err(refusal) => Err(unreadable(exchange, &refusal, &parts)),
    }
}

/// The same for a request that another proxy asks about: `read` makes it from what that proxy tells. It has no body and
/// is not forwarded.
pub(crate) fn begin_reported(
    conn: &Conn,
    snapshot: Arc<Snapshot>,
    (version, activity): (Version, Arc<Activity>),
    read: impl FnOnce(&mut dyn FnMut() -> String) -> Result<(CanonicalRequest, Parts), Refusal>,
) -> Result<Box<Flow>, Box<Reply>> {
    let exchange = Exchange::start(conn, snapshot, activity.started(), version);
    match read(&mut request_id) {
        Ok((request, parts)) => Ok(assemble(
            conn,
            exchange,
            activity,
            (request, parts, ClientBody::Empty),
        )),
        Err(refusal) => {
            let (parts, ()) = Request::new(()).into_parts();
            Err(unreadable(exchange, &refusal, &parts))
        }
    }
}

fn assemble(
    conn: &Conn,
    mut exchange: Box<Exchange>,
    activity: Arc<Activity>,
    (request, mut parts, body): (CanonicalRequest, Parts, ClientBody),
) -> Box<Flow> {
    let request = Arc::new(request);
    exchange.judged(&request, &parts.headers);
    exchange.moves_by(activity.clone());
    let mut flow = Box::new(Flow {
        conn: conn.clone(),
        snapshot: exchange.snapshot.clone(),
        request,
        upgrade: parts.extensions.remove::<OnUpgrade>(),
        parts,
        body,
        activity,
        exchange,
    });
    flow.trace();
    flow
}

fn unreadable(mut exchange: Box<Exchange>, refusal: &Refusal, parts: &Parts) -> Box<Reply> {
    exchange.shared_metrics().refused_requests.inc();
    exchange.unreadable(request_id());
    let head = parts.method == http::Method::HEAD;
    Box::new(reply::refusal(exchange, refusal, (head, &parts.headers)))
}

/// Answers a request whose head was refused before there was anything to read.
pub(crate) fn refuse(conn: &Conn, version: Version, refusal: &Refusal) -> Reply {
    conn.worker.shared.metrics.refused_requests.inc();
    let mut exchange = Exchange::start(conn, conn.worker.snapshot(), Instant::now(), version);
    exchange.unreadable(request_id());
    reply::refusal(exchange, refusal, (false, &http::HeaderMap::new()))
}

impl Flow {
    /// Answers the request.
    pub(crate) async fn dispatch(mut self: Box<Self>) -> Reply {
        if self.is_misdirected() {
            return self.fail(Problem::Misdirected);
        }
        match self
            .snapshot
            .table
            .find(self.request.authority.as_str(), &self.request.path)
        {
            Match::Internal(_, route) => {
                let route = route.and_then(|index| self.snapshot.routes.get(index)).cloned();
                Box::pin(control::answer(self, route)).await
            }
            // A process that only signs people in or judges knows routes for that, and forwards nothing.
            Match::Route(_) if !self.snapshot.forwards => self.fail(Problem::NoRoute),
            Match::Route(index) => match self.snapshot.routes.get(index).cloned() {
                Some(route) => {
                    self.exchange.matched(&route);
                    self.serve_route(route).await
                }
                None => self.fail(Problem::NoRoute),
            },
            Match::None => self.fail(Problem::NoRoute),
        }
    }

    /// Whether the host asks for a client certificate that this connection was not asked for (spec proxy.md 2).
    /// Before anything is answered, so that a connection for one host opens nothing of another.
    fn is_misdirected(&self) -> bool {
        let Some(clients) = &self.snapshot.clients else {
            return false;
        };
        let (client, host) = (self.conn.client.as_deref(), self.request.host());
        let now = self.conn.worker.shared.clock.now().as_second();
        match self.parts.version {
            // Without TLS no connection would be better than this one; policies judge.
            _ if !self.conn.info.tls => false,
            Version::HTTP_3 => clients.misdirected_over_quic(client, host, now),
            _ => clients.misdirected(client, host, now),
        }
    }

    /// Whether the same request may as well come over HTTP/3: not where the host asks for a certificate.
    pub(crate) fn is_welcome_over_quic(&self) -> bool {
        let clients = self.snapshot.clients.as_ref();
        clients.is_none_or(|clients| !clients.asks(self.request.host()))
    }

    async fn serve_route(self: Box<Self>, route: Arc<Route>) -> Reply {
        match self.admit(&route).await {
            Ok((flow, allowed)) => action::carry_out(flow, route, allowed).await,
            Err(refusal) => *refusal,
        }
    }

    /// Whether the request may pass, by the rate limit and the policy of its route. Otherwise the answer.
    pub(crate) async fn admit(
        mut self: Box<Self>,
        route: &Arc<Route>,
    ) -> Result<(Box<Self>, judged::Allowed), Box<Reply>> {
        let started = self.activity.started();
        if let Some(throttle) = &route.throttle
            && let Err(wait) = throttle.on_arrival(&self.request, started)
        {
            return Err(Box::new(self.too_often(wait)));
        }
        let judged = judge::judge(&mut self, route).await;
        if let Some(throttle) = &route.throttle
            && let Err(wait) = throttle.on_identity(&self.request, judged.principal(), started)
        {
            return Err(Box::new(self.too_often(wait)));
        }
        match judged {
            judged::Judged::Allowed(allowed) => {
                self.exchange.keep_headers(route, &self.parts.headers);
                Ok((self, allowed))
            }
            judged::Judged::Refused(refused) => Err(Box::new(reply::refused(self, route, refused))),
        }
    }

    /// Answers a request that another proxy has handed on: paths of ours and nothing else.
    pub(crate) async fn dispatch_internal(self: Box<Self>) -> Reply {
        match self
            .snapshot
            .table
            .find(self.request.authority.as_str(), &self.request.path)
        {
            Match::Internal(_, route) => {
                let route = route.and_then(|index| self.snapshot.routes.get(index)).cloned();
                Box::pin(control::answer(self, route)).await
            }
            Match::Route(_) | Match::None => self.fail(Problem::NoRoute),
        }
    }

    fn too_often(self: Box<Self>, wait: std::time::Duration) -> Reply {
        self.conn.worker.shared.metrics.rate_limited.inc();
        self.fail(Problem::too_often(wait))
    }

    /// An answer of ours to a request that cannot be served.
    pub(crate) fn fail(self: Box<Self>, problem: Problem) -> Reply {
        reply::problem(self, problem)
    }

    /// Passes the trace context on, or starts a span that takes its place.
    fn trace(&mut self) {
        const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");
        let Some(tracer) = &self.conn.worker.shared.tracer else {
            return;
        };
        let span = tracer.start(&self.request, self.parts.headers.get(TRACEPARENT));
        if let Some(own) = span.traceparent() {
            self.parts.headers.insert(TRACEPARENT, own);
        }
        self.exchange.span = Some(span);
    }
}

/// The client certificate of a connection as it stands for `route`, where somebody looks at it.
pub(crate) fn client_certificate<'a>(
    snapshot: &Snapshot,
    client: Option<&'a ClientTls>,
    route: &Route,
    now: jiff::Timestamp,
) -> ClientCertificate<'a> {
    match &snapshot.clients {
        Some(clients) if route.needs_certificate => clients.judge(client, &route.settings, now.as_second()),
        _ => ClientCertificate::default(),
    }
}

/// A random UUID, from the generator of this thread.
fn request_id() -> String {
    let bytes: [u8; 16] = rand::random();
    let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    String::from(&*id.hyphenated().encode_lower(&mut text))
}
