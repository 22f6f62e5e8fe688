//! What is written down of a judgement: a line in the authorize log, a record in the audit stream.

use http::HeaderName;
use jiff::Timestamp;
use pomerium_authorize::audit::Undecided;
use pomerium_authorize::decision_log::{self, AuthorizeRecord, Field, RouteFacts};
use pomerium_authorize::{Decision, Outcome};
use pomerium_config::settings::{AuthorizeField, LogLevel, LogSettings};
use pomerium_policy::{Input, Program};

use super::Flow;
use super::identify::Who;
use crate::route::Route;

/// One line in the authorize log, one record in the audit stream.
pub(super) fn log(flow: &Flow, route: &Route, who: &Who, input: &Input<'_>, decision: &Decision) {
    let plan = &flow.snapshot.authorize_log;
    let audit = &flow.conn.worker.shared.audit;
    let allowed = decision.outcome == Outcome::Allow;
    let audited = audit.wants(allowed);
    if !plan.on && !audited {
        return;
    }
    let program: &Program = &route.settings.policy;
    let certificate_problem = certificate_problem(flow, route, input.now, decision);
    let record = AuthorizeRecord {
        now: input.now,
        request_id: &flow.request.request_id,
        input,
        headers: &flow.parts.headers,
        principal: who.principal.as_deref(),
        anonymous: who.anonymous,
        route: Some(route_facts(route)),
        program: Some(program),
        certificate_problem: certificate_problem.as_deref(),
        decision,
    };
    if audited {
        audit.record(allowed, &record);
    }
    if plan.on {
        let log = &flow.conn.worker.shared.log;
        log.line(|buffer| decision_log::write_line(buffer, &plan.fields, &record));
    }
}

/// The record of a request that is refused because it cannot be judged.
pub(super) fn undecided(flow: &Flow, route: &Route, now: Timestamp, problem: &str) {
    let audit = &flow.conn.worker.shared.audit;
    if !audit.wants(false) {
        return;
    }
    let request = &flow.request;
    audit.undecided(&Undecided {
        now,
        request_id: &request.request_id,
        method: request.method.as_str(),
        host: request.authority.as_str(),
        path: &request.path,
        source_ip: request.client_ip,
        route: route_facts(route),
        problem,
    });
}

fn route_facts(route: &Route) -> RouteFacts<'_> {
    RouteFacts {
        id: &route.settings.id,
        checksum: Some(route.checksum()),
        cluster: &route.settings.name,
        groups_filter: &route.settings.groups_filter,
    }
}

/// What is wrong with a certificate that was presented, when that is why a request is refused.
fn certificate_problem(flow: &Flow, route: &Route, now: Timestamp, decision: &Decision) -> Option<String> {
    if decision.outcome != Outcome::CLIENT_CERTIFICATE {
        return None;
    }
    let clients = flow.snapshot.clients.as_ref()?;
    let flaw = clients.flaw(flow.conn.client.as_deref(), &route.settings, now.as_second())?;
    Some(flaw.to_string())
}

/// Which fields the authorize log has.
#[derive(Debug, Clone)]
pub(crate) struct AuthorizePlan {
    on: bool,
    fields: Vec<Field>,
}

impl AuthorizePlan {
    pub(crate) fn new(settings: &LogSettings) -> Self {
        let fields = settings
            .authorize_fields
            .iter()
            .filter_map(authorize_field)
            .collect();
        Self {
            on: settings.level <= LogLevel::Info,
            fields,
        }
    }
}

/// The field of the log. Names of headers were read with the settings.
fn authorize_field(field: &AuthorizeField) -> Option<Field> {
    Some(match field {
        AuthorizeField::RequestId => Field::RequestId,
        AuthorizeField::CheckRequestId => Field::CheckRequestId,
        AuthorizeField::Method => Field::Method,
        AuthorizeField::Path => Field::Path,
        AuthorizeField::Host => Field::Host,
        AuthorizeField::Query => Field::Query,
        AuthorizeField::Ip => Field::Ip,
        AuthorizeField::SessionId => Field::SessionId,
        AuthorizeField::ImpersonateSessionId => Field::ImpersonateSessionId,
        AuthorizeField::ImpersonateUserId => Field::ImpersonateUserId,
        AuthorizeField::ImpersonateEmail => Field::ImpersonateEmail,
        AuthorizeField::ServiceAccountId => Field::ServiceAccountId,
        AuthorizeField::User => Field::User,
        AuthorizeField::Email => Field::Email,
        AuthorizeField::EnvoyRouteChecksum => Field::EnvoyRouteChecksum,
        AuthorizeField::EnvoyRouteId => Field::EnvoyRouteId,
        AuthorizeField::RouteChecksum => Field::RouteChecksum,
        AuthorizeField::RouteId => Field::RouteId,
        AuthorizeField::ClusterStatName => Field::ClusterStatName,
        AuthorizeField::Headers => Field::Headers,
        AuthorizeField::IdToken => Field::IdToken,
        AuthorizeField::IdTokenClaims => Field::IdTokenClaims,
        AuthorizeField::Header(name) => Field::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        AuthorizeField::RemovedGroupsCount => Field::RemovedGroupsCount,
    })
}
