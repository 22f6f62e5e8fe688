//! What an allowed request gets: the route's redirect, its answer, or its upstream.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Response, StatusCode};
use pomerium_config::settings::Redirect;
use pomerium_web::canonical::{CanonicalRequest, Scheme};

use super::judged::Allowed;
use super::reply::{self, Ending, Problem};
use super::{Flow, Reply, forward, upgrade};
use crate::headers::path::PathRewriter;
use crate::route::{Route, RouteAction};

/// Carries out the action of `route`.
pub(super) async fn carry_out(mut flow: Box<Flow>, route: Arc<Route>, allowed: Allowed) -> Reply {
    match &route.action {
        RouteAction::Redirect(redirect) => match location(redirect, &flow.request, &route.path) {
            Some(location) => own_answer(flow, &route, redirect.status, Answer::Location(location)),
            None => flow.fail(Problem::BadRewrite),
        },
        RouteAction::Respond(answer) => {
            let (status, body) = &**answer;
            own_answer(flow, &route, status.as_u16(), Answer::Body(body.clone()))
        }
        RouteAction::Forward(_) => {
            flow.exchange.asked_by(allowed.principal.clone());
            match flow.request.upgrade.clone() {
                None => forward::forward(flow, route, allowed).await,
                Some(protocol) if !route.upgrades_to(&protocol) => flow.fail(Problem::Upgrade),
                Some(protocol) => Box::pin(upgrade::upgrade(flow, route, allowed, &protocol)).await,
            }
        }
    }
}

enum Answer {
    Location(HeaderValue),
    Body(Bytes),
}

impl Answer {
    /// Without the body that a status cannot have (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5).
    fn of(self, status: StatusCode) -> Self {
        const BARE: [StatusCode; 3] = [
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::NOT_MODIFIED,
        ];
        match self {
            Self::Body(_) if BARE.contains(&status) => Self::Body(Bytes::new()),
            answer => answer,
        }
    }
}

fn own_answer(mut flow: Box<Flow>, route: &Route, status: u16, answer: Answer) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    let answer = answer.of(status);
    flow.exchange.answered(status.as_u16(), "direct_response");
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let bytes = match answer {
        Answer::Location(location) => {
            headers.insert(LOCATION, location);
            Bytes::new()
        }
        Answer::Body(bytes) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            bytes
        }
    };
    route.set_response_headers(headers);
    let head = flow.request.method == Method::HEAD;
    reply::finish(
        flow.exchange,
        response.map(|()| pomerium_web::body::full(bytes)),
        Ending { close: false, head },
    )
}

/// The target of a redirect (spec proxy.md 4.7).
fn location(redirect: &Redirect, request: &CanonicalRequest, matched: &PathRewriter) -> Option<HeaderValue> {
    let scheme = match (redirect.https, &redirect.scheme) {
        (Some(true), _) => "https",
        (None, Some(scheme)) => scheme.as_str(),
        _ => request.scheme.as_str(),
    };
    let authority = authority(redirect, request, scheme);
    let path = path(redirect, request, matched);
    // Without a slash it would go on where the host ends.
    if !path.starts_with('/') {
        return None;
    }
    HeaderValue::try_from(format!("{scheme}://{authority}{path}")).ok()
}

fn authority(redirect: &Redirect, request: &CanonicalRequest, scheme: &str) -> String {
    if let Some(port) = redirect.port {
        let host = redirect.host.as_deref().unwrap_or_else(|| request.host());
        return format!("{host}:{port}");
    }
    if let Some(host) = &redirect.host {
        return host.clone();
    }
    // The port goes when the scheme changes and it was the one of the old scheme.
    let default = match request.scheme {
        Scheme::Https => 443,
        Scheme::Http => 80,
    };
    let changes = scheme != request.scheme.as_str();
    if changes && request.port() == Some(default) {
        request.host().to_owned()
    } else {
        request.authority.as_str().to_owned()
    }
}

fn path(redirect: &Redirect, request: &CanonicalRequest, matched: &PathRewriter) -> String {
    let mut path = match (&redirect.path, &redirect.prefix_rewrite) {
        (Some(path), _) => path.clone(),
        (None, Some(_)) => matched.apply(&request.path).into_owned(),
        (None, None) => request.path.clone(),
    };
    let own_query = redirect.path.as_deref().is_some_and(|path| path.contains('?'));
    if let (Some(query), false, false) = (&request.query, redirect.strip_query, own_query) {
        path.push('?');
        path.push_str(query);
    }
    path
}
