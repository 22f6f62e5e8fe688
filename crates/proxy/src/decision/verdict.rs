//! From a request that another proxy tells about to an outcome: the route of the same table, the same rate limit, the
//! same judgement.

use std::sync::Arc;

use http::HeaderMap;
use pomerium_authorize::Principal;

use crate::exchange::Exchange;
use crate::flow::reply::Problem;
use crate::flow::{Flow, Reply, forward};
use crate::route::Route;
use crate::router::Match;

/// What the proxy is told to do.
pub(super) enum Verdict {
    /// Let the request pass.
    Allowed(Box<Granted>),
    /// Answer it like this instead.
    Refused(Reply),
}

/// A request that may pass.
pub(super) struct Granted {
    /// Its headers as our own proxy would forward them.
    pub(super) headers: HeaderMap,
    /// The route that let it pass; none for a path of ours.
    pub(super) route: Option<Arc<Route>>,
    /// Who asked.
    pub(super) principal: Option<Arc<Principal>>,
    pub(super) exchange: Box<Exchange>,
}

/// What the proxy knows beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected<'a> {
    /// It will hand the request on to us, because its path is ours.
    pub(super) internal: bool,
    /// The id of the route it means.
    pub(super) route: Option<&'a str>,
}

/// The access log's word for a request that another proxy may let pass.
const ALLOWED: &str = "decision_allowed";

/// Judges a request.
pub(super) async fn judge(mut flow: Box<Flow>, expected: Expected<'_>) -> Verdict {
    let found = flow
        .snapshot
        .table
        .find(flow.request.authority.as_str(), &flow.request.path);
    let index = match found {
        Match::Route(index) if !expected.internal => index,
        // Judged when it is handed on. Whoever does not announce that would send it to the application.
        Match::Internal(..) if expected.internal => {
            flow.exchange.answered(200, ALLOWED);
            return granted(*flow, None, None);
        }
        _ => return Verdict::Refused(flow.fail(Problem::NoRoute)),
    };
    let Some(route) = flow.snapshot.routes.get(index).cloned() else {
        return Verdict::Refused(flow.fail(Problem::NoRoute));
    };
    if expected.route.is_some_and(|wanted| *wanted != *route.settings.id) {
        return Verdict::Refused(flow.fail(Problem::NoRoute));
    }
    flow.exchange.matched(&route);
    match flow.admit(&route).await {
        Ok((mut flow, allowed)) => {
            flow.exchange.asked_by(allowed.principal.clone());
            if let Err(problem) = forward::set_headers(&mut flow, &route, &allowed).await {
                return Verdict::Refused(flow.fail(problem));
            }
            flow.exchange.answered(200, ALLOWED);
            granted(*flow, Some(route), allowed.principal)
        }
        Err(refusal) => Verdict::Refused(*refusal),
    }
}

fn granted(flow: Flow, route: Option<Arc<Route>>, principal: Option<Arc<Principal>>) -> Verdict {
    Verdict::Allowed(Box::new(Granted {
        headers: flow.parts.headers,
        route,
        principal,
        exchange: flow.exchange,
    }))
}
