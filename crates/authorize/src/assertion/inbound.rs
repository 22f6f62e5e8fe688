//! Assertions that come in: carried on only when they are ours.

use jiff::Timestamp;
use pomerium_crypto::jwt::SigningKey;
use quick_cache::sync::Cache;
use serde::Deserialize;

/// How many verified assertions are remembered. A calling service sends the same one for a minute.
const REMEMBERED: usize = 1024;

/// What is checked on every use; the signature is checked once.
#[derive(Clone, Deserialize)]
struct Facts {
    aud: Box<str>,
    exp: i64,
}

pub(super) struct Inbound {
    verified: Cache<Box<str>, Facts, quick_cache::UnitWeighter, foldhash::fast::RandomState>,
}

impl Inbound {
    pub(super) fn new() -> Self {
        let verified = Cache::with(
            REMEMBERED,
            REMEMBERED as u64,
            quick_cache::UnitWeighter,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        Self { verified }
    }

    pub(super) fn accepts(
        &self,
        key: &SigningKey,
        token: &str,
        is_ours: &dyn Fn(&str) -> bool,
        now: Timestamp,
    ) -> bool {
        self.facts(key, token)
            .is_some_and(|facts| now.as_second() < facts.exp && is_ours(&facts.aud))
    }

    fn facts(&self, key: &SigningKey, token: &str) -> Option<Facts> {
        if let Some(facts) = self.verified.get(token) {
            return Some(facts);
        }
        let facts: Facts = key.verify_own(token).ok()?;
        self.verified.insert(token.into(), facts.clone());
        Some(facts)
    }
}
