//! An upgrade: the program is started again, takes the sockets and the store, and this process finishes.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Server;
use super::signals::{Request, Signals};
use super::store::Released;
use crate::handover::Use;
use crate::handover::passing::Label;
use crate::handover::relay::Relay;
use crate::handover::successor::{Successor, Wish};
use crate::health;

/// How long the new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an upgrade ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The new process serves.
    Replaced,
    /// A signal to stop came first; there is no new process.
    Stopped,
}

impl Server {
    /// Lets the program at our path take over. Until it serves, this process does.
    ///
    /// Errors when it does not start or does not serve in time: then it is gone, and this process goes on.
    pub(super) async fn upgrade(self: &Arc<Self>, signals: &mut Signals) -> anyhow::Result<Outcome> {
        let Some(relaunch) = &self.relaunch else {
            bail!("this program cannot be upgraded in place; restart it");
        };
        tracing::info!("upgrade: starting the new process");
        let told = !self.settings().systemd_disabled;
        if told {
            health::systemd::reloading();
        }
        let result = async {
            let successor = relaunch.start(&self.sockets()?)?;
            self.hand_over(successor, signals, told).await
        };
        let result = result.await;
        if told && !matches!(result, Ok(Outcome::Replaced)) {
            health::systemd::reloaded();
        }
        result
    }

    async fn hand_over(
        &self,
        mut successor: Successor,
        signals: &mut Signals,
        told: bool,
    ) -> anyhow::Result<Outcome> {
        let mut released = None;
        let served = tokio::select! {
            served = tokio::time::timeout(PATIENCE, self.grant(&mut successor, &mut released)) => {
                served.unwrap_or_else(|_| bail!("the new process does not serve within {} s", PATIENCE.as_secs()))
            }
            () = stop(signals) => {
                drop(successor);
                if let Some(released) = released {
                    released.reopen().await?;
                }
                return Ok(Outcome::Stopped);
            }
        };
        let replaced = match served {
            Ok(()) => self.leave(successor, &mut released, told).await,
            Err(error) => {
                drop(successor);
                Err(error)
            }
        };
        match (replaced, released) {
            (Ok(()), _) => Ok(Outcome::Replaced),
            (Err(error), None) => Err(error),
            (Err(error), Some(released)) => {
                released
                    .reopen()
                    .await
                    .context("the store could not be opened again")?;
                Err(error)
            }
        }
    }

    /// Gives the new process what it asks for until it serves.
    async fn grant(&self, successor: &mut Successor, released: &mut Option<Released>) -> anyhow::Result<()> {
        loop {
            match successor.wish().await? {
                Wish::Nothing => return Ok(()),
                Wish::Store => {
                    if released.is_none() {
                        *released = Some(self.core.broker.release().await);
                    }
                    successor.store_is_free().await?;
                }
            }
        }
    }

    /// Makes the new process the main one.
    async fn leave(
        &self,
        successor: Successor,
        released: &mut Option<Released>,
        told: bool,
    ) -> anyhow::Result<()> {
        let id = successor.id().context("the new process has ended")?;
        if told {
            health::systemd::main_process(id);
        }
        let (reader, writer) = successor.let_go().await?;
        if let Some(released) = released.take() {
            released.relay(Relay::start(reader, writer));
        }
        tracing::info!(
            process = id,
            "upgrade: the new process serves; this one finishes what it has begun"
        );
        Ok(())
    }

    /// All listening sockets with what they are for.
    fn sockets(&self) -> anyhow::Result<Vec<(Label, TcpListener)>> {
        let settings = self.settings();
        let label = |what: Use, setting: &str| Label {
            what,
            setting: setting.to_owned(),
        };
        let listening = self.dataplane.share_sockets()?;
        let listener = &settings.listener;
        let mut all = Vec::new();
        for socket in listening.main {
            all.push((label(Use::Main, &listener.address), socket));
        }
        for socket in listening.redirect {
            let setting = listener.redirect_address.as_deref().unwrap_or_default();
            all.push((label(Use::Redirect, setting), socket));
        }
        for socket in listening.decision {
            let decision = settings.decision.as_ref();
            let setting = decision
                .map(|decision| decision.address.as_str())
                .unwrap_or_default();
            all.push((label(Use::Decision, setting), socket));
        }
        let operators = std::iter::once((Use::Health, &self.operators.health));
        let metrics = self
            .operators
            .metrics
            .iter()
            .map(|metrics| (Use::Metrics, metrics));
        let grpc = self.grpc.iter().map(|grpc| (Use::Grpc, grpc));
        for (what, (setting, socket)) in operators.chain(metrics).chain(grpc) {
            all.push((label(what, setting), socket.try_clone()?));
        }
        Ok(all)
    }
}

/// Waits for a signal to stop. A reload is owed until it is known who serves: the new process has read the configuration
/// already or does so yet.
async fn stop(signals: &mut Signals) {
    loop {
        match signals.next().await {
            Request::Stop => return,
            Request::Reload => {
                tracing::info!("config: not reloaded while an upgrade is under way");
                signals.owe();
            }
            Request::Upgrade => tracing::info!("upgrade: one is under way already"),
        }
    }
}
