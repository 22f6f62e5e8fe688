//! Answers to requests that may not pass, and the way out of each: a sign-in, a device, another account (spec policy.md
//! 8 and 9).

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method, StatusCode};
use pomerium_policy::{Demand, Part, Said};
use pomerium_web::error_reply;
use pomerium_web::negotiate::{self, ClientKind};
use pomerium_web::pages::Frame;
use pomerium_web::problem::{Detail, Outcome, PolicyTrace, Problem as Words};

use super::{Ending, Problem, finish, problem};
use crate::flow::judged::{Denied, Refused, StepUp, Told};
use crate::flow::{Flow, Reply};
use crate::route::Route;

/// The answer to a request that may not pass.
pub(crate) fn refused(mut flow: Box<Flow>, route: &Arc<Route>, refused: Refused) -> Reply {
    let kind = negotiate::wants(&flow.request, &flow.parts.headers);
    let mut challenge = None;
    let words = if let Some((url, words)) = task(&flow, route, &refused) {
        if may_be_sent(&flow, kind) {
            return send(flow, route, &url);
        }
        if let Refused::StepUp(StepUp { demand, .. }) = &refused {
            challenge = step_up_challenge(demand);
        }
        words(&url)
    } else {
        match refused {
            Refused::Denied(denied) => denied_words(&flow, route, denied),
            Refused::Upstream(missing, _) => return problem(flow, Problem::missing(missing)),
            Refused::Login | Refused::Device(_) | Refused::StepUp(_) => Words::no_sign_in_here(),
            Refused::Unjudged => Words::undecided(),
        }
    };
    let details = if words.status == 503 {
        "ext_authz_error"
    } else {
        "ext_authz_denied"
    };
    flow.exchange.answered(words.status, details);
    let snapshot = flow.snapshot.clone();
    let frame = Frame::new(&snapshot.pages.site, &flow.request.request_id);
    let mut response = error_reply::reply(kind, &words, &frame);
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    of_route(flow, route, response)
}

/// The address of a page, and the words that lead to it.
type Task = (String, fn(&str) -> Words);

/// Where the person behind the request can do what is missing, and the words that lead there.
fn task(flow: &Flow, route: &Route, refused: &Refused) -> Option<Task> {
    let login = &flow.conn.worker.shared.login;
    let request = &flow.request;
    if !flow.snapshot.table.owns_host(request.authority.as_str()) {
        return None;
    }
    match refused {
        Refused::Login => Some((login.sign_in_url(request, &route.settings), Words::sign_in_needed)),
        Refused::Device(wanted) => Some((
            login.device_url(request, &wanted.device_type),
            Words::device_needed,
        )),
        Refused::StepUp(StepUp { demand, .. }) => Some((
            login.step_up_url(request, &route.settings, demand),
            Words::step_up_needed,
        )),
        Refused::Denied(_) | Refused::Upstream(..) | Refused::Unjudged => None,
    }
}

/// What is said to somebody who may not, whatever they do now.
fn denied_words(flow: &Flow, route: &Route, denied: Denied) -> Words {
    let email = denied.principal.as_ref().map(|person| person.email.as_str());
    let email = email.filter(|email| !email.is_empty());
    // Whoever is signed in may try with another account.
    let switch = denied.principal.as_ref().map(|_| "/.pomerium/sign_out");
    let words = match denied.status {
        495 if shows_certificate(flow) => Words::client_certificate_refused(),
        495 => Words::client_certificate(),
        450 => {
            let device_type = route.settings.policy.named_device_type();
            let login = &flow.conn.worker.shared.login;
            Words::device_not_authorized(&login.device_url(&flow.request, device_type))
        }
        404 => Words::not_found(flow.request.host()).decision(),
        _ => Words::not_allowed(email, switch),
    };
    match denied.told {
        Some(told) => tell(words, told, route),
        None => words,
    }
}

fn shows_certificate(flow: &Flow) -> bool {
    let client = flow.conn.client.as_ref();
    client.is_some_and(|client| client.chain.is_some())
}

/// Whether a client goes on to a page of ours where a person has something to do.
fn may_be_sent(flow: &Flow, kind: ClientKind) -> bool {
    kind != ClientKind::RobotsTxt && negotiate::redirect_allowed(&flow.request, &flow.parts.headers)
}

/// Sends the client to that page.
fn send(mut flow: Box<Flow>, route: &Route, url: &str) -> Reply {
    flow.exchange.answered(302, "ext_authz_denied");
    of_route(flow, route, error_reply::redirect(StatusCode::FOUND, url))
}

/// What the sign-in has to be, for programs (RFC 9470, 3).
fn step_up_challenge(demand: &Demand) -> Option<HeaderValue> {
    let mut text = String::from(
        "Bearer error=\"insufficient_user_authentication\", error_description=\"A more recent or stronger sign-in is required\"",
    );
    let plain = |text: &str| !text.contains(['"', '\\']);
    let acr = demand.acr.join(" ");
    if !acr.is_empty() && plain(&acr) {
        text.push_str(&format!(", acr_values=\"{acr}\""));
    }
    if let Some(max_age) = demand.max_age {
        text.push_str(&format!(", max_age=\"{max_age}\""));
    }
    HeaderValue::try_from(text).ok()
}

/// What the rules and policies said, for routes with `show_error_details`.
fn tell(words: Words, told: Told, route: &Route) -> Words {
    let (rule, criteria) = told.rule;
    let detail = Detail {
        name: rule,
        outcome: Outcome::NotMet,
        text: criteria.join(", "),
        remedy: String::new(),
    };
    let parts = route.settings.told_policies.iter().flat_map(|parts| parts.iter());
    let trace = |(part, said): (&Part, Said)| PolicyTrace {
        id: part.id.clone(),
        explanation: part.explanation.clone(),
        remediation: part.remediation.clone(),
        allow: said.allow,
        deny: said.deny,
    };
    words
        .with_details(vec![detail])
        .with_traces(parts.zip(told.said).map(trace).collect())
}

fn of_route(flow: Box<Flow>, route: &Route, mut response: pomerium_web::Response) -> Reply {
    route.set_response_headers(response.headers_mut());
    let head = flow.request.method == Method::HEAD;
    finish(flow.exchange, response, Ending { close: false, head })
}
