//! The record of one request: what the access log and the counters say about it when it has ended.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderMap, REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Version};
use parking_lot::Mutex;
use pomerium_authorize::Principal;
use pomerium_web::canonical::CanonicalRequest;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::access_log::line::{self, Facts};
use crate::body::{Activity, MOMENT, Tail};
use crate::client_tls::Shown;
use crate::conn::{Conn, Guard};
use crate::flow::client_certificate;
use crate::live::{Begun, Hold};
use crate::metrics::Metrics;
use crate::route::Route;
use crate::shared::RequestSpan;
use crate::snapshot::Snapshot;
use crate::worker::Worker;

/// Everything about one request that is told at its end. Dropping it tells.
pub struct Exchange {
    worker: Arc<Worker>,
    pub(crate) snapshot: Arc<Snapshot>,
    start: Instant,
    request: Option<Arc<CanonicalRequest>>,
    /// The id of a request that could not be read.
    own_id: String,
    route: Option<Arc<Route>>,
    principal: Option<Arc<Principal>>,
    /// The headers it was judged by, where the policy looks at them.
    headers: Option<Arc<HeaderMap>>,
    activity: Option<Arc<Activity>>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    named: SmallVec<[Option<HeaderValue>; 2]>,
    upstream_authority: Option<HeaderValue>,
    upstream_path: Option<Box<str>>,
    status: u16,
    size: u64,
    details: Cow<'static, str>,
    completed: bool,
    /// Taken when it lasts longer than a moment.
    held: Option<Box<Hold>>,
    pub(crate) span: Option<Box<dyn RequestSpan>>,
    version: Version,
    shown: Shown,
    _running: Guard,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Exchange {
    pub(crate) fn start(conn: &Conn, snapshot: Arc<Snapshot>, start: Instant, version: Version) -> Box<Self> {
        conn.worker.shared.metrics.active_requests.inc();
        Box::new(Self {
            worker: conn.worker.clone(),
            snapshot,
            start,
            request: None,
            own_id: String::new(),
            route: None,
            principal: None,
            headers: None,
            activity: None,
            user_agent: None,
            referer: None,
            forwarded_for: None,
            named: SmallVec::new(),
            upstream_authority: None,
            upstream_path: None,
            status: 0,
            size: 0,
            details: Cow::Borrowed(""),
            completed: false,
            held: None,
            span: None,
            version,
            shown: Shown {
                client: conn.client.clone(),
                tls: conn.info.tls,
            },
            _running: conn.state.request(),
        })
    }

    /// The counters it adds to at its end.
    pub(crate) fn shared_metrics(&self) -> &Metrics {
        &self.worker.shared.metrics
    }

    /// Notes the request as it was judged, and what the log wants of its headers.
    pub(crate) fn judged(&mut self, request: &Arc<CanonicalRequest>, headers: &HeaderMap) {
        self.request = Some(request.clone());
        self.user_agent = headers.get(USER_AGENT).cloned();
        self.referer = headers.get(REFERER).cloned();
        self.forwarded_for = headers.get(FORWARDED_FOR).cloned();
        self.named = self
            .snapshot
            .access_log
            .headers
            .iter()
            .map(|name| headers.get(name).cloned())
            .collect();
    }

    /// The route that answers, once it is known.
    pub(crate) fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    pub(crate) fn matched(&mut self, route: &Arc<Route>) {
        self.route = Some(route.clone());
    }

    /// Notes where the progress of its bodies is kept.
    pub(crate) fn moves_by(&mut self, activity: Arc<Activity>) {
        self.activity = Some(activity);
    }

    /// Notes whether the client's side has yet to ask for more of the answer.
    pub(crate) fn unread(&self, unread: bool) {
        if let Some(activity) = &self.activity {
            activity.unread(unread);
        }
    }

    /// Where the progress of its bodies is kept.
    pub(crate) fn activity(&self) -> Option<Arc<Activity>> {
        self.activity.clone()
    }

    /// Notes the answer, for whoever ends it from outside.
    pub(crate) fn answered_by(&self, answer: &Weak<Mutex<Tail>>) {
        if let Some(activity) = &self.activity {
            activity.answered_by(answer.clone());
        }
    }

    /// Notes who asked.
    pub(crate) fn asked_by(&mut self, principal: Option<Arc<Principal>>) {
        self.principal = principal;
    }

    /// Keeps the headers that `route` judges by, for whoever is judged again.
    pub(crate) fn keep_headers(&mut self, route: &Route, headers: &HeaderMap) {
        if route.depends.headers {
            self.headers = Some(Arc::new(headers.clone()));
        }
    }

    /// A place among what goes on for long; none for what belongs to no route.
    pub(crate) fn hold(&self) -> Option<Hold> {
        let (request, route) = (self.request.clone()?, self.route.clone()?);
        let now = self.worker.shared.clock.now();
        let client = self.shown.client.as_deref();
        let trust = client_certificate(&self.snapshot, client, &route, now).trust;
        let hold = self.worker.live.hold(Begun {
            request,
            headers: self.headers.clone(),
            principal: self.principal.clone(),
            route,
            shown: self.shown.clone(),
            trust,
        });
        // Routes and records may have changed since the request was judged.
        hold.catch_up(&self.worker.snapshot(), &self.worker.shared.sessions, now);
        Some(hold)
    }

    /// Whether it may not go on: its route is gone, or those it belongs to have lost it. Looked at from a moment after
    /// its beginning.
    pub(crate) fn is_ended(&mut self) -> bool {
        self.held().is_some_and(Hold::is_ended)
    }

    /// Ready when it may not go on.
    pub(crate) fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.held().map_or(Poll::Pending, |hold| hold.poll_ended(cx))
    }

