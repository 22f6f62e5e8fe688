//! Signals: stop softly, stop at once, reload, upgrade.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `SIGTERM`, `SIGINT`: finish what is under way, then end. A second one means at once.
    Stop,
    /// `SIGHUP`: read the configuration again.
    Reload,
    /// `SIGUSR2`: let the program that lies at our path now take over.
    Upgrade,
}

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    /// Takes over the signals. Must be called within a tokio runtime.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => Request::Reload,
            _ = self.user.recv() => Request::Upgrade,
        }
    }
}
