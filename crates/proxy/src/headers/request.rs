//! The headers of the upstream request (spec proxy.md 4.8, policy.md 11.4, 12, 13).
//!
//! The canonical request has already removed what a client may not send. Here: our credentials go,
//! identity comes, then what the route sets and removes. Nothing that is set here can be removed by a
//! header of the client.

use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use pomerium_authorize::template::Context;
use pomerium_authorize::{IdentityHeaders, Principal};
use pomerium_policy::ClientCertificate;
use pomerium_web::canonical::{self, CanonicalRequest, JWT_ASSERTION, JWT_ASSERTION_FOR, Underscores};
use pomerium_web::hygiene;

use super::upstream_identity::{self, Missing};
use crate::route::Route;
use crate::shared::Shared;
use crate::snapshot::Snapshot;

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// What the headers are made from.
pub(crate) struct Sources<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) route: &'a Route,
    pub(crate) request: &'a CanonicalRequest,
    pub(crate) principal: Option<&'a Principal>,
    pub(crate) identity: Option<&'a IdentityHeaders>,
    pub(crate) certificate: ClientCertificate<'a>,
    pub(crate) now: Timestamp,
}

/// Makes the client's headers into the upstream's; all but `Host`, path and upgrade.
///
/// Errors when the upstream must be told who we are or for whom we act, and that is not known.
pub(crate) fn prepare(parts: &mut Parts, from: &Sources<'_>) -> Result<(), Missing> {
    let carried = from
        .route
        .settings
        .pass_identity_headers
        .then(|| {
            let is_ours = |host: &str| from.snapshot.table.knows_name(host);
            from.shared
                .signer
                .assertion_for(&parts.headers, &is_ours, from.now)
        })
        .flatten();
    let templates = render_templates(parts, from);
    match from.route.settings.leads_to_sign_in {
        true => hygiene::strip_assertions(&mut parts.headers),
        false => hygiene::strip_credentials(&mut parts.headers, &from.snapshot.own_cookies),
    }
    upstream_identity::strip(&mut parts.headers, from.route);
    // The library answers 100-continue when the body is first asked for, which is when the upstream is
    // there to take it.
    parts.headers.remove(EXPECT);
    if from.route.settings.pass_identity_headers
        && let Some(identity) = from.identity
    {
        parts.headers.insert(JWT_ASSERTION, identity.assertion.clone());
        for (name, value) in &identity.claims {
            parts.headers.insert(name.clone(), value.clone());
        }
        if let Some(carried) = carried {
            parts.headers.insert(JWT_ASSERTION_FOR, carried);
        }
    }
    remove_twins(&mut parts.headers, from);
    for (name, value) in templates {
        parts.headers.insert(name, value);
    }
    if from.route.headers.forwarded_host && from.route.headers.host.hides_original() {
        canonical::append_forwarded_host(&mut parts.headers, from.request.authority.as_str());
    }
    for name in &from.route.settings.remove_request_headers {
        parts.headers.remove(name);
    }
    upstream_identity::set(
        &mut parts.headers,
        from.route,
        &*from.shared.tokens,
        from.identity,
    )
}

/// Removes what the client sent under a name that many servers take for one that the route sets or removes: `x_user` for
/// `x-user`. Names with an underscore come this far only where the configuration lets them.
fn remove_twins(headers: &mut HeaderMap, from: &Sources<'_>) {
    if from.snapshot.rules.underscores != Underscores::Allow {
        return;
    }
    let set = from.route.headers.templates.iter().map(|(name, _)| name);
    let ruled: Vec<&HeaderName> = set.chain(&from.route.settings.remove_request_headers).collect();
    let is_twin = |name: &HeaderName| {
        ruled
            .iter()
            .any(|other| *other != name && read_alike(name, other))
    };
    let twins: Vec<HeaderName> = headers.keys().filter(|name| is_twin(name)).cloned().collect();
    for twin in twins {
        headers.remove(twin);
    }
}

/// Whether two names are one to a server that makes no difference between `_` and `-`.
fn read_alike(one: &HeaderName, other: &HeaderName) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let (one, other) = (one.as_str(), other.as_str());
    let same = |(a, b): (u8, u8)| dashed(a) == dashed(b);
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(same)
}

/// Rendered before headers are removed: a template may quote any that the client sent, but for credentials of ours. A
/// value that cannot stand in a header becomes empty.
fn render_templates(parts: &Parts, from: &Sources<'_>) -> Vec<(HeaderName, HeaderValue)> {
    if from.route.headers.templates.is_empty() {
        return Vec::new();
    }
    // Most templates are plain texts, which quote nothing.
    let templates = &from.route.headers.templates;
    let quoted = templates
        .iter()
        .any(|(_, template)| template.constant().is_none());
    let quoted = quoted.then(|| {
        let mut headers = parts.headers.clone();
        hygiene::strip_credentials(&mut headers, &from.snapshot.own_cookies);
        headers
    });
    let nothing = HeaderMap::new();
    let context = Context {
        session: from
            .principal
            .and_then(|principal| principal.session.as_deref())
            .map(|entry| &entry.session),
        assertion: from.identity.map_or("", IdentityHeaders::assertion_str),
        headers: quoted.as_ref().unwrap_or(&nothing),
        certificate: from.certificate,
    };
    let render = |(name, template): &(HeaderName, pomerium_authorize::template::Template)| {
        let value = match template.constant() {
            Some(constant) => HeaderValue::from_str(constant),
            None => HeaderValue::from_bytes(template.render(&context).as_bytes()),
        };
        (
            name.clone(),
            value.unwrap_or_else(|_| HeaderValue::from_static("")),
        )
    };
    templates.iter().map(render).collect()
}

/// Rewrites the path. The path as it was judged goes along in `x-envoy-original-path`.
///
/// Errors when the result is no path: the route's rewriting makes something that cannot be sent.
pub(crate) fn rewrite_path(parts: &mut Parts, route: &Route, request: &CanonicalRequest) -> Result<(), ()> {
    let path = route.path.apply(&request.path);
    if path == request.path.as_str() {
        return Ok(());
    }
    let begins_to_climb = || canonical::path::climbs(&path) && !route.path.climbs();
    if !path.starts_with('/') || begins_to_climb() {
        return Err(());
    }
    let target = match &request.query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    parts.uri = target.parse().map_err(|_| ())?;
    if let Ok(original) = HeaderValue::from_str(&request.path_and_query()) {
        parts.headers.insert(ORIGINAL_PATH, original);
    }
    Ok(())
}
