//! The HTTP library's view of a connection: one call per request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use http::{Request, Response};
use hyper::body::Incoming;

use super::Conn;
use crate::body::ResponseBody;
use crate::flow;

/// Answers the requests of one connection.
pub(super) struct Requests(pub(super) Conn);

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match flow::begin(&self.0, request) {
            Ok(flow) => Box::pin(async move { Ok(flow.dispatch().await) }),
            Err(refusal) => Box::pin(async move { Ok(*refusal) }),
        }
    }
}
