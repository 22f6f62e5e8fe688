//! Whether somebody may. No I/O.

use std::sync::Arc;

use http::HeaderName;
use jiff::Timestamp;
use pomerium_authorize::audit::Undecided;
use pomerium_authorize::decision_log::{self, AuthorizeRecord, Field, RouteFacts};
use pomerium_authorize::{
    AssertionRoute, Decision, Headers, IdentityHeaders, Lookup, Outcome, Principal, check,
};
use pomerium_config::settings::{AuthorizeField, LogLevel, LogSettings};
use pomerium_policy::{ClientCertificate, Demand, HttpInput, Input, Program, Said};
use pomerium_web::canonical::CanonicalRequest;

use super::identify::{Who, identify_for};
use super::{Flow, client_certificate};
use crate::headers::upstream_identity::{self, Missing};
use crate::metrics::Decided;
use crate::route::Route;

/// The outcome for a request to a route.
pub(crate) enum Judged {
    Allowed(Allowed),
    Refused(Refused),
}

impl Judged {
    /// Who asked, when it was somebody.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Allowed(allowed) => allowed.principal.as_deref(),
            Self::Refused(Refused::Denied(denied)) => denied.principal.as_deref(),
            Self::Refused(Refused::Device(wanted)) => wanted.principal.as_deref(),
            Self::Refused(Refused::StepUp(step_up)) => step_up.principal.as_deref(),
            Self::Refused(Refused::Upstream(_, principal)) => principal.as_deref(),
            Self::Refused(Refused::Login | Refused::Unjudged) => None,
        }
    }
}

/// What is known about an allowed request.
pub(crate) struct Allowed {
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) identity: Option<Arc<IdentityHeaders>>,
    pub(crate) now: Timestamp,
}

/// Why a request is not allowed.
pub(crate) enum Refused {
    /// Nobody is signed in, and somebody must be.
    Login,
    /// Their session has shown no device of the type that the policy wants.
    Device(DeviceWanted),
    /// Somebody is signed in, but not recently or strongly enough.
    StepUp(StepUp),
    /// Somebody may not, or nobody may.
    Denied(Denied),
    /// They may, and the upstream cannot be told so.
    Upstream(Missing, Option<Arc<Principal>>),
    /// It could not be judged.
    Unjudged,
}

/// A device is wanted before the policy can say more.
pub(crate) struct DeviceWanted {
    /// Who asked.
    pub(crate) principal: Option<Arc<Principal>>,
    /// Of which type.
    pub(crate) device_type: String,
}

/// What is asked of a sign-in, and of whom.
pub(crate) struct StepUp {
    /// Who asked.
    pub(crate) principal: Option<Arc<Principal>>,
    /// What the policy asks for.
    pub(crate) demand: Demand,
}

/// A refusal by the policy.
pub(crate) struct Denied {
    /// 403, 404, 450, or 495 for want of a client certificate.
    pub(crate) status: u16,
    /// Who asked.
    pub(crate) principal: Option<Arc<Principal>>,
    /// What stood in the way, for routes that tell.
    pub(crate) told: Option<Told>,
}

/// What people are told about a refusal.
pub(crate) struct Told {
    /// The rule and the criteria that stood in the way.
    pub(crate) rule: (String, Vec<String>),
    /// What each policy of the console said by itself, in the order of `told_policies` of the route.
    pub(crate) said: Vec<Said>,
}

/// Judges a request to `route`.
pub(crate) async fn judge(flow: &mut Flow, route: &Arc<Route>) -> Judged {
    let shared = flow.conn.worker.shared.clone();
    let now = shared.clock.now();
    let who = match identify_for(flow, route, now).await {
        Ok(who) => who,
        Err(refused) => {
            undecided(flow, route, now, "the session could not be looked up");
            shared.metrics.decided(Decided::Error);
            return Judged::Refused(refused);
        }
    };
    let (decision, equipped) = match decide(flow, route, &who, now) {
        Ok(decided) => decided,
        Err(refused) => {
            shared.metrics.decided(Decided::Error);
            return Judged::Refused(refused);
        }
    };
    if let Err(Unequipped::Missing(missing)) = equipped {
        shared.metrics.decided(Decided::Error);
        return Judged::Refused(Refused::Upstream(missing, who.principal));
    }
    match decision.outcome {
        Outcome::Allow => {
            shared.metrics.decided(Decided::Allow);
            Judged::Allowed(Allowed {
                principal: who.principal,
                identity: equipped.unwrap_or_default(),
                now,
            })
        }
        Outcome::Login => {
            shared.metrics.decided(Decided::Login);
            Judged::Refused(Refused::Login)
        }
        Outcome::Device => {
            shared.metrics.decided(Decided::Login);
            let device_type = match asked_device(&decision) {
                Some(asked) => asked.to_owned(),
                None => missing_device(flow, route, &who, now),
            };
            Judged::Refused(Refused::Device(DeviceWanted {
                principal: who.principal,
                device_type,
            }))
        }
        Outcome::StepUp => step_up(flow, route, who, now),
        // The policy could not be judged, or the assertion not signed.
        Outcome::FAILED => {
            shared.metrics.decided(Decided::Error);
            Judged::Refused(Refused::Unjudged)
        }
        Outcome::Denied { status, .. } => denied(flow, route, who, now, status),
    }
}

