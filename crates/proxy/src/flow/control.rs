//! Internal paths: judged by their own short rule, answered by the control plane on its own runtime
//! (spec proxy.md 4.3, policy.md 8.1).

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, Request};
use http_body_util::BodyExt;
use pomerium_authorize::{Outcome, check_internal};

use super::identify::{Who, identify};
use super::judge;
use super::judged::Refused;
use super::reply::{self, Ending, Problem};
use super::{Flow, Reply};
use crate::body::{Limits, RequestBody, Watchdog};
use crate::route::Route;
use crate::router::InternalPath;
use crate::shared::ControlContext;

/// The control plane answers within this time (spec proxy.md 4.3).
const TIMEOUT: Duration = Duration::from_secs(15);

/// Answers an internal path. `route` is the first route of the host.
pub(super) async fn answer(flow: Box<Flow>, route: Option<Arc<Route>>) -> Reply {
    let now = flow.conn.worker.shared.clock.now();
    let who = match who(&flow, route.as_deref(), now).await {
        Ok(who) => who,
        Err(refused) => return refuse(flow, route.as_ref(), refused),
    };
    // On the authenticate host there is no route and a cookie of its own: that service judges itself.
    let decision = check_internal(&flow.request.path, who.principal.is_some());
    if decision.outcome != Outcome::Allow && route.is_some() {
        return refuse(flow, route.as_ref(), Refused::Login);
    }
    let identity = match (&route, &who.principal) {
        (Some(route), Some(principal)) => match judge::sign(&flow, route, Some(principal), now) {
            Ok(identity) => Some(identity),
            Err(refused) => return refuse(flow, Some(route), refused),
        },
        _ => None,
    };
    let context = ControlContext {
        canonical: flow.request.clone(),
        route,
        principal: who.principal,
        identity,
    };
    ask(flow, context).await
}

fn refuse(flow: Box<Flow>, route: Option<&Arc<Route>>, refused: Refused) -> Reply {
    match route {
        Some(route) => reply::refused(flow, &route.clone(), refused),
        None => flow.fail(Problem::Unjudged),
    }
}

/// Health paths ask nobody who they are.
async fn who(flow: &Flow, route: Option<&Route>, now: jiff::Timestamp) -> Result<Who, Refused> {
    match (InternalPath::of(&flow.request.path, false), route) {
        (Some(InternalPath::Pomerium), Some(route)) => identify(flow, route.idp_id(), now).await,
        _ => Ok(Who::default()),
    }
}

async fn ask(flow: Box<Flow>, context: ControlContext) -> Reply {
    let Flow {
        conn,
        request,
        mut parts,
        body,
        mut exchange,
        activity,
        ..
    } = *flow;
    let kind = pomerium_web::negotiate::wants_local_reply(&parts.headers);
    parts.extensions.clear();
    let read = exchange.snapshot.timeouts.read;
    let body = RequestBody::new(body, activity.clone(), false).boxed_unsync();
    let shared = conn.worker.shared.clone();
    let control = shared.control.clone();
    let incoming = Request::from_parts(parts, body);
    // A task of the control runtime: it runs to its end even when the client goes away, so that a
    // sign-in is never left half done.
    let mut answering = shared
        .control_runtime
        .spawn(async move { control.handle(incoming, context).await });
    let limits = Limits {
        request: Some(read.map_or(TIMEOUT, |read| read.min(TIMEOUT))),
        response: Some(TIMEOUT),
        ..Limits::default()
    };
    let mut watchdog = Watchdog::new(activity.clone(), limits);
    let answered = std::future::poll_fn(|cx| match answering.poll_unpin(cx) {
        Poll::Ready(answered) => Poll::Ready(Ok(answered)),
        Poll::Pending => watchdog.poll_expired(cx).map(Err),
    });
    let mut response = match answered.await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::error!(%error, "the control plane failed on a request");
            return reply::make(exchange, kind, Problem::ControlFailed);
        }
        Err(expired) => {
            let problem = Problem::expired(expired, activity.is_request_received());
            return reply::make(exchange, kind, problem);
        }
    };
    let snapshot = exchange.snapshot.clone();
    for (name, value) in &snapshot.response_headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    exchange.answered(response.status().as_u16(), "direct_response");
    reply::finish(
        exchange,
        response,
        Ending {
            close: false,
            head: request.method == Method::HEAD,
        },
    )
}
