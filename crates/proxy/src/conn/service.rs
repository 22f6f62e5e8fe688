//! The HTTP library's view of a connection: one call per request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use http::header::ALT_SVC;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use super::Conn;
use super::streams::begun;
use crate::body::ResponseBody;
use crate::flow::{self, Reply};
use crate::worker::Worker;

/// Answers the requests of one connection.
pub(super) struct Requests(pub(super) Conn);

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let worker = self.0.worker.clone();
        match flow::begin(&self.0, request) {
            Ok(flow) => {
                if flow.is_multiplexed() {
                    begun(flow.activity.clone());
                }
                Box::pin(async move { Ok(advertise(&worker, flow.dispatch().await)) })
            }
            Err(refusal) => Box::pin(async move { Ok(advertise(&worker, *refusal)) }),
        }
    }
}

/// Says that HTTP/3 is served, while it is (RFC 7838).
fn advertise(worker: &Worker, mut reply: Reply) -> Reply {
    if let Some(value) = &*worker.alt_svc.load() {
        reply.headers_mut().append(ALT_SVC, HeaderValue::clone(value));
    }
    reply
}
