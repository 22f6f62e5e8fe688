//! Path rewriting (spec proxy.md 4.6): textual, on the canonical path; the query is never touched.

use std::borrow::Cow;

use pomerium_config::settings::{Action, PathMatch, PathRewrite, RouteSettings, UpstreamScheme};
use pomerium_web::canonical::path;
use regex::Regex;

use super::substitution::translate;
use crate::snapshot::BuildError;

/// How the path of a route's requests changes.
#[derive(Debug)]
pub(crate) enum PathRewriter {
    None,
    /// Replaces the matched prefix, or the whole path when the matcher is no prefix.
    Prefix(Box<Prefix>),
    /// Replaces every match.
    Regex(Box<(Regex, String)>),
}

/// See [`PathRewriter::Prefix`].
#[derive(Debug)]
pub(crate) struct Prefix {
    matched: Option<Box<str>>,
    with: Box<str>,
}

impl PathRewriter {
    pub(crate) fn build(route: &RouteSettings) -> Result<Self, BuildError> {
        let matched_prefix = matched_prefix(&route.path);
        if let Action::Redirect(redirect) = &route.action {
            return Ok(redirect
                .prefix_rewrite
                .as_deref()
                .map_or(Self::None, |with| Self::prefix(matched_prefix, with)));
        }
        match route.path_rewrite.as_deref() {
            Some(PathRewrite::Prefix(with)) => Ok(Self::prefix(matched_prefix, with)),
            Some(PathRewrite::Regex {
                pattern,
                substitution,
            }) => {
                let pattern = BuildError::regex(&route.from, pattern)?;
                Ok(Self::Regex(Box::new((pattern, translate(substitution)))))
            }
            None => Ok(match base_path(route) {
                Some(base) => Self::prefix(matched_prefix, base),
                None => Self::None,
            }),
        }
    }

    fn prefix(matched: Option<&str>, with: &str) -> Self {
        Self::Prefix(Box::new(Prefix {
            matched: matched.map(Box::from),
            with: with.into(),
        }))
    }

    /// Whether what it puts in climbs already: whoever wrote that meant it.
    pub(crate) fn climbs(&self) -> bool {
        match self {
            Self::None => false,
            Self::Prefix(prefix) => path::climbs(&prefix.with),
            Self::Regex(rewrite) => path::climbs(&rewrite.1),
        }
    }

    /// The path that goes upstream.
    pub(crate) fn apply<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match self {
            Self::None => Cow::Borrowed(path),
            Self::Prefix(prefix) => match &prefix.matched {
                None => Cow::Owned(prefix.with.to_string()),
                Some(matched) => {
                    let rest = path.strip_prefix(&**matched).unwrap_or(path);
                    Cow::Owned(format!("{}{rest}", prefix.with))
                }
            },
            Self::Regex(rewrite) => {
                let (pattern, with) = &**rewrite;
                pattern.replace_all(path, with)
            }
        }
    }
}

/// What a prefix rewrite replaces; nothing for path and regex matchers, where it replaces the whole path.
fn matched_prefix(path: &PathMatch) -> Option<&str> {
    match path {
        PathMatch::Any => Some("/"),
        PathMatch::Prefix(prefix) => Some(prefix),
        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
    }
}

/// The path of the first destination, when it has one: it works as a prefix rewrite.
fn base_path(route: &RouteSettings) -> Option<&str> {
    let Action::Forward(destinations) = &route.action else {
        return None;
    };
    let first = destinations.first()?;
    let socket = matches!(first.scheme, UpstreamScheme::Unix | UpstreamScheme::HttpsUnix);
    (!socket && !first.path.is_empty()).then_some(&*first.path)
}