/// The type of device that a script asks for: of `allow`, else of `deny`.
fn asked_device(decision: &Decision) -> Option<&str> {
    let allow = decision.allow.device_type.as_deref();
    allow.or(decision.deny.device_type.as_deref())
}

/// The type of device that the rules want and the session has not shown (spec policy.md 8.5).
fn missing_device(flow: &Flow, route: &Route, who: &Who, now: Timestamp) -> String {
    let headers = Headers(&flow.parts.headers);
    let lookup = lookup(flow, now);
    let input = input(flow, route, &headers, who, &lookup);
    route.settings.policy.device_type(&input).to_owned()
}

fn step_up(flow: &Flow, route: &Arc<Route>, who: Who, now: Timestamp) -> Judged {
    let headers = Headers(&flow.parts.headers);
    let lookup = lookup(flow, now);
    let demand = route
        .settings
        .policy
        .demand(&input(flow, route, &headers, &who, &lookup));
    flow.conn.worker.shared.metrics.decided(Decided::Login);
    Judged::Refused(Refused::StepUp(StepUp {
        principal: who.principal,
        demand,
    }))
}

fn denied(flow: &Flow, route: &Arc<Route>, who: Who, now: Timestamp, status: u16) -> Judged {
    flow.conn.worker.shared.metrics.decided(Decided::Deny);
    let told = route
        .settings
        .show_error_details
        .then(|| tell(flow, route, &who, now));
    Judged::Refused(Refused::Denied(Denied {
        status,
        principal: who.principal,
        told,
    }))
}

/// Why a request that may pass cannot be sent on.
enum Unequipped {
    /// The assertion cannot be signed.
    Unsigned,
    /// There is nothing to show the upstream.
    Missing(Missing),
}

impl Unequipped {
    /// What becomes of the decision, and why, for those who read the log.
    fn outcome(&self) -> (Outcome, &'static str) {
        match self {
            Self::Unsigned => (
                Outcome::FAILED,
                "the assertion cannot be signed; the log of the program says why",
            ),
            Self::Missing(Missing::Token) => (Outcome::FAILED, "there is no token to show the upstream"),
            Self::Missing(Missing::Person) => (
                Outcome::FORBIDDEN,
                "the upstream acts for people, and this one has no name that it may use",
            ),
        }
    }
}

/// What goes with a request that may pass: the identity headers, when the route has a use for them. It is known before
/// the decision is written down, so that nothing is called allowed that is not.
fn equip(
    flow: &Flow,
    route: &Arc<Route>,
    who: &Who,
    now: Timestamp,
) -> Result<Option<Arc<IdentityHeaders>>, Unequipped> {
    if !route.headers.needs_assertion {
        return Ok(None);
    }
    let identity = sign(flow, route, who.principal.as_deref(), now).map_err(|_| Unequipped::Unsigned)?;
    let tokens = &*flow.conn.worker.shared.tokens;
    match upstream_identity::missing(route, tokens, &identity) {
        Some(missing) => Err(Unequipped::Missing(missing)),
        None => Ok(Some(identity)),
    }
}

/// The identity headers of `route` for this request.
pub(crate) fn sign(
    flow: &Flow,
    route: &Arc<Route>,
    principal: Option<&Principal>,
    now: Timestamp,
) -> Result<Arc<IdentityHeaders>, Refused> {
    let facts = AssertionRoute {
        route_id: &route.settings.id,
        hostname: flow.request.host(),
        issuer_format_uri: route.issuer_is_uri(),
        claim_headers: &route.headers.claim_headers,
        groups_filter: &route.settings.groups_filter,
    };
    flow.conn
        .worker
        .shared
        .signer
        .assertion(principal, &facts, now)
        .map_err(|error| {
            tracing::error!(%error, "cannot sign the assertion of a request");
            Refused::Unjudged
        })
}

