//! Joins the data plane to sign-in: the two rooms do not know each other.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Request;
use pomerium_authenticate::{Authenticate, RequestContext};
use pomerium_config::settings::RouteSettings;
use pomerium_policy::Demand;
use pomerium_proxy::{ControlContext, ControlPlane, LoginLinks};
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::{Body, Response};

/// The sign-in service of the moment.
pub struct Control(ArcSwap<Authenticate>);

impl Control {
    /// Begins with `authenticate`.
    pub fn new(authenticate: Arc<Authenticate>) -> Self {
        Self(ArcSwap::new(authenticate))
    }

    /// Takes another version into use; requests that are being answered stay with theirs.
    pub fn swap(&self, authenticate: Arc<Authenticate>) {
        self.0.store(authenticate);
    }

    /// The version in use.
    pub fn current(&self) -> Arc<Authenticate> {
        self.0.load_full()
    }
}

impl ControlPlane for Control {
    fn handle(&self, request: Request<Body>, context: ControlContext) -> BoxFuture<'static, Response> {
        let authenticate = self.current();
        let known = RequestContext {
            route: context.route.map(|route| Arc::clone(&route.settings)),
            principal: context.principal,
            assertion: context.identity.map(|headers| headers.assertion.clone()),
        };
        authenticate.handle(request, context.canonical, known).boxed()
    }
}

impl LoginLinks for Control {
    fn sign_in_url(&self, request: &CanonicalRequest, route: &RouteSettings) -> String {
        self.0.load().sign_in_url(request, route)
    }

    fn device_url(&self, request: &CanonicalRequest, device_type: &str) -> String {
        self.0.load().device_url(request, device_type)
    }

    fn step_up_url(&self, request: &CanonicalRequest, route: &RouteSettings, demand: &Demand) -> String {
        self.0.load().step_up_url(request, route, demand)
    }
}
