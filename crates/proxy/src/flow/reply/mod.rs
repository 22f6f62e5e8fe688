//! Answers of the proxy itself: requests that cannot be read, judged or served (spec proxy.md 7,
//! policy.md 8 and 9). Words and forms are `pomerium_web`'s; here is which one it is, and its way out.

mod denied;
mod problem;
mod refusal;

use std::sync::Arc;

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use pomerium_config::settings::Settings;
use pomerium_web::negotiate::{self, ClientKind};
use pomerium_web::pages::{Branding, Frame, Site};
use pomerium_web::{body, error_reply};

use super::{Flow, Reply};
use crate::body::{ResponseBody, Tail};
use crate::exchange::Exchange;
use crate::headers::response::set_request_id;
pub(super) use denied::refused;
use problem::OVERFLOW;
pub(crate) use problem::Problem;
pub(crate) use refusal::refusal;

const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// The pages of one configuration.
pub(crate) struct Pages {
    pub(crate) site: Arc<Site>,
}

impl Pages {
    pub(crate) fn new(settings: &Settings) -> Self {
        let own = &settings.branding;
        let text = |text: &Option<String>| text.clone();
        let branding = Branding {
            logo_url: text(&own.logo_url),
            favicon_url: text(&own.favicon_url),
            error_paragraph: text(&own.error_message_first_paragraph),
            ..Branding::default()
        };
        let coloured = branding.clone().with_colors(
            own.primary_color.as_deref(),
            own.secondary_color.as_deref(),
            own.darkmode_primary_color.as_deref(),
            own.darkmode_secondary_color.as_deref(),
        );
        // Colours were checked with the settings; a page without them is better than none.
        Self {
            site: Arc::new(Site::new(coloured.unwrap_or(branding))),
        }
    }
}

/// The answer to a request that cannot be served.
pub(super) fn problem(mut flow: Box<Flow>, problem: Problem) -> Reply {
    if problem == Problem::Upgrade && !flow.parts.headers.contains_key(ACCEPT) {
        // Browsers name no form when they open a WebSocket, and show nobody what they get.
        flow.exchange.answered(403, problem.details());
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::FORBIDDEN;
        return finish(
            flow.exchange,
            response,
            Ending {
                close: true,
                head: false,
            },
        );
    }
    let kind = negotiate::wants_local_reply(&flow.parts.headers);
    make(flow.exchange, kind, problem)
}

/// The same, when the request is gone.
pub(crate) fn make(mut exchange: Box<Exchange>, kind: ClientKind, problem: Problem) -> Reply {
    let snapshot = exchange.snapshot.clone();
    let mut words = problem.describe(exchange.host());
    if let Some(again) = exchange
        .again()
        .filter(|_| words.status >= 500 || words.retry_after.is_some())
    {
        words = words.retry(again);
    }
    exchange.answered(words.status, problem.details());
    let mut response = error_reply::reply(
        kind,
        &words,
        &Frame::new(&snapshot.pages.site, exchange.request_id()),
    );
    for (name, value) in &snapshot.response_headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    if let Some(route) = exchange.route() {
        route.set_response_headers(response.headers_mut());
    }
    if matches!(problem, Problem::Down(OVERFLOW, _)) {
        response
            .headers_mut()
            .insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    let ending = Ending {
        close: problem.closes(),
        head: exchange.is_head(),
    };
    finish(exchange, response, ending)
}

/// How an answer of ours ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ending {
    /// The connection is closed after it.
    pub(crate) close: bool,
    /// The method was HEAD: the body is announced, not sent.
    pub(crate) head: bool,
}

/// Sends an answer of ours on its way.
pub(crate) fn finish(mut exchange: Box<Exchange>, response: pomerium_web::Response, ending: Ending) -> Reply {
    let (mut parts, body) = response.into_parts();
    set_request_id(&mut parts.headers, exchange.request_id());
    exchange.set_status(parts.status.as_u16());
    if ending.close && !exchange.is_multiplexed() {
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !ending.head {
        let tail = Tail {
            exchange,
            lease: None,
            watchdog: None,
        };
        return Response::from_parts(parts, ResponseBody::boxed(body, tail));
    }
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts
            .headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
    exchange.completed();
    let tail = Tail {
        exchange,
        lease: None,
        watchdog: None,
    };
    Response::from_parts(parts, ResponseBody::full(bytes::Bytes::new(), tail))
}
