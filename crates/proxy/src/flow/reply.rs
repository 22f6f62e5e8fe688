//! Answers of the proxy itself: requests that cannot be read, judged or served (spec proxy.md 7,
//! policy.md 8 and 9). Words and forms are `pomerium_web`'s; here is which one it is, and its way out.

use std::sync::Arc;

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use pomerium_config::settings::Settings;
use pomerium_policy::{Demand, Part, Said};
use pomerium_web::canonical::Refusal;
use pomerium_web::negotiate::{self, ClientKind};
use pomerium_web::pages::{Branding, Frame, Site};
use pomerium_web::problem::{self, Detail, Outcome, PolicyTrace};
use pomerium_web::{body, error_reply};

use super::judge::{Refused, StepUp, Told};
use super::{Flow, Reply};
use crate::body::{Expired, ResponseBody, Tail};
use crate::exchange::Exchange;
use crate::headers::response::set_request_id;
use crate::headers::upstream_identity::Missing;
use crate::live::ENDED;
use crate::route::Route;
use crate::upstream::UpstreamError;

const BROKEN: &str = "upstream_reset_before_response_started{protocol_error}";

const OVERFLOW: &str = "upstream_reset_before_response_started{overflow}";
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// Why a request is not served. Each has its status, flag and details (spec proxy.md 7) in
/// [`Problem::describe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// No route answers.
    NoRoute,
    /// The rewriting of the route makes no path.
    BadRewrite,
    /// The upstream acts for people, and this one has no name for it.
    NobodyToActAs,
    /// There is no token to show the upstream.
    NoUpstreamToken,
    /// The host asks for a client certificate that this connection was not asked for.
    Misdirected,
    /// The route does not let this upgrade through.
    Upgrade,
    /// An upgrade with a body.
    UpgradeBody,
    /// The upstream switched protocols unasked, or to another one.
    UnaskedSwitch,
    /// Access cannot be decided.
    Unjudged,
    /// The route is gone, or the client has lost it, before there was an answer.
    Ended,
    /// The control plane broke.
    ControlFailed,
    /// A limit ran out while we waited for the client.
    ClientSlow(&'static str),
    /// A limit ran out while we waited for the upstream.
    UpstreamSlow(&'static str),
    /// The upstream did not answer.
    Down(&'static str, &'static str),
    /// The upstream's answer cannot be read.
    Broken,
    /// The request broke off.
    RequestBody,
    /// More requests than the rate limit lets through; seconds to wait.
    TooOften(u32),
}

impl Problem {
    /// An upstream that gave no answer.
    pub(crate) fn upstream(error: &UpstreamError) -> Self {
        tracing::debug!(%error, "an upstream gave no answer");
        match error {
            UpstreamError::NoHost => Self::Down("no_healthy_upstream", "UH"),
            UpstreamError::NoAddress { .. } => Self::Down("no_healthy_upstream", "DF"),
            UpstreamError::Overflow(_) => Self::Down(OVERFLOW, "UO"),
            UpstreamError::Connect(_) => {
                Self::Down("upstream_reset_before_response_started{connection_failure}", "UF")
            }
            UpstreamError::ConnectTimeout => {
                Self::Down("upstream_reset_before_response_started{connection_timeout}", "UF")
            }
            UpstreamError::Closed => Self::Down(
                "upstream_reset_before_response_started{connection_termination}",
                "UC",
            ),
            UpstreamError::Reset => Self::Down("upstream_reset_before_response_started{remote_reset}", "UR"),
            UpstreamError::Protocol(_) => Self::Broken,
            UpstreamError::RequestBody => Self::RequestBody,
        }
    }

    /// An upstream that cannot be told who asks.
    pub(crate) fn missing(what: Missing) -> Self {
        match what {
            Missing::Person => Self::NobodyToActAs,
            Missing::Token => Self::NoUpstreamToken,
        }
    }

    /// A rate limit that lets the next request through after `wait`.
    pub(crate) fn too_often(wait: std::time::Duration) -> Self {
        Self::TooOften(pomerium_web::rate::retry_after(wait))
    }

    /// A limit that ran out before there was an answer. `received`: the request is here whole.
    pub(crate) fn expired(expired: Expired, received: bool) -> Self {
        let owed_by_client = match expired {
            Expired::Request => true,
            Expired::Response => false,
            Expired::Total | Expired::Idle => !received,
        };
        if owed_by_client {
            Self::ClientSlow(expired.details())
        } else {
            Self::UpstreamSlow(expired.details())
        }
    }

    fn describe(self, host: &str) -> problem::Problem {
        use problem::Problem as Words;
        match self {
            Self::NoRoute => Words::not_found(host),
            Self::Misdirected => Words::misdirected(host),
            Self::BadRewrite => Words::upstream_broken("path_rewrite_invalid"),
            Self::Upgrade => Words::upgrade_refused(),
            Self::UpgradeBody => Words::refused(&Refusal {
                status: 400,
                detail: "an upgrade cannot carry a body",
                redirect: None,
                close: true,
            }),
            Self::UnaskedSwitch | Self::Broken => Words::upstream_broken(BROKEN),
            Self::NobodyToActAs => Words::nobody_to_act_as(),
            Self::NoUpstreamToken => Words::no_upstream_token(),
            Self::Unjudged => Words::undecided(),
            Self::Ended => Words::not_allowed(None, None),
            Self::ControlFailed => Words::internal().local("", "control_plane_failed"),
            Self::ClientSlow(details) => Words::request_timeout().local("DT", details),
            Self::UpstreamSlow(details) => Words::upstream_timeout(details, flag(details)),
            Self::Down(OVERFLOW, _) => Words::upstream_overloaded(),
            Self::Down(details, flag) => Words::upstream_down(details, flag),
            Self::TooOften(wait) => Words::too_many_requests(wait),
            Self::RequestBody => Words::refused(&Refusal {
                status: 400,
                detail: "its body broke off",
                redirect: None,
                close: true,
            }),
        }
    }

    fn details(self) -> &'static str {
        match self {
            Self::NoRoute => "route_not_found",
            Self::BadRewrite => "path_rewrite_invalid",
            Self::Misdirected => "misdirected_request",
            Self::Upgrade => "upgrade_failed",
            Self::UpgradeBody => "upgrade_with_a_body",
            Self::UnaskedSwitch | Self::Broken => BROKEN,
            Self::NobodyToActAs => "nobody_to_act_as",
            Self::NoUpstreamToken => "no_upstream_token",
            Self::Unjudged => "ext_authz_error",
            Self::Ended => ENDED,
            Self::ControlFailed => "control_plane_failed",
            Self::ClientSlow(details) | Self::UpstreamSlow(details) | Self::Down(details, _) => details,
            Self::RequestBody => "downstream_remote_disconnect",
            Self::TooOften(_) => "local_rate_limited",
        }
    }

    /// Whether the connection ends after the answer: what follows on it cannot be trusted, or is not
    /// wanted.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::Misdirected
                | Self::Upgrade
                | Self::UpgradeBody
                | Self::ClientSlow(_)
                | Self::RequestBody
                | Self::Ended
        )
    }
}

