//! Signed assertions, kept for at most a minute under a key that holds every input.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::HeaderName;
use jiff::Timestamp;
use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::{AssertionRoute, ClaimHeaders, IdentityHeaders};
use crate::principal::{GroupsFilter, Principal, RecordVersions};

/// How many assertions are kept.
const KEPT: usize = 4096;
/// How long an assertion is used, seconds; it is valid for longer.
const USED_FOR: i64 = 60;

pub(super) struct Signed {
    cache:
        Cache<Key, (Timestamp, Arc<IdentityHeaders>), quick_cache::UnitWeighter, foldhash::fast::RandomState>,
}

/// Everything an assertion is made of, besides the signing key, which belongs to the signer.
///
/// A record version stands for all the record says. The ids are here as well, because versions of two
/// databases can be equal.
struct Key {
    session_id: Option<Box<str>>,
    user_id: Box<str>,
    versions: RecordVersions,
    route_id: Box<str>,
    hostname: Box<str>,
    issuer_format_uri: bool,
    claim_headers: ClaimHeaders,
    groups_filter: GroupsFilter,
    groups_claim: Box<str>,
}

/// The same, borrowed: looking up does not allocate.
#[derive(PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    session_id: Option<&'a str>,
    user_id: &'a str,
    versions: RecordVersions,
    route_id: &'a str,
    hostname: &'a str,
    issuer_format_uri: bool,
    claim_headers: SameHeaders<'a>,
    groups_filter: SameFilter<'a>,
    groups_claim: &'a str,
}

/// Claim headers are few and mostly the same object.
struct SameHeaders<'a>(&'a ClaimHeaders);

impl PartialEq for SameHeaders<'_> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.0, other.0) || self.0 == other.0
    }
}

impl Eq for SameHeaders<'_> {}

impl Hash for SameHeaders<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Cheap and coarse: which they are is told by equality.
        self.0.len().hash(state);
        self.0
            .first()
            .map(|(name, _): &(HeaderName, String)| name.as_str().len())
            .hash(state);
    }
}

/// The filter of groups, likewise.
struct SameFilter<'a>(&'a GroupsFilter);

impl PartialEq for SameFilter<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.0, other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for SameFilter<'_> {}

impl Hash for SameFilter<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ref().map(|kept| kept.len()).hash(state);
    }
}

impl<'a> KeyRef<'a> {
    fn new(principal: Option<&'a Principal>, route: &AssertionRoute<'a>) -> Self {
        Self {
            session_id: principal.map(|principal| principal.session_id.as_str()),
            user_id: principal.map_or("", |principal| &principal.user_id),
            versions: principal.map(Principal::versions).unwrap_or_default(),
            route_id: route.route_id,
            hostname: route.hostname,
            issuer_format_uri: route.issuer_format_uri,
            claim_headers: SameHeaders(route.claim_headers),
            groups_filter: SameFilter(route.groups_filter),
            groups_claim: principal.map_or("", Principal::groups_claim),
        }
    }

    fn into_owned(self) -> Key {
        Key {
            session_id: self.session_id.map(Box::from),
            user_id: self.user_id.into(),
            versions: self.versions,
            route_id: self.route_id.into(),
            hostname: self.hostname.into(),
            issuer_format_uri: self.issuer_format_uri,
            claim_headers: Arc::clone(self.claim_headers.0),
            groups_filter: self.groups_filter.0.clone(),
            groups_claim: self.groups_claim.into(),
        }
    }
}

impl Key {
    fn borrowed(&self) -> KeyRef<'_> {
        KeyRef {
            session_id: self.session_id.as_deref(),
            user_id: &self.user_id,
            versions: self.versions,
            route_id: &self.route_id,
            hostname: &self.hostname,
            issuer_format_uri: self.issuer_format_uri,
            claim_headers: SameHeaders(&self.claim_headers),
            groups_filter: SameFilter(&self.groups_filter),
            groups_claim: &self.groups_claim,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed() == other.borrowed()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.borrowed()
    }
}

impl Signed {
    pub(super) fn new() -> Self {
        let cache = Cache::with(
            KEPT,
            KEPT as u64,
            quick_cache::UnitWeighter,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        Self { cache }
    }

    /// The kept headers when they are young enough, else fresh ones. Two requests may sign at the same
    /// time; both results are good.
    pub(super) fn get_or_sign<E>(
        &self,
        principal: Option<&Principal>,
        route: &AssertionRoute<'_>,
        now: Timestamp,
        sign: impl FnOnce() -> Result<IdentityHeaders, E>,
    ) -> Result<Arc<IdentityHeaders>, E> {
        let key = KeyRef::new(principal, route);
        if let Some((at, headers)) = self.cache.get(&key)
            && (0..USED_FOR).contains(&(now.as_second() - at.as_second()))
        {
            return Ok(headers);
        }
        let headers = Arc::new(sign()?);
        self.cache.insert(key.into_owned(), (now, Arc::clone(&headers)));
        Ok(headers)
    }
}
