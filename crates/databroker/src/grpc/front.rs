//! The one way in: which services there are, who may call them, what every answer carries.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, Uri};
use pomerium_api::pb::grpc_health::health_server::HealthServer;
use pomerium_api::pb::health::health_notifier_server::HealthNotifierServer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::LARGEST;
use super::alive::Alive;
use super::dialect::{self, Dialect};
use super::health::{HealthTable, Notifier};
use super::manage::Manager;
use super::reflection::{self, Reflection, ServerReflectionServer};
use super::token::Authenticated;

/// What every answer says of this program.
const VERSION: HeaderName = HeaderName::from_static("x-pomerium-version");
/// What the library says of a message that is larger than it reads.
const TOO_LARGE: &str = "decoded message length too large";
const HEALTH: &str = "grpc.health.v1.Health";
const MANAGEMENT: &str = "pomerium.config.ConfigService";
/// What anybody may call: a service, and one call of it or all.
const OPEN: [(&str, Option<&str>); 3] = [
    (HEALTH, None),
    (MANAGEMENT, Some("GetServerInfo")),
    (MANAGEMENT, Some("ListAvailableLogFields")),
];

/// The services of this process behind one door. A service that was not added is not there; a call that is not open
/// to anybody needs a token.
#[derive(Clone)]
pub struct Router {
    routes: Routes,
    door: Arc<Door>,
}

#[derive(Clone)]
struct Door {
    authenticated: Authenticated,
    version: Option<HeaderValue>,
    manager: Option<Arc<Manager>>,
    /// Every service, by its full name.
    services: BTreeSet<&'static str>,
    /// Those that tools may know of.
    told: BTreeSet<&'static str>,
}

impl Router {
    /// What every process offers: the standard health service, which anybody may ask, and how its parts are. Answers
    /// say `version`.
    pub fn new(authenticated: Authenticated, version: &str, health: Arc<dyn HealthTable>) -> Self {
        let door = Door {
            authenticated,
            version: HeaderValue::from_str(version).ok(),
            manager: None,
            services: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        let router = Self {
            routes: Routes::default(),
            door: Arc::new(door),
        };
        router
            .with(HealthServer::new(Alive::new(Arc::clone(&health))))
            .with(HealthNotifierServer::new(Notifier::new(health)))
    }

    /// With one more service, for callers who bring a token.
    #[must_use]
    pub fn with<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let mut router = self.with_hidden(service);
        Arc::make_mut(&mut router.door).told.insert(S::NAME);
        router
    }

    /// As [`Self::with`], but tools that ask which services there are do not learn of it.
    #[must_use]
    pub(super) fn with_hidden<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        Arc::make_mut(&mut self.door).services.insert(S::NAME);
        self
    }

    /// With the management service.
    #[must_use]
    pub(super) fn manage(mut self, manager: Manager) -> Self {
        let door = Arc::make_mut(&mut self.door);
        door.manager = Some(Arc::new(manager));
        door.services.insert(MANAGEMENT);
        door.told.insert(MANAGEMENT);
        self
    }

    /// With server reflection, by which tools learn of the services there are so far.
    #[must_use]
    pub fn reflected(mut self) -> Self {
        let door = Arc::make_mut(&mut self.door);
        door.told.extend([reflection::NAME, reflection::FORMER_NAME]);
        door.services.insert(reflection::FORMER_NAME);
        let reflection = Reflection::new(door.told.clone());
        self.with(ServerReflectionServer::new(reflection))
    }
}

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { routes, door } = self.clone();
        async move {
            let mut response = door.answer(routes, request).await;
            if let Some(version) = &door.version {
                response.headers_mut().insert(VERSION, version.clone());
            }
            Ok(response)
        }
        .boxed()
    }
}

impl Door {
    async fn answer(&self, mut routes: Routes, request: Request<Body>) -> Response<Body> {
        let dialect = Dialect::of(request.method(), request.headers());
        let (service, call) = match named(request.uri().path()) {
            Some((service, call)) if self.services.contains(service) => (service, call),
            _ => return dialect::unknown(dialect, "there is no such service here"),
        };
        if !is_open(service, call)
            && let Err(status) = self.authenticated.check(request.headers())
        {
            return dialect::refuse(dialect, &status);
        }
        if service == MANAGEMENT
            && let Some(manager) = &self.manager
        {
            let call = call.to_owned();
            return dialect::answer(manager, dialect, &call, request).await;
        }
        if !matches!(dialect, Some(Dialect::Grpc(_))) {
            let status = Status::unimplemented("this service speaks gRPC only");
            return dialect::refuse(dialect, &status);
        }
        let request = match service {
            reflection::FORMER_NAME => at(&format!("/{}/{call}", reflection::NAME), request),
            _ => request,
        };
        match routes.call(request).await {
            Ok(response) => of_one_kind(response),
            Err(never) => match never {},
        }
    }
}

/// Service and call of a path: two segments, as they are written.
fn named(path: &str) -> Option<(&str, &str)> {
    let (service, call) = path.strip_prefix('/')?.split_once('/')?;
    (!call.contains('/')).then_some((service, call))
}

/// `request` for another path; the same where that is none.
fn at(path: &str, mut request: Request<Body>) -> Request<Body> {
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = path.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// A message that is too large has one code in every service, that of gRPC's own servers; the library says another one.
fn of_one_kind(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange && status.message().contains(TOO_LARGE) => {
            let what = format!("the message is larger than {LARGEST} bytes");
            Status::resource_exhausted(what).into_http()
        }
        _ => response,
    }
}

fn is_open(service: &str, call: &str) -> bool {
    OPEN.iter()
        .any(|(name, one)| *name == service && one.is_none_or(|one| one == call))
}
