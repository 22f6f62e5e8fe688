//! Hosts with `*`: they live in the catch-all only and are tried in list order (spec proxy.md 4.2).
//!
//! All patterns of a chunk are matched in one pass over the authority, so that the cost grows with the
//! number of chunks, not with the number of wildcard routes.

use std::collections::HashMap;
use std::sync::Arc;

use pomerium_config::settings::{RouteKind, RouteSettings};
use regex::{RegexSet, RegexSetBuilder};
use smallvec::SmallVec;

use super::{PatternError, wildcard_of};

/// Patterns per set: keeps one automaton small enough to stay lazy-built in its cache.
const CHUNK: usize = 128;
/// Bytes one compiled set may take.
const SET_SIZE: usize = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct CatchAll {
    sets: Vec<RegexSet>,
    /// Routes of each distinct pattern, ascending.
    routes: Vec<Vec<usize>>,
}

impl CatchAll {
    pub(super) fn build(routes: &[Arc<RouteSettings>]) -> Result<Self, PatternError> {
        let mut patterns: Vec<(&str, &RouteSettings)> = Vec::new();
        let mut by_pattern: HashMap<&str, usize> = HashMap::new();
        let mut lists: Vec<Vec<usize>> = Vec::new();
        for (index, route) in routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.kind == RouteKind::Http)
        {
            let Some(pattern) = wildcard_of(&route.hosts) else {
                continue;
            };
            let slot = *by_pattern.entry(pattern).or_insert_with(|| {
                patterns.push((pattern, route));
                lists.push(Vec::new());
                lists.len() - 1
            });
            lists[slot].push(index);
        }
        let sets = patterns.chunks(CHUNK).map(compile).collect::<Result<_, _>>()?;
        Ok(Self { sets, routes: lists })
    }

    /// The first route in list order whose host pattern matches and which `accept` takes.
    pub(super) fn find(&self, authority: &str, accept: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<usize> = None;
        for pattern in self.matching(authority) {
            for &index in &self.routes[pattern] {
                if best.is_some_and(|best| best <= index) {
                    break;
                }
                if accept(index) {
                    best = Some(index);
                    break;
                }
            }
        }
        best
    }

    fn matching(&self, authority: &str) -> SmallVec<[usize; 4]> {
        let mut found = SmallVec::new();
        for (chunk, set) in self.sets.iter().enumerate() {
            if set.is_match(authority) {
                found.extend(set.matches(authority).iter().map(|slot| chunk * CHUNK + slot));
            }
        }
        found
    }
}

fn compile(chunk: &[(&str, &RouteSettings)]) -> Result<RegexSet, PatternError> {
    let patterns = chunk.iter().map(|(pattern, _)| *pattern);
    RegexSetBuilder::new(patterns)
        .size_limit(SET_SIZE)
        .build()
        .map_err(|source| PatternError {
            route: chunk
                .first()
                .map(|(_, route)| route.from.to_string())
                .unwrap_or_default(),
            pattern: chunk
                .iter()
                .map(|(pattern, _)| *pattern)
                .collect::<Vec<_>>()
                .join(" "),
            source: Box::new(source),
        })
}