    fn held(&mut self) -> Option<&Hold> {
        if self.held.is_none() && self.start.elapsed() >= MOMENT {
            self.held = self.hold().map(Box::new);
        }
        self.held.as_deref()
    }

    /// Notes where the request goes and with which path.
    pub(crate) fn forwarded(&mut self, authority: Option<HeaderValue>, path: &str) {
        self.upstream_authority = authority;
        if self.request.as_ref().is_none_or(|request| request.path != path) {
            self.upstream_path = Some(path.into());
        }
    }

    /// Notes the answer.
    pub(crate) fn answered(&mut self, status: u16, details: impl Into<Cow<'static, str>>) {
        self.status = status;
        self.details = details.into();
    }

    /// Corrects the status: some answers have another one than the problem they tell.
    pub(crate) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// Whether the request came over HTTP/2.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.version >= Version::HTTP_2
    }

    /// The version of HTTP the client speaks.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn is_head(&self) -> bool {
        self.request
            .as_ref()
            .is_some_and(|request| request.method == Method::HEAD)
    }

    /// The host asked for, without port.
    pub(crate) fn host(&self) -> &str {
        self.request.as_ref().map_or("", |request| request.host())
    }

    /// The address that makes the same request again, where asking twice does no harm.
    pub(crate) fn again(&self) -> Option<String> {
        let request = self.request.as_ref()?;
        request.method.is_safe().then(|| request.path_and_query())
    }

    pub(crate) fn add_bytes(&mut self, bytes: usize) {
        self.size += bytes as u64;
    }

    /// The response went out whole.
    pub(crate) fn completed(&mut self) {
        self.completed = true;
    }

    /// The response broke off after it had begun.
    pub(crate) fn broke_off(&mut self, details: &'static str) {
        self.details = Cow::Borrowed(details);
        self.completed = true;
    }

    /// Gives a request that could not be read an id, so that its client can name it.
    pub(crate) fn unreadable(&mut self, id: String) {
        self.own_id = id;
    }

    /// The request id, once there is one.
    pub(crate) fn request_id(&self) -> &str {
        self.request
            .as_ref()
            .map_or(&self.own_id, |request| &request.request_id)
    }

    fn write_line(&self, took: Duration) {
        let path = self
            .upstream_path
            .as_deref()
            .or(self.request.as_ref().map(|request| request.path.as_str()));
        let path = path.unwrap_or("");
        let health = matches!(path, "/ping" | "/healthz") && self.route.is_none();
        let plan = &self.snapshot.access_log;
        if !plan.writes(health) {
            return;
        }
        let request = self.request.as_deref();
        let own = request.map_or("", |request| request.authority.as_str());
        let authority = self
            .upstream_authority
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .unwrap_or(own);
        let facts = Facts {
            time: self.worker.shared.clock.now(),
            health,
            cluster: self.route.as_ref().map_or("", |route| route.cluster_name()),
            stat_name: self.route.as_ref().map_or("", |route| &route.settings.name),
            method: request.map_or("", |request| request.method.as_str()),
            authority,
            path,
            query: request.and_then(|request| request.query.as_deref()).unwrap_or(""),
            user_agent: self.user_agent.as_ref(),
            referer: self.referer.as_ref(),
            forwarded_for: self.forwarded_for.as_ref(),
            request_id: self.request_id(),
            ip: request.map(|request| request.client_ip),
            duration: took,
            size: self.size,
            status: self.status,
            details: if self.completed {
                &self.details
            } else {
                "downstream_remote_disconnect"
            },
            client_certificate: self.shown.client.as_ref().and_then(|client| client.names()),
            headers: &self.named,
        };
        self.worker
            .shared
            .log
            .line(|buffer| line::write(buffer, plan, &facts));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let took = self.start.elapsed();
        let metrics = &self.worker.shared.metrics;
        metrics.active_requests.dec();
        metrics.request(self.status, took);
        self.write_line(took);
        if let Some(span) = self.span.take() {
            let cluster = self.route.as_ref().map_or("", |route| route.cluster_name());
            span.end(self.status, cluster, &self.details);
        }
    }
}
