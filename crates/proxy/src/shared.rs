//! What all workers share, and the doors to the rooms that the proxy does not know: the control plane,
//! the sign-in address, traces.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request};
use jiff::Timestamp;
use pomerium_api::clock::Clock;
use pomerium_authorize::audit::Undecided;
use pomerium_authorize::decision_log::AuthorizeRecord;
use pomerium_authorize::{AssertionSigner, IdentityHeaders, Principal, SessionResolver};
use pomerium_certs::acme::Challenges;
use pomerium_config::settings::RouteSettings;
use pomerium_policy::Demand;
use pomerium_web::canonical::CanonicalRequest;

use crate::access_log::LogSink;
use crate::metrics::Metrics;
use crate::route::Route;

/// Answers the internal paths: sign-in, callback, `/.pomerium/…`, `/.well-known/pomerium…`, `/ping`.
pub trait ControlPlane: Send + Sync + 'static {
    /// Answers one request. Runs on the control runtime, so that it never delays a worker.
    fn handle(
        &self,
        request: Request<pomerium_web::Body>,
        context: ControlContext,
    ) -> BoxFuture<'static, pomerium_web::Response>;
}

/// What the proxy knows about a request to an internal path.
#[derive(Clone)]
pub struct ControlContext {
    /// The request as it was judged.
    pub canonical: Arc<CanonicalRequest>,
    /// The first route of the host; none on the authenticate host and on unknown hosts.
    pub route: Option<Arc<Route>>,
    /// Who asks, when a session of this host's provider came along.
    pub principal: Option<Arc<Principal>>,
    /// The identity headers an upstream of that route would get; none without a principal or a route.
    pub identity: Option<Arc<IdentityHeaders>>,
}

/// Knows where people sign in.
pub trait LoginLinks: Send + Sync + 'static {
    /// The signed sign-in URL that leads back to this request.
    fn sign_in_url(&self, request: &CanonicalRequest, route: &RouteSettings) -> String;

    /// The signed address of the page that asks for a device of this type and leads back to this request.
    fn device_url(&self, request: &CanonicalRequest, device_type: &str) -> String;
    /// The same for somebody whose sign-in is too old or too weak for the policy.
    fn step_up_url(&self, request: &CanonicalRequest, route: &RouteSettings, demand: &Demand) -> String;
}

/// Tokens that upstreams are shown in place of the person's. They are kept fresh elsewhere: what is asked here is
/// answered from memory.
pub trait UpstreamTokens: Send + Sync + 'static {
    /// `Bearer …` with the token in this file, as it was last read.
    fn of_file(&self, path: &Path) -> Option<HeaderValue>;
    /// `Bearer …` with the Google identity token for this audience.
    fn google(&self, audience: &str) -> Option<HeaderValue>;
    /// Waits until a token for this audience was asked for once, with or without success.
    fn google_tried<'a>(&'a self, audience: &'a str) -> BoxFuture<'a, ()>;
}

/// No tokens at all.
impl UpstreamTokens for () {
    fn of_file(&self, _: &Path) -> Option<HeaderValue> {
        None
    }

    fn google(&self, _: &str) -> Option<HeaderValue> {
        None
    }

    fn google_tried<'a>(&'a self, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Takes the record of every decision; `app` gives one that passes them on. Nothing here may wait.
pub trait AuditStream: Send + Sync + 'static {
    /// Whether records of requests that were let in, or of those that were not, are wanted by anybody.
    fn wants(&self, allowed: bool) -> bool;
    /// A request was judged.
    fn record(&self, allowed: bool, record: &AuthorizeRecord<'_>);
    /// A request could not be judged.
    fn undecided(&self, record: &Undecided<'_>);
}

/// Nobody wants records.
impl AuditStream for () {
    fn wants(&self, _allowed: bool) -> bool {
        false
    }
    fn record(&self, _allowed: bool, _record: &AuthorizeRecord<'_>) {}
    fn undecided(&self, _record: &Undecided<'_>) {}
}

/// Is told who asks, so that it is known when a session was used last; `app` gives one that writes it down now and then.
/// Nothing here may wait.
pub trait AccessTracker: Send + Sync + 'static {
    /// A request of `principal` came at `now`.
    fn seen(&self, principal: &Principal, now: Timestamp);
}

/// Nobody wants to know.
impl AccessTracker for () {
    fn seen(&self, _: &Principal, _: Timestamp) {}
}

/// Makes spans; `app` gives one that exports them.
pub trait Tracer: Send + Sync + 'static {
    /// A request begins. `traceparent` is what the client sent.
    fn start(&self, request: &CanonicalRequest, traceparent: Option<&HeaderValue>) -> Box<dyn RequestSpan>;
}

/// The span of one request.
pub trait RequestSpan: Send + Sync {
    /// The `traceparent` that goes upstream.
    fn traceparent(&self) -> Option<HeaderValue>;
    /// The request has ended.
    fn end(self: Box<Self>, status: u16, cluster: &str, details: &str);
}

/// Everything the workers share.
pub struct Shared {
    /// Sessions by their token.
    pub sessions: SessionResolver,
    /// Signs assertions.
    pub signer: AssertionSigner,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The access log and the authorize log.
    pub log: LogSink,
    /// The audit stream.
    pub audit: Arc<dyn AuditStream>,
    /// Who asks.
    pub access: Arc<dyn AccessTracker>,
    /// Internal paths.
    pub control: Arc<dyn ControlPlane>,
    /// What certificate authorities may ask at this moment.
    pub challenges: Arc<Challenges>,
    /// Tokens for upstreams.
    pub tokens: Arc<dyn UpstreamTokens>,
    /// Sign-in addresses.
    pub login: Arc<dyn LoginLinks>,
    /// Where the control plane runs.
    pub control_runtime: tokio::runtime::Handle,
    /// Traces, when they are on.
    pub tracer: Option<Arc<dyn Tracer>>,
}
