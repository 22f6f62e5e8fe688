//! The authorize log: one JSON line for each judged request (spec policy.md 15.1).
//!
//! The line goes into a buffer of the caller; nothing is printed here. A refused request always says which
//! rule and which criteria stood in the way, whatever fields are chosen. Values come from clients: `json`
//! escapes everything that could end a line or move a cursor.

mod json;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use pomerium_policy::{Input, Program, Reason, Verdict};

use self::json::Line;
use crate::decision::{Decision, Outcome};
use crate::headers::joined;
use crate::principal::{GroupsFilter, Impersonator, Principal};
use crate::session::Anonymous;

/// Fields that can be chosen (`authorize_log_fields`). Those of requests to MCP servers are refused with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each prints under its own name")]
pub enum Field {
    RequestId,
    CheckRequestId,
    Method,
    Path,
    Host,
    Query,
    Ip,
    SessionId,
    ImpersonateSessionId,
    ImpersonateUserId,
    ImpersonateEmail,
    RemovedGroupsCount,
    ServiceAccountId,
    User,
    Email,
    EnvoyRouteChecksum,
    EnvoyRouteId,
    RouteChecksum,
    RouteId,
    ClusterStatName,
    /// All request headers; the values of those that hold credentials are left out.
    Headers,
    IdToken,
    IdTokenClaims,
    /// One request header, as it is.
    Header(HeaderName),
}

/// The route of a request.
#[derive(Debug, Clone, Copy)]
pub struct RouteFacts<'a> {
    /// Route id.
    pub id: &'a str,
    /// Hash of the route's settings.
    pub checksum: Option<u64>,
    /// Cluster name.
    pub cluster: &'a str,
    /// Which groups are kept in its assertion.
    pub groups_filter: &'a GroupsFilter,
}

/// A judged request.
#[derive(Clone, Copy)]
pub struct AuthorizeRecord<'a> {
    /// When.
    pub now: Timestamp,
    /// Request id.
    pub request_id: &'a str,
    /// What was judged.
    pub input: &'a Input<'a>,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// Who asked.
    pub principal: Option<&'a Principal>,
    /// Why the token that came along makes nobody of the request.
    pub anonymous: Option<Anonymous>,
    /// The route, if one answers.
    pub route: Option<RouteFacts<'a>>,
    /// The policy that was judged, if one was.
    pub program: Option<&'a Program>,
    /// What is wrong with the client certificate, when that is why the request is refused.
    pub certificate_problem: Option<&'a str>,
    /// The decision.
    pub decision: &'a Decision,
}

/// Room for a line of usual length, made once instead of bit by bit.
const TYPICAL: usize = 1024;

/// Appends the line of `record`, with its line end, to `out`.
pub fn write_line(out: &mut Vec<u8>, fields: &[Field], record: &AuthorizeRecord<'_>) {
    out.reserve(TYPICAL);
    let mut line = Line::start(out);
    line.text("level", "info");
    line.text("service", "authorize");
    for field in fields {
        write_field(&mut line, field, record);
    }
    write_headers(&mut line, fields, record);
    write_verdict(
        &mut line,
        ["allow", "allow-why-true", "allow-why-false"],
        &record.decision.allow,
    );
    write_verdict(
        &mut line,
        ["deny", "deny-why-true", "deny-why-false"],
        &record.decision.deny,
    );
    write_groups_source(&mut line, record);
    write_outcome(&mut line, record);
    line.time("time", record.now);
    line.text("message", "authorize check");
    line.end();
}

fn write_verdict(line: &mut Line<'_>, [value, why_true, why_false]: [&'static str; 3], verdict: &Verdict) {
    line.boolean(value, verdict.value);
    let why = if verdict.value { why_true } else { why_false };
    match &verdict.other {
        None => line.list(why, verdict.reasons.iter().map(|reason| reason.as_str())),
        Some(_) => line.list(why, verdict.names().into_iter()),
    }
}

/// What the raw results do not say: the final decision, and what stood in the way.
fn write_outcome(line: &mut Line<'_>, record: &AuthorizeRecord<'_>) {
    match record.decision.outcome {
        Outcome::Allow => return,
        Outcome::Login => line.text("outcome", "login"),
        Outcome::Device => line.text("outcome", "device"),
        Outcome::StepUp => line.text("outcome", "step-up"),
        Outcome::Denied { status, .. } => {
            line.text("outcome", "denied");
            line.number("status", status.into());
            if let Some(failure) = &record.decision.failure {
                line.text("error", failure);
            }
            if let Some(program) = record.program {
                let denial = program.denial(record.input);
                line.text("rule", &denial.rule);
                line.list("criteria", denial.criteria.iter().map(String::as_str));
            }
        }
    }
    if let Some(why) = record.certificate_problem {
        line.text("certificate-problem", why);
    }
    if let Some(why) = record.anonymous {
        line.text("session-problem", why.as_str());
    }
}

