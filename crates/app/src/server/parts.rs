//! What a start puts together, part by part.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::sync::Arc;

use anyhow::Context;
use opentelemetry_sdk::trace::SdkTracerProvider;
use pomerium_authorize::{AssertionSigner, SessionResolver};
use pomerium_config::settings::Settings;
use pomerium_proxy::{Dataplane, LogSink, Metrics, Shared, StartError, Tracer};

use super::access::Access;
use super::control::Control;
use super::core::Core;
use super::{LogOutput, Server, lost, outage, records, refresh, registration, reload, remote};
use crate::admin::{self, impersonation::Sessions};
use crate::audit::{Audit, AuditMetrics};
use crate::health::{self, Status};
use crate::telemetry::{otel, spans::Spans};

pub(super) fn dataplane_options(settings: &Settings, workers: Option<usize>) -> pomerium_proxy::Options {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let people = settings.services.serve_people();
    pomerium_proxy::Options {
        address: people.then(|| settings.listener.address.clone()),
        redirect_address: settings.listener.redirect_address.clone().filter(|_| people),
        decision_address: settings
            .decision
            .as_ref()
            .filter(|_| settings.services.authorize || settings.services.proxy)
            .map(|decision| decision.address.clone()),
        workers: workers.unwrap_or_else(cores),
    }
}

/// Names the key, where the error does not do it itself, and says what to do.
pub(super) fn cannot_listen(error: StartError) -> anyhow::Error {
    let remedy = match &error {
        StartError::Decision { .. } | StartError::Tls(_) => return error.into(),
        StartError::Io(error) => remedy(error.kind()),
    };
    anyhow::anyhow!("address: {error}{remedy}")
}

fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE, or a socket of the service manager"
        }
        ErrorKind::AddrInUse => "; another program listens there: stop it, or choose another port",
        ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

pub(super) fn log_sink(output: &LogOutput, metrics: &Metrics) -> anyhow::Result<LogSink> {
    let out: Box<dyn Write + Send> = match output {
        LogOutput::Stdout => Box::new(std::io::stdout()),
        LogOutput::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Box::new(file.with_context(|| format!("the access log cannot be written to {}", path.display()))?)
        }
    };
    LogSink::start(out, metrics.log_drops.clone())
        .context("the thread that writes the access log cannot be started")
}

pub(super) fn audit_stream(settings: &Settings, core: &Core) -> anyhow::Result<Arc<Audit>> {
    let metrics = AuditMetrics::register(&core.registry)?;
    let audit = Audit::new(metrics, Arc::clone(&core.clock));
    audit.swap(audit.prepare(&settings.audit)?);
    Ok(Arc::new(audit))
}

type Tracing = (Option<SdkTracerProvider>, Option<Arc<dyn Tracer>>);

pub(super) fn tracer(settings: &Settings) -> anyhow::Result<Tracing> {
    let Some(tracing) = &settings.tracing else {
        return Ok((None, None));
    };
    let provider = otel::provider(tracing, crate::VERSION)?;
    let spans = Spans::new(&provider, tracing.attribute_value_length_limit);
    Ok((Some(provider), Some(Arc::new(spans))))
}

pub(super) fn shared(
    core: &Core,
    control: &Arc<Control>,
    (metrics, log, audit, access): (Arc<Metrics>, LogSink, Arc<Audit>, Arc<Access>),
    tracer: Option<Arc<dyn Tracer>>,
) -> Arc<Shared> {
    let broker = Arc::clone(&core.broker.handle);
    Arc::new(Shared {
        sessions: SessionResolver::new(Arc::clone(&core.records), broker, core.shared),
        signer: AssertionSigner::new(Arc::clone(&core.signing_key)),
        clock: Arc::clone(&core.clock),
        metrics,
        log,
        audit,
        access,
        control: Arc::clone(control) as Arc<dyn pomerium_proxy::ControlPlane>,
        tokens: Arc::clone(&core.tokens) as Arc<dyn pomerium_proxy::UpstreamTokens>,
        login: Arc::clone(control) as Arc<dyn pomerium_proxy::LoginLinks>,
        challenges: Arc::clone(&core.challenges),
        control_runtime: tokio::runtime::Handle::current(),
        tracer,
    })
}

/// The door for the administrator of the machine. People are served without it as well, so that a folder that is
/// in the way stops nothing.
pub(super) fn start_admin(settings: &Settings, core: &Core, sink: &LogSink, audit: &Arc<Audit>) {
    if !settings.services.all_in_one() {
        return;
    }
    let sessions = Sessions::new(
        Arc::clone(&core.broker.handle),
        Arc::clone(&core.clock),
        (sink.clone(), Arc::clone(audit)),
    );
    if let Err(error) = admin::server::start(&settings.data_dir, sessions, core.stop.clone()) {
        tracing::error!(
            error = format!("{error:#}"),
            "admin: `pomerium session` cannot reach this server"
        );
    }
}

/// What goes on beside requests, from the start on.
pub(super) fn start_tasks(settings: &Settings, core: &Core, control: &Arc<Control>) -> anyhow::Result<()> {
    if !settings.systemd_disabled {
        tokio::spawn(health::systemd::run(Arc::clone(&core.health), core.stop.clone()));
    }
    if settings.services.databroker {
        refresh::start(settings, core, control)?;
    }
    watch_instances(core);
    Ok(())
}

/// Acts on what changes: files, records, rights, and whether the databroker can be reached. `changes` are those of the
/// configuration records.
pub(super) fn watch(server: &Arc<Server>, changes: tokio::sync::watch::Receiver<u64>) {
    reload::watch(server);
    records::follow(server, changes);
    lost::watch(server);
    outage::watch(server);
    registration::keep(server);
}

fn watch_instances(core: &Core) {
    let Some(way) = core.broker.way() else { return };
    tokio::spawn(remote::watch_serving(way.clone(), core.stop.clone()));
    tokio::spawn(remote::watch_instances(
        way.clone(),
        Arc::clone(&core.health),
        core.process.databases.clone(),
        core.stop.clone(),
    ));
}

pub(super) fn report_running(core: &Core, settings: &Settings, dataplane: &Dataplane) {
    for &name in core.health.expected() {
        core.health.report(name, Status::Running);
    }
    core.process.reloaded(true, core.clock.now().as_second());
    core.process
        .routes
        .set(i64::try_from(settings.routes.len()).unwrap_or(i64::MAX));
    let addresses: Vec<String> = dataplane.local_addrs().iter().map(ToString::to_string).collect();
    tracing::info!(
        addresses = addresses.join(", "),
        health_addr = settings.health_address,
        "server started"
    );
    let services = settings.services;
    let enabled = [
        ("authenticate", services.authenticate),
        ("authorize", services.authorize),
        ("databroker", services.databroker),
        ("proxy", services.proxy),
    ];
    for (service, _) in enabled.iter().filter(|(_, enabled)| *enabled) {
        tracing::info!("enabled {service} service");
    }
}
