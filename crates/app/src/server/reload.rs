//! A changed configuration, taken whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use pomerium_config::settings::Settings;
use pomerium_config::watch::Watcher;
use pomerium_config::{LoadErrors, Text};

use super::generation::{self, Generation};
use super::parts::{cannot_listen, dataplane_options};
use super::{Server, records, sessions};
use crate::telemetry::guard::Guard;
use crate::telemetry::log;

impl Server {
    /// Reads the configuration again. Whatever is wrong is logged, and the old one stays in force; connections are
    /// not touched either way.
    pub fn reload(&self) {
        let _ = self.reload_watching(Text::Anew);
    }

    /// As [`Self::reload`], because of records: what is in force of the file stays so, whatever it says by now.
    pub fn reload_records(&self) {
        let _ = self.reload_watching(Text::InForce);
    }

    /// As [`Self::reload`]; returns the files whose change is a reason to try again.
    fn reload_watching(&self, text: Text) -> Vec<PathBuf> {
        let _one_at_a_time = self.reloading.lock();
        let result = self.try_reload(text);
        self.core
            .process
            .reloaded(result.is_ok(), self.core.clock.now().as_second());
        match result {
            Ok(()) => {
                self.core.health.recover(records::CHECK);
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
                if errors.is_none() && !self.core.records.config_records().is_empty() {
                    self.core.health.report_error(records::CHECK, why);
                }
                errors
                    .map(|errors| errors.watched_files.clone())
                    .unwrap_or_default()
            }
        }
    }

    fn try_reload(&self, text: Text) -> anyhow::Result<()> {
        let records = records::read(&self.core.records);
        let previous = self.settings();
        let running = self.dataplane.snapshot();
        let (next, problems) = records::build(records, (&self.source, text), |mut settings| {
            let roots = generation::roots(&settings, &self.core.derived);
            warn_about_restart(&previous, &settings, &roots);
            keep_keys(&previous, &mut settings)?;
            Generation::build(settings, &self.core, Arc::clone(&self.state), Some(&running))
        })?;
        let listeners = self
            .dataplane
            .bind(&dataplane_options(&next.settings, self.workers), &next.snapshot)
            .map_err(cannot_listen)?;
        let audit = self.audit.prepare(&next.settings.audit)?;
        let guard = next.settings.metrics.as_ref().map(Guard::build).transpose()?;
        self.core.tokens.extend(&next.settings)?;
        let parts = next.snapshot.session_parts();
        sessions::prepare_blocking(&self.core.records, parts);
        // The last that can fail, and then it has changed nothing.
        if let Err(error) = self.dataplane.reload_with(next.snapshot, listeners) {
            self.core.tokens.extend(&previous)?;
            self.core.tokens.retain(&previous);
            return Err(cannot_listen(error));
        }
        if text == Text::Anew {
            self.source.keep_text();
        }
        self.audit.swap(audit);
        self.core.tokens.retain(&next.settings);
        self.core.records.keep(parts);
        self.certificates.configure(next.certificates);
        self.core.autocert.follow(next.plan);
        self.control.swap(next.authenticate);
        if let Some(guard) = guard {
            self.core.metrics_guard.set(guard);
        }
        log::set_levels(&next.settings.log);
        self.core
            .process
            .routes
            .set(i64::try_from(next.settings.routes.len()).unwrap_or(i64::MAX));
        *self.settings.lock() = next.settings;
        records::report(&self.core, &problems);
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
        let more = tokio::task::spawn_blocking(move || reloaded.reload_watching(Text::Anew)).await;
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

/// Sessions, the store and the signer run on the keys of the start, so sign-in and the published key set must too: with
/// half of the program on a new key, nobody could sign in and no assertion could be verified.
///
/// Errors when the shared secret is another one: too much is derived from it to go on as if it were not.
pub(super) fn keep_keys(running: &Settings, settings: &mut Settings) -> anyhow::Result<()> {
    if running.secrets.shared != settings.secrets.shared {
        bail!("shared_secret: it changed, and a running program cannot take another one; restart it");
    }
    settings
        .secrets
        .signing_key
        .clone_from(&running.secrets.signing_key);
    Ok(())
}

/// Names what a reload cannot change.
///
/// `roots`: those that `new` comes to, as `old` has its own.
fn warn_about_restart(old: &Settings, new: &Settings, roots: &[u8]) {
    let (old_internal, new_internal) = (&old.internal, &new.internal);
    let fixed = [
        ("data_dir", old.data_dir != new.data_dir),
        (
            "health_check_systemd_disabled",
            old.systemd_disabled != new.systemd_disabled,
        ),
        (
            "databroker_outage_limit",
            old_internal.outage_limit != new_internal.outage_limit,
        ),
        // Everything else that trusts them takes the new ones at once.
        (
            "certificate_authority, for the connection to the databroker",
            old_internal.databroker.is_some() && old.extra_roots != roots,
        ),
        ("health_check_addr", old.health_address != new.health_address),
        ("signing_key", old.secrets.signing_key != new.secrets.signing_key),
        ("databroker_storage_type", old.databroker != new.databroker),
        ("databroker_encryption_keys", old.at_rest != new.at_rest),
        ("grpc_address", old_internal.listener != new_internal.listener),
        (
            "databroker_cluster_nodes",
            old_internal.cluster != new_internal.cluster,
        ),
        (
            "grpc_mutual_tls",
            old_internal.mutual_tls != new_internal.mutual_tls,
        ),
        (
            "databroker_service_url",
            old_internal.databroker != new_internal.databroker,
        ),
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
            old.metrics.as_ref().map(|metrics| &metrics.address)
                != new.metrics.as_ref().map(|metrics| &metrics.address),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pomerium_config::Loader;
    use pomerium_config::settings::Secret;

    use super::*;

    fn settings(secret: u8) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        let config = serde_json::json!({
            "shared_secret": pomerium_crypto::encoding::base64_encode(&[secret; 32]),
            "data_dir": dir.path().join("data"),
        });
        std::fs::write(&file, config.to_string()).unwrap();
        let loader = Loader::new(Some(&file), &BTreeMap::new()).dry_run();
        loader.load().unwrap().settings
    }

    #[test]
    fn the_signing_key_of_the_start_stays_for_the_published_key_set_too() {
        let (running, mut next) = (settings(1), settings(1));
        next.secrets.signing_key = Some(Secret::new(b"another".to_vec()));
        keep_keys(&running, &mut next).unwrap();
        assert_eq!(next.secrets.signing_key, running.secrets.signing_key);
    }

    #[test]
    fn another_shared_secret_is_refused_as_a_whole() {
        let error = keep_keys(&settings(1), &mut settings(2)).unwrap_err();
        assert!(error.to_string().contains("restart"), "{error}");
    }
}
