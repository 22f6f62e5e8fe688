//! Questions of other services of the same installation, which come in over the listener for services
//! (`envoy.service.auth.v3.Authorization` on `grpc_address`). Whoever gets here has shown a token made with the shared
//! secret; that is the caller's to see to. The judgement is the one that other proxies get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use pomerium_web::canonical::Connection;
use tokio::time::Instant;

use super::{Asker, CHECK, ext_authz, grpc};
use crate::body::Activity;
use crate::conn::{Conn, ConnState};
use crate::flow::Reply;
use crate::worker::Worker;

/// Answers questions on the workers, one after the other: a question costs what a request costs.
#[derive(Clone)]
pub struct Authorizer {
    workers: Arc<[Arc<Worker>]>,
    next: Arc<AtomicUsize>,
}

impl Authorizer {
    /// Over these workers.
    pub(crate) fn new(workers: Vec<Arc<Worker>>) -> Self {
        Self {
            workers: workers.into(),
            next: Arc::default(),
        }
    }

    /// Answers a call of the service `envoy.service.auth.v3.Authorization`, which came from `peer` to `local`. The
    /// caller has made sure that it is a service of this installation. A process that stops answers `unavailable`.
    pub async fn answer<B>(
        &self,
        call: Request<B>,
        (peer, local): (SocketAddr, SocketAddr),
    ) -> Response<pomerium_web::Body>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let worker = self.workers.get(turn % self.workers.len().max(1));
        let Some((worker, runtime)) = worker.and_then(|worker| Some((worker, worker.runtime()?))) else {
            return grpc::unavailable();
        };
        let conn = Conn {
            // What is told counts, not how it came here.
            info: Connection {
                peer,
                tls: true,
                local,
            },
            state: ConnState::new(),
            worker: worker.clone(),
            client: None,
        };
        match runtime.spawn(judged(conn, call)).await {
            Ok(reply) => reply.map(|body| body.boxed_unsync()),
            Err(_) => grpc::unavailable(),
        }
    }
}

async fn judged<B: Body<Data = Bytes>>(conn: Conn, call: Request<B>) -> Reply {
    if call.uri().path() != CHECK {
        return grpc::unimplemented();
    }
    let activity = Activity::start(Instant::now(), call.body().is_end_stream());
    let snapshot = conn.worker.snapshot();
    ext_authz::answer((conn, Asker::Service), snapshot, call, activity).await
}