fn write_field(line: &mut Line<'_>, field: &Field, record: &AuthorizeRecord<'_>) {
    let http = &record.input.http;
    let principal = record.principal;
    match field {
        Field::RequestId => line.text("request-id", record.request_id),
        Field::CheckRequestId => line.text("check-request-id", record.request_id),
        Field::Method => line.text("method", http.method),
        Field::Path => line.text("path", http.raw_path),
        Field::Host => line.text("host", http.host),
        Field::Query => line.text("query", http.query),
        Field::Ip => match http.client_ip {
            Some(ip) => line.ip("ip", ip),
            None => line.text("ip", ""),
        },
        Field::User => line.text("user", principal.map_or("", own_user)),
        Field::Email => line.text("email", principal.map_or("", own_email)),
        Field::SessionId | Field::ServiceAccountId => {
            let account = *field == Field::ServiceAccountId;
            let name = if account {
                "service-account-id"
            } else {
                "session-id"
            };
            let id = principal.filter(|principal| principal.service_account == account);
            line.optional(name, id.map(|principal| principal.session_id.as_str()));
        }
        Field::ImpersonateSessionId => {
            line.optional(
                "impersonate-session-id",
                target(principal, |principal| &principal.subject.session_id),
            );
        }
        Field::ImpersonateUserId => {
            line.optional(
                "impersonate-user-id",
                target(principal, |principal| &principal.user_id),
            );
        }
        Field::ImpersonateEmail => {
            let email = target(principal, |principal| &principal.email).filter(|email| !email.is_empty());
            line.optional("impersonate-email", email);
        }
        Field::RemovedGroupsCount => write_removed_groups(line, record),
        Field::IdToken | Field::IdTokenClaims => write_id_token(line, field, principal),
        Field::Headers | Field::Header(_) => {}
        Field::EnvoyRouteChecksum
        | Field::EnvoyRouteId
        | Field::RouteChecksum
        | Field::RouteId
        | Field::ClusterStatName => write_route(line, field, record.route),
    }
}

/// How many groups the assertion goes without, when there are any.
fn write_removed_groups(line: &mut Line<'_>, record: &AuthorizeRecord<'_>) {
    let (Some(principal), Some(route)) = (record.principal, record.route) else {
        return;
    };
    let removed = principal.removed_groups(route.groups_filter);
    if removed > 0 {
        line.number("removed-groups-count", removed as u64);
    }
}

/// Where the groups came from, when the decision looked at groups.
fn write_groups_source(line: &mut Line<'_>, record: &AuthorizeRecord<'_>) {
    let reasons = record.decision.allow.reasons.union(record.decision.deny.reasons);
    let consulted = reasons.contains(Reason::GroupsOk) || reasons.contains(Reason::GroupsUnauthorized);
    if let Some(principal) = record.principal.filter(|_| consulted) {
        line.text("groups-source", principal.subject.groups.source.as_str());
    }
}

fn write_route(line: &mut Line<'_>, field: &Field, route: Option<RouteFacts<'_>>) {
    let Some(route) = route else { return };
    let checksum = |line: &mut Line<'_>, name| {
        if let Some(checksum) = route.checksum {
            line.number(name, checksum);
        }
    };
    match field {
        Field::EnvoyRouteChecksum => checksum(line, "envoy-route-checksum"),
        Field::RouteChecksum => checksum(line, "route-checksum"),
        Field::EnvoyRouteId => line.text("envoy-route-id", route.id),
        Field::RouteId => line.text("route-id", route.id),
        _ => line.text("cluster-stat-name", route.cluster),
    }
}

fn own_user(principal: &Principal) -> &str {
    principal
        .impersonator
        .as_ref()
        .map_or(&principal.user_id, |who: &Impersonator| &who.user_id)
}

fn own_email(principal: &Principal) -> &str {
    principal
        .impersonator
        .as_ref()
        .map_or(&principal.email, |who| &who.email)
}

/// Something of the impersonated person, while there is one.
fn target<'a>(principal: Option<&'a Principal>, read: fn(&'a Principal) -> &'a str) -> Option<&'a str> {
    principal
        .filter(|principal| principal.impersonator.is_some())
        .map(read)
}

fn write_id_token(line: &mut Line<'_>, field: &Field, principal: Option<&Principal>) {
    let token = principal
        .and_then(|principal| principal.session.as_ref())
        .and_then(|entry| entry.session.id_token.as_ref())
        .map(|token| token.raw.as_str())
        .filter(|raw| !raw.is_empty());
    let Some(token) = token else { return };
    if *field == Field::IdToken {
        line.text("id-token", token);
    } else if let Some(claims) = unverified_claims(token) {
        line.json("id-token-claims", &claims);
    }
}

/// The payload of the ID token a session came from; it was verified at the login.
fn unverified_claims(token: &str) -> Option<serde_json::Value> {
    let payload = pomerium_crypto::encoding::base64url_decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload)
        .ok()
        .filter(serde_json::Value::is_object)
}

/// Headers that hold credentials: `headers` names them without their values.
const CREDENTIALS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-pomerium-authorization",
    "x-pomerium-jwt-assertion",
];

/// All chosen headers go under one key, wherever they stand in the list of fields.
fn write_headers(line: &mut Line<'_>, fields: &[Field], record: &AuthorizeRecord<'_>) {
    let all = fields.contains(&Field::Headers);
    let chosen = |name: &HeaderName| {
        fields
            .iter()
            .any(|field| matches!(field, Field::Header(header) if header == name))
    };
    if !all && !fields.iter().any(|field| matches!(field, Field::Header(_))) {
        return;
    }
    line.open("headers");
    for name in record.headers.keys().filter(|name| all || chosen(name)) {
        let hidden = CREDENTIALS.contains(&name.as_str()) && !chosen(name);
        let value = if hidden {
            "<hidden>".into()
        } else {
            joined(record.headers, name.as_str()).unwrap_or_default()
        };
        line.foreign(&canonical(name), &value);
    }
    line.close();
}

/// `x-request-id` as `X-Request-Id`.
fn canonical(name: &HeaderName) -> String {
    let mut upper = true;
    let letter = |c: char| {
        let out = if upper { c.to_ascii_uppercase() } else { c };
        upper = c == '-';
        out
    };
    name.as_str().chars().map(letter).collect()
}

#[cfg(test)]
mod tests;
