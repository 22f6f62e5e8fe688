//! The HTTP library's view of a connection: one call per request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use http::header::{ALT_SVC, CONNECTION};
use http::{HeaderValue, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Conn;
use super::streams::begun;
use crate::body::{Activity, MOST_UNREAD, ResponseBody};
use crate::decision;
use crate::flow::{self, Flow, Reply};
use crate::worker::{Serving, Worker};

/// Answers the requests of one connection.
pub(super) struct Requests {
    pub(super) conn: Conn,
    pub(super) serving: Serving,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.serving == Serving::Decision {
            return self.decide(request);
        }
        let worker = self.conn.worker.clone();
        match flow::begin(&self.conn, request) {
            Ok(flow) => {
                begun(flow.activity.clone());
                let welcome = flow.is_welcome_over_quic();
                let large = is_large(&flow).then(|| flow.activity.clone());
                Box::pin(async move {
                    let mut reply = flow.dispatch().await;
                    if large.is_some_and(|activity| !activity.is_request_received()) {
                        ends_connection(&mut reply);
                    }
                    Ok(if welcome { advertise(&worker, reply) } else { reply })
                })
            }
            Err(refusal) => Box::pin(async move { Ok(*refusal) }),
        }
    }
}

impl Requests {
    /// What another proxy asks.
    fn decide(
        &self,
        request: Request<Incoming>,
    ) -> <Self as hyper::service::Service<Request<Incoming>>>::Future {
        let activity = Activity::start(Instant::now(), request.body().is_end_stream());
        begun(activity.clone());
        let answer = decision::answer(self.conn.clone(), request, activity);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Whether the body is more than what is read on after an answer, over HTTP/1.1.
fn is_large(flow: &Flow) -> bool {
    let length = flow.body.size_hint().exact();
    flow.parts.version == Version::HTTP_11 && length.is_some_and(|length| length > MOST_UNREAD)
}

/// The answer is there before such a body: what is left of it may not be read, and then the connection ends.
fn ends_connection(reply: &mut Reply) {
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Says that HTTP/3 is served, while it is (RFC 7838).
fn advertise(worker: &Worker, mut reply: Reply) -> Reply {
    if let Some(value) = &*worker.alt_svc.load() {
        reply.headers_mut().append(ALT_SVC, HeaderValue::clone(value));
    }
    reply
}
