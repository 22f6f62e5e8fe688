//! Why a databroker call fails.

/// Why a databroker call failed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No live record with that type and id.
    #[error("record not found")]
    NotFound,
    /// The database was replaced or cleared, or the position asked for is no longer in the change log:
    /// the client must start over with [`super::Databroker::sync_latest`].
    #[error("the change log no longer holds that position; sync from the latest records again")]
    Resync,
    /// The request makes no sense, with what is wrong about it.
    #[error("invalid databroker request: {0}")]
    Invalid(String),
    /// The request is well formed, but this databroker cannot do it.
    #[error("not supported by this databroker: {0}")]
    Unsupported(String),
    /// The caller is not let in: it lacks the shared secret, or its clock is off.
    #[error("the databroker refuses this client: {0}")]
    Refused(String),
    /// What is stored is not what was written, or sealed with a key that is not known: another try does not help.
    #[error("the databroker cannot read what it keeps: {0}")]
    Damaged(String),
    /// The store cannot be reached or failed; worth another try.
    #[error("databroker unavailable: {0}")]
    Unavailable(String),
}
