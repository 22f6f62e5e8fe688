//! What a syncer — whoever follows the databroker — tells of itself, for numbers about it (spec databroker.md 5.3).

use std::time::Duration;

use super::Versions;

/// What a syncer is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    /// It has ended, or not begun.
    Inactive,
    /// It follows the changes.
    Active,
    /// It is on its way there: it reads everything, or tries to reach the databroker.
    Pending,
}

/// What a syncer asks the databroker for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncCall {
    /// The changes from some place on.
    Sync,
    /// Everything there is.
    SyncLatest,
}

/// Learns how a syncer is doing. It is told beside the records and must not hold them up.
pub trait SyncObserver: Send + Sync + 'static {
    /// The syncer is at something else.
    fn state(&self, state: SyncState);

    /// Everything up to here has been taken over.
    fn reached(&self, at: Versions);

    /// The databroker is asked.
    fn asked(&self, call: SyncCall);

    /// There was no answer, or it broke off. That of [`SyncCall::Sync`] has no other end.
    fn failed(&self, call: SyncCall);

    /// What had gone was left out after everything was read; how long that took.
    fn cleared(&self, took: Duration);

    /// Records were taken over; how long that took.
    fn updated(&self, took: Duration);
}

/// Nobody wants to know.
impl SyncObserver for () {
    fn state(&self, _: SyncState) {}
    fn reached(&self, _: Versions) {}
    fn asked(&self, _: SyncCall) {}
    fn failed(&self, _: SyncCall) {}
    fn cleared(&self, _: Duration) {}
    fn updated(&self, _: Duration) {}
}
