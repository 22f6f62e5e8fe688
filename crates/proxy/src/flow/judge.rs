//! Whether somebody may. No I/O.

use std::sync::Arc;

use jiff::Timestamp;
use pomerium_authorize::{
    AssertionRoute, Decision, Headers, IdentityHeaders, Lookup, Outcome, Principal, check,
};
use pomerium_policy::{ClientCertificate, HttpInput, Input};
use pomerium_web::canonical::CanonicalRequest;

use super::identify::{Who, identify_for};
use super::judged::{Allowed, Denied, DeviceWanted, Judged, Refused, StepUp, Told};
use super::record::{log, undecided};
use super::{Flow, client_certificate};
use crate::headers::upstream_identity::{self, Missing};
use crate::metrics::Decided;
use crate::route::Route;

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
