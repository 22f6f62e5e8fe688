//! The session handle: a small token signed with the shared key that names a record
//! (spec authentication.md 7).

use pomerium_api::databroker::Versions;
use serde::Deserialize;

/// The claims that matter here. Audience, issuer and times are not looked at: when a session ends is said
/// by its record.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Handle {
    /// Record id.
    pub(crate) jti: String,
    /// Identity provider the session belongs to; empty for service accounts.
    pub(crate) idp_id: String,
    databroker_server_version: u64,
    databroker_record_version: u64,
}

impl Handle {
    /// Reads a token. None when it is not signed with `key` or names no record.
    pub(crate) fn read(key: &[u8; 32], token: &str) -> Option<Self> {
        let handle: Handle = pomerium_crypto::jwt::hs256_verify(key, token).ok()?;
        (!handle.jti.is_empty()).then_some(handle)
    }

    /// How new the record has to be at least.
    pub(crate) fn min(&self) -> Option<Versions> {
        (self.databroker_server_version != 0).then_some(Versions {
            server_version: self.databroker_server_version,
            latest_record_version: self.databroker_record_version,
        })
    }

    /// Whether a session of this handle counts on a route that signs in with `idp_id`.
    pub(crate) fn fits(&self, idp_id: Option<&str>) -> bool {
        self.idp_id.is_empty() || idp_id == Some(self.idp_id.as_str())
    }
}
