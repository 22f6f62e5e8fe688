//! Whoever learns how the identity provider takes what it is asked.

use crate::IdentityError;

/// What the provider was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// New tokens for a session.
    Session,
    /// Who its user is.
    User,
}

/// Learns how the provider takes what it is asked. It is told in the middle of a refresh, and must not hold it up.
pub trait RefreshObserver: Send + Sync + 'static {
    /// The provider has answered.
    fn succeeded(&self, matter: Matter);

    /// The provider has not, or not as it should.
    fn failed(&self, matter: Matter, error: &IdentityError);
}

/// Nobody wants to know.
impl RefreshObserver for () {
    fn succeeded(&self, _: Matter) {}
    fn failed(&self, _: Matter, _: &IdentityError) {}
}
