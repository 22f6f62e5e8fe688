//! Tokens that a provider has handed out and the databroker has not taken. A provider that rotates refresh tokens has made
//! the old one worthless by then: whoever forgot the new one would sign the person out.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::Refreshed;

/// Kept in memory until they are written, over changes of the lease by which sessions are refreshed.
#[derive(Default)]
pub struct Unwritten(Mutex<HashMap<String, Owed>>);

struct Owed {
    /// The refresh token they came for.
    instead_of: String,
    refreshed: Refreshed,
}

impl Unwritten {
    /// What is owed to a session that still has this refresh token. Nobody else gets it.
    pub(super) fn take(&self, session_id: &str, refresh_token: &str) -> Option<Refreshed> {
        let owed = self.0.lock().remove(session_id)?;
        (owed.instead_of == refresh_token).then_some(owed.refreshed)
    }

    pub(super) fn keep(&self, session_id: &str, refresh_token: &str, refreshed: Refreshed) {
        let owed = Owed {
            instead_of: refresh_token.to_owned(),
            refreshed,
        };
        self.0.lock().insert(session_id.to_owned(), owed);
    }

    /// The session is no more.
    pub(super) fn forget(&self, session_id: &str) {
        self.0.lock().remove(session_id);
    }
}
