//! Identity headers: the signed assertion and the claim headers (spec policy.md 11).
//!
//! An assertion is signed once for everything it depends on and used for at most a minute; `cache` holds
//! the key with all of those inputs, `token` the claims, `inbound` the check of assertions that come in.

mod act_as;
mod cache;
mod inbound;
mod token;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use pomerium_crypto::jwt::{JwtError, SigningKey};

pub use self::act_as::ActAs;
use self::cache::Signed;
use self::inbound::Inbound;
use crate::principal::{GroupsFilter, Principal};

/// `X-Pomerium-Jwt-Assertion`
pub const ASSERTION: HeaderName = HeaderName::from_static("x-pomerium-jwt-assertion");
/// `X-Pomerium-Jwt-Assertion-For`
pub const ASSERTION_FOR: HeaderName = HeaderName::from_static("x-pomerium-jwt-assertion-for");

/// `jwt_claims_headers`: header and claim. Shared, so that comparing settings is comparing pointers.
pub type ClaimHeaders = Arc<[(HeaderName, String)]>;

/// What an assertion depends on besides who it is about.
#[derive(Debug, Clone, Copy)]
pub struct AssertionRoute<'a> {
    /// Route id.
    pub route_id: &'a str,
    /// Host of the request, without port: issuer and audience.
    pub hostname: &'a str,
    /// `jwt_issuer_format: uri`
    pub issuer_format_uri: bool,
    /// `jwt_claims_headers` of the route.
    pub claim_headers: &'a ClaimHeaders,
    /// `jwt_groups_filter` of the route and of all.
    pub groups_filter: &'a GroupsFilter,
}

/// The headers that tell an upstream who somebody is.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityHeaders {
    /// The signed assertion.
    pub assertion: HeaderValue,
    /// One header for each of the route's claim headers; empty when the claim is missing, so that what a
    /// client sent under that name is overwritten.
    pub claims: Vec<(HeaderName, HeaderValue)>,
    /// For upstreams that act as the person.
    pub act_as: ActAs,
}

impl IdentityHeaders {
    /// The assertion as text, for header templates.
    pub fn assertion_str(&self) -> &str {
        self.assertion.to_str().unwrap_or_default()
    }
}

/// Signs assertions. A new signing key means a new signer, and with it an empty cache.
pub struct AssertionSigner {
    key: Arc<SigningKey>,
    signed: Signed,
    inbound: Inbound,
}

impl AssertionSigner {
    /// A signer.
    pub fn new(key: Arc<SigningKey>) -> Self {
        Self {
            key,
            signed: Signed::new(),
            inbound: Inbound::new(),
        }
    }

    /// The key.
    pub fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    /// The identity headers of a request; nobody gets an assertion with empty identity fields.
    ///
    /// Errors when the cryptographic library fails; the request must not go on without its assertion.
    pub fn assertion(
        &self,
        principal: Option<&Principal>,
        route: &AssertionRoute<'_>,
        now: Timestamp,
    ) -> Result<Arc<IdentityHeaders>, JwtError> {
        self.signed.get_or_sign(principal, route, now, || {
            token::headers(&self.key, principal, route, now)
        })
    }

    /// The value of `X-Pomerium-Jwt-Assertion-For`: who a calling service acts for. Read before the
    /// identity headers of the request are removed: its `…-For`, else its own assertion, and only when that
    /// is a single one, signed by us, not expired, and meant for one of our hosts.
    pub fn assertion_for(
        &self,
        headers: &http::HeaderMap,
        is_ours: &dyn Fn(&str) -> bool,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let name = if headers.contains_key(ASSERTION_FOR) {
            ASSERTION_FOR
        } else {
            ASSERTION
        };
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        self.inbound
            .accepts(&self.key, value.to_str().ok()?, is_ours, now)
            .then(|| value.clone())
    }
}

impl std::fmt::Debug for AssertionSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssertionSigner")
            .field("kid", &self.key.kid())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
