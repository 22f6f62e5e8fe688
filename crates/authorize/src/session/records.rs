//! The record lookups a principal is built from.

use std::sync::Arc;

use pomerium_api::synced::{
    CredentialEntry, EnrollmentEntry, ServiceAccountEntry, SessionEntry, StructEntry, SyncedRecords,
    UserEntry,
};

/// Looks up records by id, without I/O.
pub trait Records: Send + Sync {
    /// A session.
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>>;
    /// A user.
    fn user(&self, id: &str) -> Option<Arc<UserEntry>>;
    /// A service account.
    fn service_account(&self, id: &str) -> Option<Arc<ServiceAccountEntry>>;

    /// What the directory says about a user. Without a directory, nothing.
    fn directory_user(&self, _id: &str) -> Option<Arc<StructEntry>> {
        None
    }
    /// What the directory says about a group.
    fn directory_group(&self, _id: &str) -> Option<Arc<StructEntry>> {
        None
    }
    /// A number that grows with each change of a group, after it.
    fn directory_group_changes(&self) -> u64 {
        0
    }
    /// The credential of a device. Where no devices are enrolled, there is none.
    fn device_credential(&self, _id: &str) -> Option<Arc<CredentialEntry>> {
        None
    }
    /// The enrollment of a device.
    fn device_enrollment(&self, _id: &str) -> Option<Arc<EnrollmentEntry>> {
        None
    }
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

    fn directory_user(&self, id: &str) -> Option<Arc<StructEntry>> {
        SyncedRecords::directory_user(self, id)
    }

    fn directory_group(&self, id: &str) -> Option<Arc<StructEntry>> {
        SyncedRecords::directory_group(self, id)
    }

    fn directory_group_changes(&self) -> u64 {
        SyncedRecords::directory_group_changes(self)
    }

    fn device_credential(&self, id: &str) -> Option<Arc<CredentialEntry>> {
        SyncedRecords::device_credential(self, id)
    }

    fn device_enrollment(&self, id: &str) -> Option<Arc<EnrollmentEntry>> {
        SyncedRecords::device_enrollment(self, id)
    }
}
