//! The listeners for operators: health and metrics, away from the listener for people.

use std::sync::Arc;

use anyhow::Context;
use pomerium_config::settings::Settings;

use super::core::Core;
use crate::health;
use crate::telemetry::guard::Guard;
use crate::telemetry::{http, metrics};

/// Starts them; they end with the process.
pub async fn start(settings: &Settings, core: &Core) -> anyhow::Result<()> {
    start_health(settings, core).await?;
    start_metrics(settings, core).await
}

async fn start_health(settings: &Settings, core: &Core) -> anyhow::Result<()> {
    let listener = http::bind(&settings.health_address)
        .await
        .with_context(|| format!("health_check_addr: cannot listen on {}", settings.health_address))?;
    let state = Arc::clone(&core.health);
    tokio::spawn(http::serve(
        listener,
        || None,
        core.stop.clone(),
        move |request| health::server::answer(&state, request.method(), request.uri().path()),
    ));
    if !settings.systemd_disabled {
        tokio::spawn(health::systemd::run(Arc::clone(&core.health)));
    }
    Ok(())
}

async fn start_metrics(settings: &Settings, core: &Core) -> anyhow::Result<()> {
    let Some(settings) = &settings.metrics else {
        return Ok(());
    };
    core.metrics_guard.set(Guard::build(settings)?);
    let listener = http::bind(&settings.address)
        .await
        .with_context(|| format!("metrics_address: cannot listen on {}", settings.address))?;
    let (registry, process) = (core.registry.clone(), core.process.clone());
    let (guards, tls) = (core.metrics_guard.clone(), core.metrics_guard.clone());
    let tls = move || tls.current().tls.clone();
    tokio::spawn(http::serve(listener, tls, core.stop.clone(), move |request| {
        metrics::answer(&registry, &process, guards.current().basic_auth.as_ref(), request)
    }));
    Ok(())
}
