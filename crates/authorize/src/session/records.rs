//! The record lookups a principal is built from.

use std::sync::Arc;

use pomerium_api::synced::{ServiceAccountEntry, SessionEntry, SyncedRecords, UserEntry};

/// Looks up records by id, without I/O.
pub trait Records: Send + Sync {
    /// A session.
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>>;
    /// A user.
    fn user(&self, id: &str) -> Option<Arc<UserEntry>>;
    /// A service account.
    fn service_account(&self, id: &str) -> Option<Arc<ServiceAccountEntry>>;
}

impl Records for SyncedRecords {
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>> {
        SyncedRecords::session(self, id)
    }

    fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        SyncedRecords::user(self, id)
    }

    fn service_account(&self, id: &str) -> Option<Arc<ServiceAccountEntry>> {
        SyncedRecords::service_account(self, id)
    }
}