/// What is decided, and what goes with a request that may pass. Both are known when it is written down.
type Weighed = (Decision, Result<Option<Arc<IdentityHeaders>>, Unequipped>);

/// Errors when the judgement cannot be acted on.
fn decide(flow: &Flow, route: &Arc<Route>, who: &Who, now: Timestamp) -> Result<Weighed, Refused> {
    let headers = Headers(&flow.parts.headers);
    let lookup = lookup(flow, now);
    let input = input(flow, route, &headers, who, &lookup);
    let mut decision = check(&route.settings.policy, &input);
    if lookup.is_doubtful(who.principal.as_deref()) {
        tracing::error!(
            request_id = flow.request.request_id,
            "records that the policy asks for were left out for want of room: the request is refused"
        );
        undecided(
            flow,
            route,
            now,
            "records that the policy asks for were left out for want of room",
        );
        return Err(Refused::Unjudged);
    }
    let equipped = match decision.outcome {
        Outcome::Allow => equip(flow, route, who, now),
        _ => Ok(None),
    };
    if let Err(unequipped) = &equipped {
        let (outcome, why) = unequipped.outcome();
        decision.outcome = outcome;
        decision.failure = Some(why.into());
    }
    log(flow, route, who, &input, &decision);
    Ok((decision, equipped))
}

/// Whether somebody who is in the middle of a request might begin it now under `route`. The headers are those it was
/// judged by first; where they were not kept, because the policy did not look at them then, rules about them do not
/// hold.
pub(crate) fn again(
    (request, headers, principal, certificate): (
        &CanonicalRequest,
        &http::HeaderMap,
        Option<&Principal>,
        ClientCertificate<'_>,
    ),
    route: &Route,
    lookup: &Lookup<'_>,
) -> bool {
    let headers = Headers(headers);
    let input = input_of(request, &headers, principal, certificate, lookup);
    check(&route.settings.policy, &input).outcome == Outcome::Allow && !lookup.is_doubtful(principal)
}

/// Evaluates again, for people.
fn tell(flow: &Flow, route: &Route, who: &Who, now: Timestamp) -> Told {
    let headers = Headers(&flow.parts.headers);
    let lookup = lookup(flow, now);
    let input = input(flow, route, &headers, who, &lookup);
    let denial = route.settings.policy.denial(&input);
    let parts = route.settings.told_policies.iter().flat_map(|parts| parts.iter());
    Told {
        rule: (denial.rule, denial.criteria),
        said: parts.map(|part| part.said(&input)).collect(),
    }
}

fn input<'a>(
    flow: &'a Flow,
    route: &Route,
    headers: &'a Headers<'a>,
    who: &'a Who,
    lookup: &'a Lookup<'a>,
) -> Input<'a> {
    let client = flow.conn.client.as_deref();
    let certificate = client_certificate(&flow.snapshot, client, route, lookup.now());
    input_of(
        &flow.request,
        headers,
        who.principal.as_deref(),
        certificate,
        lookup,
    )
}

/// The records as they are at `now`.
fn lookup(flow: &Flow, now: Timestamp) -> Lookup<'_> {
    let records = flow.conn.worker.shared.sessions.records();
    Lookup::new(records, flow.snapshot.geoip.as_ref(), now)
}

fn input_of<'a>(
    request: &'a CanonicalRequest,
    headers: &'a Headers<'a>,
    principal: Option<&'a Principal>,
    client_certificate: ClientCertificate<'a>,
    lookup: &'a Lookup<'a>,
) -> Input<'a> {
    let input = Input::new(
        principal.map(|principal| &principal.subject),
        HttpInput {
            method: request.method.as_str(),
            path: &request.decoded_path,
            raw_path: &request.path,
            query: request.query.as_deref().unwrap_or(""),
            host: request.authority.as_str(),
            headers,
            client_ip: Some(request.client_ip),
            client_certificate,
        },
        lookup.now(),
    );
    Input {
        scheme: request.scheme.as_str(),
        records: lookup,
        ..input
    }
}

/// One line in the authorize log, one record in the audit stream.
fn log(flow: &Flow, route: &Route, who: &Who, input: &Input<'_>, decision: &Decision) {
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
fn undecided(flow: &Flow, route: &Route, now: Timestamp, problem: &str) {
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
