//! Many routes on one host: the first in list order without trying each.
//!
//! Exact paths and prefixes are looked up, prefixes once for each length there is; patterns are tried in
//! order, and only those that stand before what the lookups found.

use std::collections::HashMap;
use std::sync::Arc;

use super::path::PathMatcher;

/// With fewer routes trying each is faster.
const MANY: usize = 16;

type ByPath = HashMap<Arc<str>, u32, foldhash::fast::RandomState>;

/// The routes of one host by their paths; of several with the same matcher, the first.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    exact: ByPath,
    prefixes: ByPath,
    /// Lengths of the prefixes, in bytes, ascending.
    lengths: Vec<usize>,
    any: Option<u32>,
    /// Ascending.
    patterns: Vec<u32>,
}

impl PathIndex {
    /// The index of `routes`, when they are many.
    pub(super) fn of(routes: &[u32], matchers: &[PathMatcher]) -> Option<Self> {
        if routes.len() < MANY {
            return None;
        }
        let mut index = Self::default();
        for &route in routes {
            match &matchers[route as usize] {
                PathMatcher::Any => index.any = index.any.or(Some(route)),
                PathMatcher::Exact(path) => {
                    index.exact.entry(path.clone()).or_insert(route);
                }
                PathMatcher::Prefix(prefix) => {
                    index.prefixes.entry(prefix.clone()).or_insert(route);
                }
                PathMatcher::Regex(_) => index.patterns.push(route),
            }
        }
        index.lengths = index.prefixes.keys().map(|prefix| prefix.len()).collect();
        index.lengths.sort_unstable();
        index.lengths.dedup();
        Some(index)
    }

    /// The first route that takes the path.
    pub(super) fn find(&self, path: &str, matchers: &[PathMatcher]) -> Option<usize> {
        let mut best = self.any;
        let mut earlier = |found: Option<&u32>| {
            best = best.into_iter().chain(found.copied()).min();
        };
        earlier(self.exact.get(path));
        for &length in &self.lengths {
            if length > path.len() {
                break;
            }
            // No prefix ends inside a character.
            if let Some(start) = path.get(..length) {
                earlier(self.prefixes.get(start));
            }
        }
        let before = self
            .patterns
            .iter()
            .take_while(|&&route| best.is_none_or(|best| route < best))
            .find(|&&route| matchers[route as usize].matches(path));
        before.copied().or(best).map(|route| route as usize)
    }
}

#[cfg(test)]
mod tests {
    use pomerium_config::settings::PathMatch;

    use super::*;

    /// All short matchers over a small alphabet, in a fixed but shuffled order.
    fn all() -> Vec<PathMatcher> {
        let texts = ["/", "/a", "/ab", "/a/", "/a/b", "/b", "/b/a", "/é", "/éa", ""];
        let mut settings: Vec<PathMatch> = Vec::new();
        for text in texts {
            settings.push(PathMatch::Prefix(text.into()));
            settings.push(PathMatch::Exact(text.into()));
            settings.push(PathMatch::Regex(format!("{text}.b?").into()));
        }
        settings.push(PathMatch::Any);
        let count = settings.len();
        // 7 has no factor in common with the 31 of them.
        (0..count)
            .map(|n| PathMatcher::compile(&settings[n * 7 % count]).unwrap())
            .collect()
    }

    #[test]
    fn it_finds_what_trying_each_in_order_finds() {
        let matchers = all();
        let paths = [
            "/", "/a", "/ab", "/abc", "/a/b", "/a/b/c", "/b", "/ba", "/é", "/éab", "/e", "/\u{e8}",
        ];
        for start in 0..matchers.len() {
            for skip in 0..matchers.len() {
                let routes: Vec<u32> = (0..u32::try_from(matchers.len()).unwrap())
                    .filter(|&n| n as usize >= start.min(10) && n as usize != skip)
                    .collect();
                let index = PathIndex::of(&routes, &matchers).unwrap();
                for path in paths {
                    let tried = routes
                        .iter()
                        .map(|&route| route as usize)
                        .find(|&route| matchers[route].matches(path));
                    assert_eq!(index.find(path, &matchers), tried, "{path} of {routes:?}");
                }
            }
        }
    }

    #[test]
    fn few_routes_have_no_index() {
        assert!(PathIndex::of(&[0, 1], &all()).is_none());
    }
}