fn flag(details: &str) -> &'static str {
    match details {
        "stream_idle_timeout" => "SI",
        "max_duration_timeout" => "DT",
        _ => "UT",
    }
}

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

/// The answer to a request that is not served as it is (spec proxy.md 1.8, 14).
pub(crate) fn refusal(
    mut exchange: Box<Exchange>,
    refusal: &Refusal,
    (head, headers): (bool, &HeaderMap),
) -> Reply {
    exchange.answered(refusal.status, refusal.detail);
    if let Some(location) = &refusal.redirect {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::TEMPORARY_REDIRECT);
        return finish(
            exchange,
            error_reply::redirect(status, location),
            Ending {
                head,
                ..Ending::default()
            },
        );
    }
    let response = refusal_page(&exchange, refusal, headers).unwrap_or_else(|| plain_refusal(refusal));
    let old = exchange.version() == Version::HTTP_10;
    let mut reply = finish(
        exchange,
        response,
        Ending {
            close: refusal.close,
            head,
        },
    );
    if old {
        // Otherwise the library offers `keep-alive` beside our `close`.
        *reply.version_mut() = Version::HTTP_10;
    }
    reply
}

/// A page, where a person sees the answer and can do something about it: with too many cookies, or an old
/// program.
fn refusal_page(
    exchange: &Exchange,
    refusal: &Refusal,
    headers: &HeaderMap,
) -> Option<pomerium_web::Response> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok())?;
    if !matches!(refusal.status, 413 | 426 | 431) || !accept.contains("text/html") {
        return None;
    }
    let frame = Frame::new(&exchange.snapshot.pages.site, exchange.request_id());
    Some(error_reply::reply(
        ClientKind::Html,
        &problem::Problem::refused(refusal),
        &frame,
    ))
}

