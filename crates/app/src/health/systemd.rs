//! Tells the service manager how we are (`sd_notify`; spec databroker.md 16.6).

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::{Health, Probe, Status};

/// Longest status text, characters.
const STATUS_LIMIT: usize = 80;

/// Follows `health` and reports until `stop`. Returns at once when there is no service manager.
pub async fn run(health: Arc<Health>, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut changes = health.subscribe();
    let mut ready = false;
    let mut watchdog = watchdog_interval().map(tokio::time::interval);
    loop {
        ready = report(&health, ready);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
            () = tick(&mut watchdog) => notify(&[NotifyState::Watchdog]),
        }
    }
}

async fn tick(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn watchdog_interval() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (micros > 1).then(|| Duration::from_micros(micros / 2))
}

fn report(health: &Health, was_ready: bool) -> bool {
    let checks = health.required();
    if checks.values().any(|check| check.status == Status::Terminating) {
        return was_ready;
    }
    let failing: Vec<_> = checks
        .iter()
        .filter(|(_, c)| c.status == Status::Running && c.error.is_some())
        .collect();
    if let Some((name, check)) = failing.first() {
        let text = format!("Error in {name}: {}", check.error.as_deref().unwrap_or_default());
        let text: String = text.chars().take(STATUS_LIMIT).collect();
        notify(&[NotifyState::Status(&text)]);
    }
    let ready = health.passes(Probe::Ready);
    if ready && !was_ready {
        notify(&[NotifyState::Ready]);
    }
    was_ready || ready
}

/// A reload or an upgrade begins.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the time of a reload cannot be told"),
    }
}

/// It has ended: well or not, this process serves.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// The end begins. Told at once and not by [`run`], which may end before it has looked.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Another process is the main one from here on.
pub fn main_process(id: u32) {
    notify(&[NotifyState::MainPid(id)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "sd_notify failed");
    }
}
