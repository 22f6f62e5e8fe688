//! Path matchers (spec proxy.md 4.4). They see the canonical path, never the query.

use std::sync::Arc;

use pomerium_config::settings::PathMatch;
use pomerium_config::spec::re2;
use regex::Regex;

#[derive(Debug, Clone)]
pub(super) enum PathMatcher {
    Any,
    Prefix(Arc<str>),
    Exact(Arc<str>),
    Regex(Arc<Regex>),
}

impl PathMatcher {
    pub(super) fn compile(setting: &PathMatch) -> Result<Self, regex::Error> {
        Ok(match setting {
            PathMatch::Any => Self::Any,
            PathMatch::Prefix(prefix) => Self::Prefix(prefix.clone()),
            PathMatch::Exact(path) => Self::Exact(path.clone()),
            PathMatch::Regex(pattern) => Self::Regex(Arc::new(anchored(pattern)?)),
        })
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::Exact(exact) => path == &**exact,
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

/// The pattern must match the whole path. It is compiled alone first, so that an unbalanced one
/// (`a)(b`) cannot become valid, and mean something else, inside the anchors.
fn anchored(pattern: &str) -> Result<Regex, regex::Error> {
    re2::compile(pattern)?;
    re2::compile(&format!(r"\A(?:{pattern})\z"))
}
