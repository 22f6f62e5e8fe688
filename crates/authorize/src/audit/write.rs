//! The record of a decision.

use jiff::Timestamp;
use pomerium_policy::explain::{ActionTree, GroupTree, ScriptTree};
use pomerium_policy::{Input, Program};
use serde::Serialize;

use super::facts::{Certificate, Facts, Mcp, Person, Ssh};
use super::needs::{self, Need};
use super::seen::Seen;
use super::{VERSION, json};
use crate::decision::{Outcome, grounds};
use crate::decision_log::AuthorizeRecord;
use crate::principal::Principal;

#[derive(Serialize)]
struct Record<'a> {
    kind: &'static str,
    version: u32,
    time: Timestamp,
    request_id: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    source_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteOf<'a>>,
    session: Option<SessionOf<'a>>,
    user: Option<UserOf<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_problem: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    rule: String,
    criteria: Vec<String>,
    allow: ActionOf<'a>,
    deny: ActionOf<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<&'a [ScriptTree]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<Facts>,
}

#[derive(Serialize)]
struct RouteOf<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

#[derive(Serialize)]
struct SessionOf<'a> {
    id: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonator: Option<UserOf<'a>>,
}

#[derive(Serialize)]
struct UserOf<'a> {
    id: &'a str,
    email: &'a str,
}

#[derive(Serialize)]
struct ActionOf<'a> {
    value: bool,
    reasons: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a [GroupTree]>,
}

/// Appends the record of a decision, without a line end. With `inputs` it holds all that is needed to explain it and
/// to judge it again; without, only what came of it.
pub fn decision(out: &mut Vec<u8>, record: &AuthorizeRecord<'_>, inputs: bool) {
    let seen = Seen::new(record.input.records);
    let input = Input {
        records: &seen,
        ..*record.input
    };
    let tree = record.program.map(|program| program.explain(&input));
    let grounds = tree.as_ref().map(|tree| grounds(tree, record.decision));
    let grounds = grounds.unwrap_or_else(|| pomerium_policy::Denial {
        rule: String::new(),
        criteria: Vec::new(),
    });
    let facts = record
        .program
        .filter(|_| inputs)
        .map(|program| facts(program, &input, &seen));
    let groups = |of: fn(&pomerium_policy::explain::Tree) -> &ActionTree| {
        tree.as_ref()
            .filter(|_| inputs)
            .map(|tree| of(tree).groups.as_slice())
    };
    let scripts = tree.as_ref().map(|tree| tree.scripts.as_slice());
    let http = &record.input.http;
    let decision = record.decision;
    let record = Record {
        kind: "decision",
        version: VERSION,
        time: record.now,
        request_id: record.request_id,
        outcome: decision.came_to(),
        status: match decision.outcome {
            Outcome::Denied { status, .. } => Some(status),
            _ => None,
        },
        method: http.method,
        host: http.host,
        path: http.raw_path,
        source_ip: http.client_ip.map(|ip| ip.to_canonical().to_string()),
        route: record.route.map(route),
        session: record.principal.map(session),
        user: record.principal.map(|principal| UserOf {
            id: &principal.user_id,
            email: &principal.email,
        }),
        session_problem: record.anonymous.map(crate::session::Anonymous::as_str),
        certificate_problem: record.certificate_problem,
        problem: decision.failure.as_deref(),
        rule: grounds.rule,
        criteria: grounds.criteria,
        allow: ActionOf {
            value: decision.allow.value,
            reasons: decision.allow.names(),
            groups: groups(|tree| &tree.allow),
        },
        deny: ActionOf {
            value: decision.deny.value,
            reasons: decision.deny.names(),
            groups: groups(|tree| &tree.deny),
        },
        scripts: scripts.filter(|_| inputs).filter(|scripts| !scripts.is_empty()),
        inputs: facts,
    };
    json::append(out, &record);
}

fn session(principal: &Principal) -> SessionOf<'_> {
    SessionOf {
        id: &principal.session_id,
        kind: if principal.service_account {
            "service_account"
        } else {
            "session"
        },
        impersonator: principal.impersonator.as_ref().map(|who| UserOf {
            id: &who.user_id,
            email: &who.email,
        }),
    }
}

/// The standard facts, and what this policy looks at beyond them.
fn facts(program: &Program, input: &Input<'_>, seen: &Seen<'_>) -> Facts {
    let http = &input.http;
    let header = |name: &str| http.headers.get(name).map(std::borrow::Cow::into_owned);
    let claims = program
        .criteria()
        .filter_map(|(key, claim)| match needs::of(key, claim) {
            Need::Claim(name) => Some(name),
            _ => None,
        });
    Facts {
        path: http.path.to_owned(),
        origin: header("origin"),
        access_control_request_method: header("access-control-request-method"),
        subject: input.subject.map(|subject| Person::of(subject, claims)),
        certificate: program
            .needs_certificate()
            .then(|| Certificate::of(&http.client_certificate)),
        ssh: input.ssh.map(|ssh| Ssh {
            username: ssh.username.to_owned(),
            public_key: pomerium_crypto::encoding::base64_encode(ssh.public_key),
        }),
        mcp: input.mcp.map(|mcp| Mcp {
            method: mcp.method.to_owned(),
            tool: mcp.tool.map(str::to_owned),
        }),
        records: seen.take(),
    }
}

/// A request that could not be judged, and was refused for that.
#[derive(Debug, Clone, Copy)]
pub struct Undecided<'a> {
    /// When.
    pub now: Timestamp,
    /// Request id.
    pub request_id: &'a str,
    /// Method.
    pub method: &'a str,
    /// `host[:port]`.
    pub host: &'a str,
    /// Path, still escaped.
    pub path: &'a str,
    /// Address of the client.
    pub source_ip: std::net::IpAddr,
    /// The route.
    pub route: crate::decision_log::RouteFacts<'a>,
    /// Why.
    pub problem: &'a str,
}

/// Appends the record of a request that could not be judged, without a line end.
pub fn undecided(out: &mut Vec<u8>, undecided: &Undecided<'_>) {
    #[derive(Serialize)]
    struct Record<'a> {
        kind: &'static str,
        version: u32,
        time: Timestamp,
        request_id: &'a str,
        outcome: &'static str,
        status: u16,
        method: &'a str,
        host: &'a str,
        path: &'a str,
        source_ip: String,
        route: RouteOf<'a>,
        session: Option<()>,
        user: Option<()>,
        problem: &'a str,
    }
    let record = Record {
        kind: "decision",
        version: VERSION,
        time: undecided.now,
        request_id: undecided.request_id,
        outcome: "error",
        status: 503,
        method: undecided.method,
        host: undecided.host,
        path: undecided.path,
        source_ip: undecided.source_ip.to_canonical().to_string(),
        route: route(undecided.route),
        session: None,
        user: None,
        problem: undecided.problem,
    };
    json::append(out, &record);
}

fn route(route: crate::decision_log::RouteFacts<'_>) -> RouteOf<'_> {
    RouteOf {
        id: route.id,
        name: route.cluster,
        checksum: route.checksum.map(|checksum| checksum.to_string()),
    }
}
