//! Signals: stop softly, stop at once, reload, upgrade.

use std::future::Future;
use std::pin::pin;

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
    /// A reload was asked for before there was anything to reload.
    owed: bool,
}

/// A stop was asked for before everything had started.
#[derive(Debug, thiserror::Error)]
#[error("stopped before everything had started")]
pub struct StoppedEarly;

impl Signals {
    /// Takes over the signals. Must be called within a tokio runtime.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
            owed: false,
        })
    }

    /// Waits for a part of the start, which may take long when it needs others. A reload is owed until [`Self::owed`] is
    /// asked.
    ///
    /// Errors with those of the part, or [`StoppedEarly`].
    pub async fn meanwhile<T>(&mut self, part: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let mut part = pin!(part);
        loop {
            let request = tokio::select! {
                started = &mut part => return started,
                request = self.next() => request,
            };
            match request {
                Request::Stop => return Err(StoppedEarly.into()),
                Request::Reload => self.owed = true,
                Request::Upgrade => {
                    tracing::warn!("upgrade: not before everything has started; this process goes on");
                }
            }
        }
    }

    /// Notes that a reload was asked for and did not happen.
    pub fn owe(&mut self) {
        self.owed = true;
    }

    /// Whether a reload is owed, once.
    pub fn owed(&mut self) -> bool {
        std::mem::take(&mut self.owed)
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
