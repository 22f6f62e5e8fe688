//! Who asks. No I/O, except one question to the databroker for a session that this process has not seen yet, or not
//! with all that the route reads of it; without an answer the request is refused.

use std::sync::Arc;

use jiff::Timestamp;
use pomerium_api::databroker::Error;
use pomerium_authorize::{Anonymous, Principal, Resolved};
use pomerium_config::settings::RouteOptions;
use pomerium_web::handle::find_token;

use super::Flow;
use super::judged::Refused;
use crate::route::Route;

/// Who asks.
#[derive(Default)]
pub(crate) struct Who {
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) anonymous: Option<Anonymous>,
}

/// Finds out who asks `route`, with what it reads of their session. Where nothing depends on that, somebody who cannot be
/// looked up now is nobody.
pub(super) async fn identify_for(flow: &Flow, route: &Route, now: Timestamp) -> Result<Who, Refused> {
    // Another process knows whom its cookies stand for.
    if route.settings.leads_to_sign_in {
        return Ok(Who::default());
    }
    match look_up(flow, route, now).await {
        Err(Refused::Unjudged) if asks_nobody(route) => Ok(Who::default()),
        known => known,
    }
}

/// Neither the policy of the route nor its upstream is told who asks.
fn asks_nobody(route: &Route) -> bool {
    let RouteOptions {
        pass_identity_headers,
        kubernetes_token,
        ..
    } = &*route.settings.options;
    let told = *pass_identity_headers || kubernetes_token.is_some() || !route.headers.templates.is_empty();
    !told && !route.settings.policy.needs_identity()
}

async fn look_up(flow: &Flow, route: &Route, now: Timestamp) -> Result<Who, Refused> {
    let who = identify(flow, route.idp_id(), now).await?;
    match who.principal {
        Some(principal) if principal.lacks(route.session_parts) => {
            let sessions = &flow.conn.worker.shared.sessions;
            let completed = sessions.complete(principal, route.session_parts, now);
            Box::pin(completed)
                .await
                .map_err(|error| not_looked_up(&error))
                .and_then(known)
        }
        _ => Ok(who),
    }
}

/// Finds out who asks on a host whose people sign in with `idp_id`.
pub(crate) async fn identify(flow: &Flow, idp_id: Option<&str>, now: Timestamp) -> Result<Who, Refused> {
    let sessions = &flow.conn.worker.shared.sessions;
    let query = flow.request.query.as_deref();
    let Some((_source, token)) = find_token(&flow.parts.headers, query, &flow.snapshot.cookie_name) else {
        return Ok(Who::default());
    };
    let resolved = match sessions.resolve(token, idp_id, now) {
        Resolved::NeedsFetch(pending) => Box::pin(sessions.resolve_slow(pending, now))
            .await
            .map_err(|error| not_looked_up(&error))?,
        known => known,
    };
    let who = known(resolved)?;
    if let Some(principal) = &who.principal {
        flow.conn.worker.shared.access.seen(principal, now);
    }
    Ok(who)
}

fn not_looked_up(error: &Error) -> Refused {
    tracing::warn!(%error, "a session could not be looked up: the request is refused");
    Refused::Unjudged
}

fn known(resolved: Resolved) -> Result<Who, Refused> {
    match resolved {
        Resolved::Principal(principal) => Ok(Who {
            principal: Some(principal),
            anonymous: None,
        }),
        Resolved::Anonymous(why) => Ok(Who {
            principal: None,
            anonymous: Some(why),
        }),
        Resolved::OutOfTouch | Resolved::NeedsFetch(_) => Err(Refused::Unjudged),
    }
}
