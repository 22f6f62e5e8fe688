//! Decisions for proxies that are not ours, on a listener of their own (docs/decision-service.md).
//!
//! A proxy asks whether a request that it has received may pass: over HTTP ([`forward_auth`]: nginx, Traefik, Caddy)
//! or over gRPC ([`ext_authz`]: Envoy). What it tells becomes the same canonical request and goes through the same
//! judgement as a request to our own listener ([`verdict`]); only what is done with the outcome differs. Paths of ours
//! that a proxy hands on (`/.pomerium/…`, the authenticate host) are answered here as well ([`internal`]).
//! Services of the same installation ask over the listener for services instead ([`services`]).
//!
//! Only trusted peers and services get this far, and only they are believed. Whatever goes wrong is a refusal. Start at [`answer`].

mod ext_authz;
mod forward_auth;
mod grpc;
mod instructions;
mod plan;
mod question;
mod reported;
mod response;
mod services;
mod verdict;
mod wire;

use std::sync::Arc;

use http::header::HOST;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use pomerium_web::canonical::Authority;

use crate::body::{Activity, ResponseBody};
use crate::conn::Conn;
use crate::flow::{self, Reply};
use crate::snapshot::Snapshot;
use forward_auth::Question;
pub use plan::DecisionError;
pub(crate) use plan::{DecisionPlan, Reading};
pub use services::Authorizer;

/// Envoy asks here.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Traefik and Caddy ask here: they pass every answer but a 2xx on to the client.
const FORWARD_AUTH: &str = "/forward-auth";
/// nginx asks here: it understands 2xx, 401 and 403.
const AUTH_REQUEST: &str = "/auth-request";
/// And here, after a refusal, for what the client gets.
const AUTH_REQUEST_ANSWER: &str = "/auth-request/answer";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// A proxy that is trusted because of where it is.
    Peer,
    /// A service of this installation, trusted because of its token.
    Service,
}

impl Asker {
    /// How what it tells is read; `None` when such questions are not answered.
    fn reading(self, snapshot: &Snapshot) -> Option<&Reading> {
        match self {
            Self::Peer => snapshot.decision.as_ref().map(|plan| &plan.reading),
            Self::Service => snapshot.services_reading.as_ref(),
        }
    }
}

/// Answers one request on the listener for other proxies.
pub(crate) async fn answer(conn: Conn, request: Request<Incoming>, activity: Arc<Activity>) -> Reply {
    let snapshot = conn.worker.snapshot();
    // The peers may have changed since it connected.
    let Some(plan) = snapshot
        .decision
        .as_ref()
        .filter(|plan| plan.trusts(conn.info.peer))
    else {
        return plain(StatusCode::FORBIDDEN, "this peer is not trusted\n");
    };
    if is_from_browser(&snapshot, &request) {
        return Box::pin(internal(&conn, &snapshot, request, &activity)).await;
    }
    let question = match request.uri().path() {
        CHECK if plan.ext_authz => {
            return ext_authz::answer((conn, Asker::Peer), snapshot, request, activity).await;
        }
        FORWARD_AUTH if plan.forward_auth => Question::ForwardAuth,
        AUTH_REQUEST if plan.forward_auth => Question::AuthRequest,
        AUTH_REQUEST_ANSWER if plan.forward_auth => Question::Answer,
        _ if grpc::is_grpc(&request) => return grpc::unimplemented(),
        _ => return Box::pin(internal(&conn, &snapshot, request, &activity)).await,
    };
    // In a box of its own: the others would carry its room along.
    Box::pin(forward_auth::answer(conn, snapshot, request, activity, question)).await
}

/// A person's request that a proxy hands on because its path is ours.
async fn internal(
    conn: &Conn,
    snapshot: &Arc<Snapshot>,
    request: Request<Incoming>,
    activity: &Arc<Activity>,
) -> Reply {
    match flow::begin_handed_on(conn, snapshot, request, activity.clone()) {
        Ok(flow) => flow.dispatch_internal().await,
        Err(refusal) => *refusal,
    }
}

/// Whether the proxy hands a request of a browser on instead of asking a question of its own: the authenticate host is
/// handed on whole, and nobody may ask for decisions through it.
fn is_from_browser(snapshot: &Snapshot, request: &Request<Incoming>) -> bool {
    let host = match request.uri().authority() {
        Some(authority) => Authority::parse(authority.as_str().as_bytes()).ok(),
        None => request
            .headers()
            .get(HOST)
            .and_then(|host| Authority::parse(host.as_bytes()).ok()),
    };
    host.is_none_or(|host| snapshot.table.is_authenticate(host.as_str()))
}

/// A few words to an operator who tries things out.
fn plain(status: StatusCode, words: &'static str) -> Reply {
    let body = pomerium_web::body::response(status, "text/plain; charset=UTF-8", words);
    body.map(ResponseBody::bare)
}

/// An answer with nothing to tell at its end.
fn bare(response: Response<pomerium_web::Body>) -> Reply {
    response.map(ResponseBody::bare)
}
