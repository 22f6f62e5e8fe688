//! The listeners for operators: health and metrics, away from the listener for people.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;
use futures_util::FutureExt as _;
use pomerium_config::settings::Settings;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::handover::Sockets;
use crate::health;
use crate::telemetry::guard::Guard;
use crate::telemetry::{http, metrics};

/// Second handles on the sockets, to be handed to the process that takes over.
#[derive(Debug)]
pub struct Operators {
    /// Health: its setting at the start, and its socket.
    pub health: (String, TcpListener),
    /// Metrics, if they are on.
    pub metrics: Option<(String, TcpListener)>,
}

/// When these listeners begin to answer. One that takes over from another process lets that one answer until it serves
/// itself: probes that met it before would take a healthy program for one that is not ready.
#[derive(Debug, Clone)]
pub struct Begin(Option<CancellationToken>);

impl Begin {
    /// At once, or `later`: when [`Self::now`] is called.
    pub fn new(later: bool) -> Self {
        Self(later.then(CancellationToken::new))
    }

    /// The program serves.
    pub fn now(&self) {
        if let Some(begin) = &self.0 {
            begin.cancel();
        }
    }

    async fn wait(self) {
        if let Some(begin) = self.0 {
            begin.cancelled_owned().await;
        }
    }
}

/// Starts them, on sockets that are open already where there are any; they end with the process.
pub async fn start(
    settings: &Settings,
    core: &Core,
    sockets: &mut Sockets,
    begin: &Begin,
) -> anyhow::Result<Operators> {
    let health = start_health(settings, core, (sockets.health.pop(), begin.clone())).await?;
    let metrics = start_metrics(settings, core, (sockets.metrics.pop(), begin.clone())).await?;
    Ok(Operators {
        health: (settings.health_address.clone(), health),
        metrics: settings
            .metrics
            .as_ref()
            .map(|settings| settings.address.clone())
            .zip(metrics),
    })
}

async fn start_health(
    settings: &Settings,
    core: &Core,
    (handed, begin): (Option<TcpListener>, Begin),
) -> anyhow::Result<TcpListener> {
    let (listener, handle) = open(&settings.health_address, handed)
        .await
        .with_context(|| format!("health_check_addr: cannot listen on {}", settings.health_address))?;
    let state = Arc::clone(&core.health);
    let serve = http::serve(
        listener,
        || None,
        core.stop.clone(),
        move |request| health::server::answer(&state, request.method(), request.uri().path()),
    );
    tokio::spawn(begin.wait().then(|()| serve));
    Ok(handle)
}

async fn start_metrics(
    settings: &Settings,
    core: &Core,
    (handed, begin): (Option<TcpListener>, Begin),
) -> anyhow::Result<Option<TcpListener>> {
    let Some(settings) = &settings.metrics else {
        return Ok(None);
    };
    core.metrics_guard.set(Guard::build(settings)?);
    let (listener, handle) = open(&settings.address, handed)
        .await
        .with_context(|| format!("metrics_address: cannot listen on {}", settings.address))?;
    let (registry, process) = (core.registry.clone(), core.process.clone());
    let (guards, tls) = (core.metrics_guard.clone(), core.metrics_guard.clone());
    let tls = move || tls.current().tls.clone();
    let serve = http::serve(listener, tls, core.stop.clone(), move |request| {
        metrics::answer(&registry, &process, guards.current().basic_auth.as_ref(), request)
    });
    tokio::spawn(begin.wait().then(|()| serve));
    Ok(Some(handle))
}

pub(super) async fn open(
    address: &str,
    handed: Option<TcpListener>,
) -> std::io::Result<(tokio::net::TcpListener, TcpListener)> {
    let listener = match handed {
        Some(listener) => listener,
        None => http::bind(address).await?.into_std()?,
    };
    listener.set_nonblocking(true)?;
    let handle = listener.try_clone()?;
    Ok((tokio::net::TcpListener::from_std(listener)?, handle))
}
