//! Forward-auth over HTTP: the proxy sends the head of a request in headers, and takes a 2xx for yes.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use pomerium_web::canonical::{Meaning, Refusal, canonicalize_reported};
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
        reported::check_names(&parts.headers, &plan.reading.rules.managed).map_err(refused_as)?;
        let line = reported::read(&parts.headers, question.dialect()).map_err(refused_as)?;
        let mut headers = parts.headers.clone();
        reported::strip(&mut headers);
        canonicalize_reported(&line, headers, &conn.info, &plan.reading.rules, id)
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
        Verdict::Allowed(granted) => allowed(*granted, plan, &parts.headers),
        Verdict::Refused(reply) => refused(reply, question),
    }
}

/// 200 with what the proxy has to set.
fn allowed(granted: Granted, plan: &DecisionPlan, client: &HeaderMap) -> Reply {
    let templates = granted.route.iter().flat_map(|route| &route.headers.templates);
    let templates: Vec<&HeaderName> = templates.map(|(name, _)| name).collect();
    match told(client, &granted.headers, &templates, plan) {
        Ok(headers) => {
            let mut response = http::Response::new(pomerium_web::body::empty());
            *response.headers_mut() = headers;
            reply::finish(granted.exchange, response, Ending::default())
        }
        Err(detail) => {
            tracing::error!(
                route = granted.route.as_ref().map_or("", |route| &route.settings.from),
                "decision_listener: {detail}"
            );
            let refusal = Refusal {
                status: 403,
                ..refused_as(detail)
            };
            reply::refusal(granted.exchange, &refusal, (false, client))
        }
    }
}

/// The headers of a yes: every one that says who somebody is, if need be empty, so that a proxy that copies it never
/// leaves what the client sent in its place; and every one that our own proxy would change.
///
/// Errors when a credential of ours is among them. Which headers are copied is the proxy's to say, and such a
/// credential without the others that come with it would do more than the person may.
fn told(
    client: &HeaderMap,
    wanted: &HeaderMap,
    templates: &[&HeaderName],
    plan: &DecisionPlan,
) -> Result<HeaderMap, &'static str> {
    let changed = |name: &HeaderName| !wanted.get_all(name).iter().eq(client.get_all(name).iter());
    if wanted.contains_key(AUTHORIZATION) && changed(&AUTHORIZATION) && !templates.contains(&&AUTHORIZATION) {
        return Err(
            "this route acts with a credential of its own, which forward-auth cannot hand over whole; use ext_authz",
        );
    }
    let mut headers = HeaderMap::new();
    let always = plan.reading.identity.iter().chain(&[COOKIE, AUTHORIZATION]);
    for name in always.chain(templates.iter().copied()) {
        headers.insert(name.clone(), joined(wanted, name));
    }
    for name in wanted.keys() {
        let ours = plan.reading.rules.managed.meaning(name.as_str()) != Meaning::Proxy;
        if ours && changed(name) && !headers.contains_key(name) {
            headers.insert(name.clone(), joined(wanted, name));
        }
    }
    Ok(headers)
}

fn refused_as(detail: &'static str) -> Refusal {
    Refusal {
        status: 400,
        detail,
        redirect: None,
        close: false,
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> HeaderValue {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return HeaderValue::from_static("");
    };
    let mut all = first.as_bytes().to_vec();
    for value in values {
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

#[cfg(test)]
mod tests {
    use super::super::instructions::tests::{map, plan};
    use super::*;

    fn text(headers: &HeaderMap, name: &str) -> Option<String> {
        Some(headers.get(name)?.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_may_be_copied_is_always_there() {
        let client = map(&[
            ("accept", "*/*"),
            ("cookie", "_pomerium=x"),
            ("authorization", "Basic YQ=="),
        ]);
        let wanted = map(&[
            ("accept", "*/*"),
            ("authorization", "Basic YQ=="),
            ("x-serverless-authorization", "Bearer a"),
            ("x-forwarded-for", "192.0.2.7"),
        ]);
        let template = HeaderName::from_static("x-from-template");
        let told = told(&client, &wanted, &[&template], &plan()).unwrap();
        for empty in [
            "cookie",
            "x-email",
            "x-pomerium-jwt-assertion",
            "x-pomerium-jwt-assertion-for",
            "x-from-template",
        ] {
            assert_eq!(text(&told, empty).as_deref(), Some(""), "{empty}");
        }
        assert_eq!(text(&told, "authorization").as_deref(), Some("Basic YQ=="));
        assert_eq!(
            text(&told, "x-serverless-authorization").as_deref(),
            Some("Bearer a")
        );
        assert_eq!(
            (text(&told, "accept"), text(&told, "x-forwarded-for")),
            (None, None)
        );
    }

    #[test]
    fn a_credential_of_ours_is_not_handed_over_in_parts() {
        let acting = map(&[
            ("authorization", "Bearer cluster"),
            ("impersonate-user", "user@example.com"),
        ]);
        for client in [&[][..], &[("authorization", "Bearer own")]] {
            assert!(told(&map(client), &acting, &[], &plan()).is_err());
        }
        // Unless somebody wrote it into the route for this very header.
        assert!(told(&map(&[]), &acting, &[&AUTHORIZATION], &plan()).is_ok());
    }
}
