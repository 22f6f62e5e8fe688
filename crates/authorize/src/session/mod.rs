//! From the token of a session handle to a [`Principal`]: locally in the common case, with one question to
//! the databroker when the session has not arrived here yet (spec policy.md 6.4, authentication.md 7 and 9).

mod handle;
mod records;
mod resolver;
pub(crate) mod validity;

#[cfg(test)]
mod tests;

pub use records::Records;
pub use resolver::{Pending, Resolved, SessionResolver};

/// Why a token makes nobody of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Not a handle signed by us.
    Malformed,
    /// A handle for another identity provider than the one of the route.
    OtherProvider,
    /// The session or service account is gone: signed out, revoked, or never there.
    NoRecord,
    /// The session has ended.
    Expired,
    /// The impersonated session is gone.
    ImpersonationGone,
}

impl Anonymous {
    /// For logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Anonymous::Malformed => "session-token-malformed",
            Anonymous::OtherProvider => "session-of-other-identity-provider",
            Anonymous::NoRecord => "session-not-found",
            Anonymous::Expired => "session-expired",
            Anonymous::ImpersonationGone => "impersonated-session-not-found",
        }
    }
}
