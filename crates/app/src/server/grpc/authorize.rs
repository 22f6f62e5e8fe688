//! `envoy.service.auth.v3.Authorization` for services of this installation (spec databroker.md 8.2). The door in front
//! lets in who brings a token; who judges is `pomerium_proxy`.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use pomerium_api::pb::ext_authz::authorization_server::SERVICE_NAME;
use pomerium_proxy::Authorizer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

/// The two ends of the connection that a call came over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Theirs.
    pub(super) peer: SocketAddr,
    /// Ours.
    pub(super) local: SocketAddr,
}

/// The service.
#[derive(Clone)]
pub(super) struct Authorization(pub(super) Authorizer);

impl NamedService for Authorization {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for Authorization {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Request<Body>) -> Self::Future {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let ends = call.extensions().get::<Ends>();
        let ends = ends.map_or((nowhere, nowhere), |ends| (ends.peer, ends.local));
        let authorizer = self.0.clone();
        async move { Ok(authorizer.answer(call, ends).await.map(Body::new)) }.boxed()
    }
}
