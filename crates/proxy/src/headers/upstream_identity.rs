//! Who we are to an upstream that wants to know, and for whom we act (spec policy.md 11.4, 11.5, 13).
//!
//! A Kubernetes API server is shown a token of its own and told whom to act as; a service at Google is shown an
//! identity token. Both are set last, after everything the route sets and removes: without the headers that name
//! the person, the API server would act with all rights of the token.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, HeaderMap};
use http::{HeaderName, HeaderValue};
use pomerium_authorize::{ActAs, IdentityHeaders};
use pomerium_config::settings::KubernetesToken;

use crate::route::Route;
use crate::shared::UpstreamTokens;

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// `impersonate-user`, `-group`, `-uid`, `-extra-…`, and what may come.
const IMPERSONATE: &str = "impersonate-";
const SERVERLESS: &str = "x-serverless-authorization";
const SERVERLESS_AUTHORIZATION: HeaderName = HeaderName::from_static(SERVERLESS);

/// What keeps a request from being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The token for the upstream.
    Token,
    /// A person to act as.
    Person,
}

/// Removes what a client says in our place, in whatever spelling. Before anything of the route is set.
pub(crate) fn strip(headers: &mut HeaderMap, route: &Route) {
    let (kubernetes, google) = (
        route.settings.kubernetes_token.is_some(),
        route.settings.google_audience.is_some(),
    );
    if !kubernetes && !google {
        return;
    }
    let ours = |name: &HeaderName| {
        let name = folded(name.as_str());
        kubernetes && name.starts_with(IMPERSONATE) || google && name == SERVERLESS
    };
    let names: Vec<HeaderName> = headers.keys().filter(|name| ours(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// `_` reads as `-` behind CGI and its kin.
fn folded(name: &str) -> Cow<'_, str> {
    match name.contains('_') {
        true => Cow::Owned(name.replace('_', "-")),
        false => Cow::Borrowed(name),
    }
}

/// What keeps a request with this identity from being sent, as [`set`] would find.
pub(crate) fn missing(
    route: &Route,
    tokens: &dyn UpstreamTokens,
    identity: &IdentityHeaders,
) -> Option<Missing> {
    let token = match route.settings.kubernetes_token.as_ref()? {
        KubernetesToken::Inline(token) => bearer(token.expose()),
        KubernetesToken::File(path) => tokens.of_file(path),
    };
    if token.is_none() {
        return Some(Missing::Token);
    }
    identity.act_as.user.is_none().then_some(Missing::Person)
}

/// Sets what the route's upstream wants to know.
pub(crate) fn set(
    headers: &mut HeaderMap,
    route: &Route,
    tokens: &dyn UpstreamTokens,
    identity: Option<&IdentityHeaders>,
) -> Result<(), Missing> {
    if let Some(token) = &route.settings.kubernetes_token {
        let bearer = match token {
            KubernetesToken::Inline(token) => bearer(token.expose()),
            KubernetesToken::File(path) => tokens.of_file(path),
        };
        act_as(
            headers,
            identity.map(|identity| &identity.act_as),
            bearer.ok_or(Missing::Token)?,
        )?;
    }
    if let Some(audience) = &route.settings.google_audience {
        // Without one the service refuses: it is not ours to refuse in its place.
        match tokens.google(audience) {
            Some(token) => headers.insert(SERVERLESS_AUTHORIZATION, token),
            None => headers.remove(SERVERLESS_AUTHORIZATION),
        };
    }
    Ok(())
}

fn act_as(headers: &mut HeaderMap, whom: Option<&ActAs>, bearer: HeaderValue) -> Result<(), Missing> {
    let whom = whom.ok_or(Missing::Person)?;
    let user = whom.user.clone().ok_or(Missing::Person)?;
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(IMPERSONATE_USER, user);
    headers.remove(IMPERSONATE_GROUP);
    for group in &whom.groups {
        headers.append(IMPERSONATE_GROUP, group.clone());
    }
    Ok(())
}

fn bearer(token: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
