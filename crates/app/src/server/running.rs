//! A server that runs: until a signal ends it, or another process has taken over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;

use super::Server;
use super::signals::{Request, Signals};
use super::upgrade::Outcome;
use crate::health;

/// How long requests and tunnels may take to finish after the signal to stop.
const GRACE: Duration = Duration::from_secs(600);
/// How long the last spans may take to leave.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What is waited for at the end, by its name: the last uses of sessions are written down, orders of certificates put in
/// order, calls of other processes answered.
pub(super) fn last_deeds(
    (uses, orders, calls): (JoinHandle<()>, JoinHandle<()>, Option<JoinHandle<()>>),
) -> Vec<(&'static str, JoinHandle<()>)> {
    let named = [("last uses of sessions", uses), ("certificates by ACME", orders)];
    let calls = calls.map(|calls| ("calls by gRPC", calls));
    named.into_iter().chain(calls).collect()
}

impl Server {
    /// Serves until a signal ends it, the first softly, the second at once; or until another process has taken
    /// over.
    pub async fn run_until_stopped(self: Arc<Self>) -> anyhow::Result<()> {
        let signals = self.signals.lock().take();
        let mut signals = signals.context("this server is run already")?;
        if self.reload_owed {
            self.reload_beside();
        }
        let replaced = loop {
            match signals.next().await {
                Request::Stop => break false,
                Request::Reload => self.reload_beside(),
                Request::Upgrade => match self.upgrade(&mut signals).await {
                    Ok(Outcome::Replaced) => break true,
                    Ok(Outcome::Stopped) => break false,
                    Err(error) => {
                        let why = format!("{error:#}");
                        tracing::error!(error = why, "upgrade: it failed; this process goes on");
                        if signals.owed() {
                            self.reload_beside();
                        }
                    }
                },
            }
        };
        tracing::info!("cmd/pomerium: exiting");
        if replaced {
            // Health, metrics, refresh and the word to the service manager are the other process's now.
            self.core.stop.cancel();
        } else {
            self.core.health.terminate();
            if !self.settings().systemd_disabled {
                health::systemd::stopping();
            }
        }
        tokio::select! {
            emptied = self.dataplane.drain(GRACE) => if !emptied {
                tracing::warn!("connections that did not end within the grace period are cut");
            },
            () = second_stop(&mut signals) => tracing::warn!("stopping at once"),
        }
        self.stop().await;
        Ok(())
    }

    /// Reloads without waiting for it: a signal to stop must not wait for a slow disk.
    fn reload_beside(self: &Arc<Self>) {
        tracing::info!("config: received SIGHUP, reloading config");
        let server = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let told = !server.settings().systemd_disabled;
            if told {
                health::systemd::reloading();
            }
            server.reload();
            if told {
                health::systemd::reloaded();
            }
        });
    }

    /// Stops everything at once, but for what has to be put in order while there are records: calls of other processes
    /// that are under way are answered, within a limit. Acknowledged records and written log lines are kept.
    pub async fn stop(self: Arc<Self>) {
        self.core.stop.cancel();
        let last_deeds = std::mem::take(&mut *self.last_deeds.lock());
        for (what, done) in last_deeds {
            if done.await.is_err() {
                tracing::error!(what, "this ended half-way");
            }
        }
        let server = Arc::clone(&self);
        let stopped = tokio::task::spawn_blocking(move || {
            server.dataplane.stop();
            server.core.broker.close();
            server.sink.close();
            server.audit.close();
            if let Some(tracing) = &server.tracing
                && let Err(error) = tracing.shutdown_with_timeout(LAST_SPANS)
            {
                tracing::warn!(%error, "the last traces were not sent");
            }
        });
        if stopped.await.is_err() {
            tracing::error!("stopping failed half-way");
        }
    }
}

/// Waits for another signal to stop; a configuration that changes meanwhile is of no use any more.
async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {
        tracing::info!("config: not reloaded, the program is stopping");
    }
}
