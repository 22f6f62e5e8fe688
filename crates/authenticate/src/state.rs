//! What is kept in memory over reloads of the settings.

use std::sync::Arc;

use crate::builtin::provider::LocalState;
use crate::device::store::DeviceState;
use crate::login::pending;
use crate::once::Once;

/// Shared by every version of [`crate::Authenticate`] of one process.
#[derive(Debug)]
pub struct State {
    /// OAuth states that came back.
    pub(crate) states: Once,
    /// Callback links that were followed.
    pub(crate) callbacks: Once,
    /// What the built-in provider remembers.
    pub(crate) local: Arc<LocalState>,
    /// Registrations of devices.
    pub(crate) devices: DeviceState,
}

impl Default for State {
    fn default() -> Self {
        Self {
            states: Once::new("state", pending::LIFETIME, 100_000),
            // A signed link lives five minutes, and a minute of leeway on either side.
            callbacks: Once::new("callback", 7 * 60, 100_000),
            local: Arc::default(),
            devices: DeviceState::default(),
        }
    }
}