/// A few plain words: how a client that cannot be read would like its answer cannot be trusted either.
fn plain_refusal(refusal: &Refusal) -> pomerium_web::Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or("Bad Request");
    let words = format!("{reason}: {}\n", refusal.detail);
    body::response(status, "text/plain; charset=UTF-8", words)
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

/// The answer to a request that may not pass.
pub(super) fn refused(mut flow: Box<Flow>, route: &Arc<Route>, refused: Refused) -> Reply {
    let kind = negotiate::wants(&flow.request, &flow.parts.headers);
    let snapshot = flow.snapshot.clone();
    let mut challenge = None;
    let words = match refused {
        Refused::Login => {
            let login = &flow.conn.worker.shared.login;
            let url = login.sign_in_url(&flow.request, &route.settings);
            if may_be_sent(&flow, kind) {
                return send(flow, route, &url);
            }
            problem::Problem::sign_in_needed(&url)
        }
        Refused::Device(wanted) => {
            let login = &flow.conn.worker.shared.login;
            let url = login.device_url(&flow.request, &wanted.device_type);
            if may_be_sent(&flow, kind) {
                return send(flow, route, &url);
            }
            problem::Problem::device_needed(&url)
        }
        Refused::StepUp(StepUp { demand, .. }) => {
            let login = &flow.conn.worker.shared.login;
            let url = login.step_up_url(&flow.request, &route.settings, &demand);
            if may_be_sent(&flow, kind) {
                return send(flow, route, &url);
            }
            challenge = step_up_challenge(&demand);
            problem::Problem::step_up_needed(&url)
        }
        Refused::Denied(denied) => {
            let email = denied
                .principal
                .as_ref()
                .map(|principal| principal.email.as_str());
            let email = email.filter(|email| !email.is_empty());
            // Whoever is signed in may try with another account.
            let switch = denied.principal.as_ref().map(|_| "/.pomerium/sign_out");
            let shown = || {
                flow.conn
                    .client
                    .as_ref()
                    .is_some_and(|client| client.chain.is_some())
            };
            let words = if denied.status == 495 && shown() {
                problem::Problem::client_certificate_refused()
            } else if denied.status == 495 {
                problem::Problem::client_certificate()
            } else if denied.status == 450 {
                let device_type = route.settings.policy.named_device_type();
                let login = &flow.conn.worker.shared.login;
                problem::Problem::device_not_authorized(&login.device_url(&flow.request, device_type))
            } else if denied.status == 404 {
                problem::Problem::not_found(flow.request.host()).decision()
            } else {
                problem::Problem::not_allowed(email, switch)
            };
            match denied.told {
                Some(told) => tell(words, told, route),
                None => words,
            }
        }
        Refused::Upstream(missing, _) => return problem(flow, Problem::missing(missing)),
        Refused::Unjudged => problem::Problem::undecided(),
    };
    let details = if words.status == 503 {
        "ext_authz_error"
    } else {
        "ext_authz_denied"
    };
    flow.exchange.answered(words.status, details);
    let frame = Frame::new(&snapshot.pages.site, &flow.request.request_id);
    let mut response = error_reply::reply(kind, &words, &frame);
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    of_route(flow, route, response)
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
fn tell(words: problem::Problem, told: Told, route: &Route) -> problem::Problem {
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
