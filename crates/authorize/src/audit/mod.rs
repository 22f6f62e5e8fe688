//! The audit stream: its records, written ([`decision`], [`impersonation()`], [`Mark`]), read back ([`read`]) and judged again
//! ([`replay`]). The form is described in `docs/audit.md` and `docs/audit.schema.json`; a change of it that readers
//! notice needs a new [`VERSION`].
//!
//! Records never hold a token, a cookie, a query or any header but the two of a CORS preflight. Where records go, and
//! what happens when they cannot, is the business of whoever runs the stream.

mod facts;
mod impersonation;
mod json;
mod mark;
mod needs;
pub mod read;
pub mod replay;
mod seen;
mod write;

#[cfg(test)]
mod tests;

pub use impersonation::{Impersonation, Operator, SessionOf, impersonation};
pub use mark::{Gap, Mark, stamped};
pub use write::{Undecided, decision, undecided};

/// Version of the form of the records.
pub const VERSION: u32 = 1;
