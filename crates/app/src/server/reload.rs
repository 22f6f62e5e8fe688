//! A changed configuration, taken whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pomerium_config::LoadErrors;
use pomerium_config::settings::Settings;
use pomerium_config::watch::Watcher;

use super::Server;
use super::generation::Generation;
use crate::telemetry::log;

impl Server {
    /// Reads the configuration again. Whatever is wrong is logged, and the old one stays in force; connections are
    /// not touched either way.
    pub fn reload(&self) {
        let _ = self.reload_watching();
    }

    /// As [`Self::reload`]; returns the files whose change is a reason to try again.
    fn reload_watching(&self) -> Vec<PathBuf> {
        let _one_at_a_time = self.reloading.lock();
        let result = self.try_reload();
        self.core
            .process
            .reloaded(result.is_ok(), self.core.clock.now().as_second());
        match result {
            Ok(()) => {
                tracing::info!(
                    routes = self.settings().routes.len(),
                    "config: loaded configuration"
                );
                Vec::new()
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!(
                    error = why,
                    "config: error updating config; the previous configuration stays in force"
                );
                let errors = error.downcast_ref::<LoadErrors>();
                errors
                    .map(|errors| errors.watched_files.clone())
                    .unwrap_or_default()
            }
        }
    }

    fn try_reload(&self) -> anyhow::Result<()> {
        let settings = self.source.load()?;
        let previous = self.settings();
        let running = self.dataplane.snapshot();
        let next = Generation::build(settings, &self.core, Arc::clone(&self.state), Some(&running))?;
        warn_about_restart(&previous, &next.settings);
        // Nothing below can fail half-way: the TLS settings of the new snapshot are made before it is stored.
        self.dataplane.reload(next.snapshot)?;
        self.certificates.swap(next.certificates);
        self.control.swap(next.authenticate);
        log::set_levels(&next.settings.log);
        self.core
            .process
            .routes
            .set(i64::try_from(next.settings.routes.len()).unwrap_or(i64::MAX));
        *self.settings.lock() = next.settings;
        Ok(())
    }
}

/// Watches the configuration and everything it names for as long as the server runs.
pub fn watch(server: &Arc<Server>) {
    let settings = server.settings();
    if !settings.runtime_flags.config_hot_reload {
        tracing::info!("hot reload disabled");
        return;
    }
    let watcher = match Watcher::start(watched(server, &settings)) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be watched; send SIGHUP to reload it");
            return;
        }
    };
    tokio::spawn(follow(Arc::downgrade(server), watcher));
}

async fn follow(server: std::sync::Weak<Server>, mut watcher: Watcher) {
    while watcher.changed().await {
        let Some(server) = server.upgrade() else { return };
        if server.core.stop.is_cancelled() {
            return;
        }
        tracing::info!("config: file updated, reconfiguring...");
        let reloaded = Arc::clone(&server);
        let more = tokio::task::spawn_blocking(move || reloaded.reload_watching()).await;
        let mut files = watched(&server, &server.settings());
        files.extend(more.unwrap_or_default());
        watcher.watch(files);
    }
}

fn watched(server: &Server, settings: &Settings) -> Vec<PathBuf> {
    server
        .source
        .file()
        .map(Path::to_owned)
        .into_iter()
        .chain(settings.watched_files.iter().cloned())
        .collect()
}

/// Names what a reload cannot change.
fn warn_about_restart(old: &Settings, new: &Settings) {
    let fixed = [
        ("services", old.services != new.services),
        ("address", old.listener.address != new.listener.address),
        ("insecure_server", old.listener.insecure != new.listener.insecure),
        (
            "http_redirect_addr",
            old.listener.redirect_address != new.listener.redirect_address,
        ),
        ("health_check_addr", old.health_address != new.health_address),
        ("shared_secret", old.secrets.shared != new.secrets.shared),
        ("signing_key", old.secrets.signing_key != new.secrets.signing_key),
        ("databroker_storage_type", old.databroker != new.databroker),
        ("installation_id", old.installation_id != new.installation_id),
        (
            "runtime_flags.add_extra_metrics_labels",
            old.runtime_flags.add_extra_metrics_labels != new.runtime_flags.add_extra_metrics_labels,
        ),
        (
            "runtime_flags.refresh_session_at_id_token_expiration",
            old.runtime_flags.refresh_session_at_id_token_expiration
                != new.runtime_flags.refresh_session_at_id_token_expiration,
        ),
        (
            "runtime_flags.config_hot_reload",
            old.runtime_flags.config_hot_reload != new.runtime_flags.config_hot_reload,
        ),
        (
            "metrics_address",
            format!("{:?}", old.metrics) != format!("{:?}", new.metrics),
        ),
        (
            "otel_*",
            format!("{:?}", old.tracing) != format!("{:?}", new.tracing),
        ),
    ];
    for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(key, "this change takes effect at the next start");
    }
}
