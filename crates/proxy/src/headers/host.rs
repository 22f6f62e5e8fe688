//! The Host header of the upstream request (spec proxy.md 4.5).

use http::{HeaderMap, HeaderName, HeaderValue};
use pomerium_config::settings::{HostRewrite, RouteSettings};
use pomerium_web::canonical::CanonicalRequest;
use regex::Regex;

use super::substitution::translate;
use crate::snapshot::BuildError;

/// How the Host header of a route's requests is made.
#[derive(Debug)]
pub(crate) enum HostRewriter {
    /// The authority of the destination.
    Upstream,
    Preserve,
    Literal(HeaderValue),
    Header(HeaderName),
    PathRegex(Regex, String),
}

impl HostRewriter {
    pub(crate) fn build(route: &RouteSettings) -> Result<Self, BuildError> {
        Ok(match &route.host_rewrite {
            HostRewrite::Upstream => Self::Upstream,
            HostRewrite::Preserve => Self::Preserve,
            HostRewrite::Literal(host) => {
                Self::Literal(HeaderValue::from_str(host).map_err(|_| BuildError::Host {
                    route: route.from.to_string(),
                    host: host.clone(),
                })?)
            }
            HostRewrite::Header(name) => Self::Header(name.clone()),
            HostRewrite::PathRegex {
                pattern,
                substitution,
            } => Self::PathRegex(BuildError::regex(&route.from, pattern)?, translate(substitution)),
        })
    }

    /// The Host value, unless the destination decides. What is no valid authority leaves the host as it
    /// came.
    pub(crate) fn value(&self, request: &CanonicalRequest, headers: &HeaderMap) -> Option<HeaderValue> {
        let original = || HeaderValue::from_str(request.authority.as_str()).ok();
        match self {
            Self::Upstream => None,
            Self::Preserve => original(),
            Self::Literal(host) => Some(host.clone()),
            Self::Header(name) => {
                let given = headers.get(name).filter(|value| is_authority(value.as_bytes()));
                given.cloned().or_else(original)
            }
            Self::PathRegex(pattern, with) => {
                let made = pattern.replace_all(&request.path, with);
                let valid = is_authority(made.as_bytes())
                    .then(|| HeaderValue::from_str(&made).ok())
                    .flatten();
                valid.or_else(original)
            }
        }
    }

    /// Whether the upstream is told the original host in `x-forwarded-host`.
    pub(crate) fn hides_original(&self) -> bool {
        !matches!(self, Self::Preserve)
    }
}

/// A request may choose the host here, so it must be one, and nothing else.
fn is_authority(value: &[u8]) -> bool {
    pomerium_web::canonical::Authority::parse(value).is_ok()
}
