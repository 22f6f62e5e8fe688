//! What changes in a message on its way through (spec proxy.md 4.5–4.8).
//!
//! [`request`] for what goes up, [`upstream_identity`] for who we are to it, [`response`] for what comes back,
//! [`host`] and [`path`] for the target.

pub(crate) mod host;
pub(crate) mod path;
pub(crate) mod request;
pub(crate) mod response;
mod substitution;
pub(crate) mod upstream_identity;
