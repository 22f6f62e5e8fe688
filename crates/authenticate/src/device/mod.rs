//! Devices that prove who they are by a key of their own: WebAuthn, without what browsers and records have to do
//! with it (spec authentication.md 16). The endpoints are in `crate::endpoints::device`.
//!
//! Start at `ceremony` for what is checked, at `challenge` for how an answer is bound to one question, at `store`
//! for the records. A device type is in `kind`; what a person reads when it does not work, in `refusal`.

pub(crate) mod answer;
pub(crate) mod ceremony;
pub(crate) mod challenge;
mod cose;
pub(crate) mod kind;
pub(crate) mod party;
pub(crate) mod refusal;
pub(crate) mod store;

/// Seconds that a person has for a ceremony, from the page to its answer.
pub(crate) const LIFETIME: i64 = 15 * 60;
