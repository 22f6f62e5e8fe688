//! The decision: request facts, session and policy in; allow, deny or login with reasons out.
//!
//! The way of a request: [`SessionResolver`] turns the token of a session handle into a [`Principal`],
//! [`check`] judges the route's program and says what it means for the client, [`AssertionSigner`] makes
//! the headers that tell the upstream who it is, [`decision_log`] writes the line, [`audit`] the record. All of it works on local
//! copies: only a session that has not arrived here yet costs one question to the databroker.
//!
//! What must not live here: HTTP replies and pages (`pomerium-web`), forwarding, configuration.
//! Start at [`check`].

mod assertion;
pub mod audit;
mod authentication;
mod claims;
pub mod conformance;
mod decision;
pub mod decision_log;
mod geoip;
mod headers;
mod lookup;
mod principal;
mod session;
pub mod template;
pub mod text;

pub use assertion::{ActAs, AssertionRoute, AssertionSigner, ClaimHeaders, IdentityHeaders};
pub use authentication::authentication;
pub use claims::{json_claims, stringify};
pub use decision::{Decision, Outcome, check, check_internal, grounds, needs_login, route_not_found};
pub use geoip::{GeoIp, GeoIpError};
pub use headers::Headers;
pub use lookup::Lookup;
pub use principal::{GroupsFilter, Impersonator, Principal, RecordVersions};
pub use session::{Anonymous, Pending, Records, Resolved, SessionResolver};
