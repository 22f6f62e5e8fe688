//! Forward-auth over HTTP: the proxy sends the head of a request in headers, and takes a 2xx for yes.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use pomerium_web::canonical::{Refusal, canonicalize_reported};
use pomerium_web::negotiate;

use super::plan::DecisionPlan;
use super::reported::{self, Dialect};
use super::verdict::{self, Expected, Granted, Verdict};
use crate::body::Activity;
use crate::conn::Conn;
use crate::flow::reply::{self, Ending, Problem};
use crate::flow::{self, Reply};
use crate::snapshot::Snapshot;

/// What a proxy wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether a request may pass, otherwise what the client gets.
    ForwardAuth,
    /// Whether a request may pass, and nothing else.
    AuthRequest,
    /// What the client gets, whose request may not pass.
    Answer,
}

impl Question {
    fn dialect(self) -> Dialect {
        match self {
            Self::ForwardAuth => Dialect::Forwarded,
            Self::AuthRequest | Self::Answer => Dialect::Original,
        }
    }
}

/// Answers whether the request that `asked` tells about may pass.
pub(super) async fn answer(
    conn: Conn,
    snapshot: Arc<Snapshot>,
    asked: Request<Incoming>,
    activity: Arc<Activity>,
    question: Question,
) -> Reply {
    let Some(plan) = &snapshot.decision else {
        return super::plain(StatusCode::FORBIDDEN, "this peer is not trusted\n");
    };
    // The body, should there be one, is left where it is.
    let (parts, _) = asked.into_parts();
    let read = |id: &mut dyn FnMut() -> String| {
        let refused = |detail| Refusal {
            status: 400,
            detail,
            redirect: None,
            close: false,
        };
        reported::check_names(&parts.headers, &plan.rules.managed).map_err(refused)?;
        let line = reported::read(&parts.headers, question.dialect()).map_err(refused)?;
        let mut headers = parts.headers.clone();
        reported::strip(&mut headers);
        canonicalize_reported(&line, headers, &conn.info, &plan.rules, id)
    };
    let verdict = match flow::begin_reported(&conn, snapshot.clone(), (parts.version, activity), read) {
        Ok(flow) => verdict::judge(flow, Expected::default()).await,
        Err(refusal) => Verdict::Refused(*refusal),
    };
    match verdict {
        // It is allowed by now. This answer goes to the client, so what an application gets does not belong in it.
        Verdict::Allowed(granted) if question == Question::Answer => {
            let kind = negotiate::wants_local_reply(&granted.headers);
            reply::make(granted.exchange, kind, Problem::Unjudged)
        }
        Verdict::Allowed(granted) => allowed(*granted, plan),
        Verdict::Refused(reply) => refused(reply, question),
    }
}

/// 200 with what the proxy has to set. Each header is always there, if need be empty: a proxy that copies it never
/// leaves what the client sent in its place.
fn allowed(granted: Granted, plan: &DecisionPlan) -> Reply {
    let mut response = http::Response::new(pomerium_web::body::empty());
    let headers = response.headers_mut();
    let always = plan.identity.iter().chain(&[COOKIE, AUTHORIZATION]);
    for name in always {
        headers.insert(name.clone(), joined(&granted.headers, name));
    }
    if let Some(route) = &granted.route {
        for name in route.templates.iter().map(|(name, _)| name) {
            headers.insert(name.clone(), joined(&granted.headers, name));
        }
    }
    reply::finish(granted.exchange, response, Ending::default())
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> HeaderValue {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return HeaderValue::from_static("");
    };
    let mut rest = values.peekable();
    if rest.peek().is_none() {
        return first.clone();
    }
    let mut all = first.as_bytes().to_vec();
    for value in rest {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&all).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A refusal in a form that the proxy takes for one. Some answers to clients are a 200 (`/robots.txt`, gRPC): to a
/// question that would be a yes.
fn refused(mut reply: Reply, question: Question) -> Reply {
    let status = reply.status();
    let said = match question {
        Question::Answer => return reply,
        Question::ForwardAuth if status.is_redirection() || status.as_u16() >= 400 => status,
        Question::AuthRequest if status.is_redirection() || status == StatusCode::UNAUTHORIZED => {
            StatusCode::UNAUTHORIZED
        }
        _ => StatusCode::FORBIDDEN,
    };
    *reply.status_mut() = said;
    if said == StatusCode::FORBIDDEN {
        reply.headers_mut().remove(LOCATION);
    }
    reply
}
