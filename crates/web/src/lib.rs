//! What a browser touches: the canonical request, cookies, session handle, pages and error pages.
//!
//! Start with [`canonical`] for what comes in and [`error_reply`] for what goes out when the answer is no.
//! No routing, no policy, no records, no clock of its own: times and random values come in as arguments.

pub mod body;
pub mod canonical;
pub mod cookies;
pub mod csrf;
pub mod error_reply;
pub mod handle;
pub mod hygiene;
pub mod negotiate;
pub mod pages;
pub mod problem;
pub mod rate;
pub mod return_url;

pub use body::{Body, BoxError, Response};
