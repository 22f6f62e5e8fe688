//! The services of one process: started, reloaded, stopped.
//!
//! [`Server::start`] reads as the list of what is started, in order. What lives as long as the process is in
//! [`core`], what a reload replaces in [`generation`].

mod access;
pub mod autocert;
pub mod certificates;
mod cluster;
pub mod control;
pub mod core;
pub mod expiry;
pub mod generation;
mod grpc;
mod kept;
mod last_errors;
pub mod listeners;
pub mod load;
mod lost;
pub mod observed;
mod outage;
pub mod records;
mod refresh;
mod registration;
pub mod reload;
pub mod remote;
mod sessions;
pub mod signals;
pub mod store;
mod switch;
pub mod syncers;
pub mod tokens;
mod upgrade;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use pomerium_api::databroker::Databroker;
use pomerium_api::synced::SyncedRecords;
use pomerium_authenticate::State;
use pomerium_authorize::{AssertionSigner, SessionResolver};
use pomerium_config::settings::Settings;
use pomerium_proxy::{Dataplane, LogSink, Metrics, Shared, StartError, Tracer};
use tokio::task::JoinHandle;

use self::access::Access;
use self::certificates::Certificates;
use self::control::Control;
use self::core::Core;
use self::listeners::Operators;
use self::load::Source;
use self::signals::{Request, Signals};
use self::upgrade::Outcome;
use crate::admin::{self, impersonation::Sessions};
use crate::audit::{Audit, AuditMetrics};
use crate::handover::activation::Activated;
use crate::handover::predecessor::Predecessor;
use crate::handover::successor::Relaunch;
use crate::health::{self, Status};
use crate::telemetry::{log, otel, spans::Spans};

/// How long requests and tunnels may take to finish after the signal to stop.
const GRACE: Duration = Duration::from_secs(600);
/// How long the last spans may take to leave.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Where the access and authorize logs go.
#[derive(Debug, Clone)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// The configuration.
    pub source: Source,
    /// Where the access and authorize logs go.
    pub log_output: LogOutput,
    /// Worker threads; one per core unless given.
    pub workers: Option<usize>,
    /// What this process was given by the one before it or by the service manager.
    pub start: Start,
}

/// How this process came to be, and how another one takes over from it.
#[derive(Debug, Default)]
pub struct Start {
    /// The process that this one takes over from.
    pub predecessor: Option<Predecessor>,
    /// Sockets of the service manager.
    pub activated: Activated,
    /// How to start the program again; `None` where it cannot be upgraded in place.
    pub relaunch: Option<Relaunch>,
}

/// The running services. Dropping it cuts everything; see [`Server::run_until_stopped`] for the kind way.
pub struct Server {
    core: Core,
    source: Source,
    dataplane: Dataplane,
    certificates: Arc<Certificates>,
    control: Arc<Control>,
    state: Arc<State>,
    sink: LogSink,
    audit: Arc<Audit>,
    /// Ends when the last uses of sessions are written down.
    last_uses: Mutex<Option<JoinHandle<()>>>,
    tracing: Option<SdkTracerProvider>,
    settings: Mutex<Arc<Settings>>,
    workers: Option<usize>,
    operators: Operators,
    /// A second handle on the socket of the gRPC listener, with its setting.
    grpc: Option<(String, TcpListener)>,
    relaunch: Option<Relaunch>,
    signals: Mutex<Option<Signals>>,
    /// A reload was asked for while the start was under way.
    reload_owed: bool,
    /// Held while a reload is under way.
    reloading: Mutex<()>,
}

impl Server {
    /// Starts everything the configuration asks for. Must be called on the control runtime.
    ///
    /// Errors say which part did not start and why; nothing is left running then.
    pub async fn start(options: Options) -> anyhow::Result<Arc<Self>> {
        let settings = options.source.load_to_run()?;
        log::set_levels(&settings.log);
        tracing::info!(version = crate::VERSION, envoy_version = "none", "cmd/pomerium");
        let (mut sockets, mut before) = match options.start.predecessor {
            Some(predecessor) => {
                let (sockets, before) = predecessor.meet(&settings)?;
                (sockets, Some(before))
            }
            None => (options.start.activated.assign(&settings)?, None),
        };
        let mut signals = Signals::install().context("signals cannot be received")?;
        let core = signals.meanwhile(Core::start(&settings, before.as_mut())).await?;
        // Probes are answered while the databroker of another process is waited for.
        let mut operators = None;
        if settings.internal.databroker.is_some() {
            operators = Some(listeners::start(&settings, &core, &mut sockets).await?);
        }
        signals.meanwhile(core.wait_for_records(&settings)).await?;
        let changes = core.records.config_changes();
        let state = Arc::<State>::default();
        let (first, records_fault) = records::first(settings, &options.source, &core, &state)?;
        let parts = first.snapshot.session_parts();
        sessions::prepare(&core.records, parts).await;
        core.records.keep(parts);
        let settings = first.settings;
        core.tokens.extend(&settings)?;
        let certificates = Arc::new(Certificates::new(first.certificates));
        core.autocert.start(first.plan, &core, &certificates).await;
        expiry::watch(&core.registry, certificates.store(), &core.clock, &core.stop)?;
        let control = Arc::new(Control::new(first.authenticate));
        let metrics = Arc::new(Metrics::register(&core.registry)?);
        let sink = log_sink(&options.log_output, &metrics)?;
        let audit = audit_stream(&settings, &core)?;
        let (access, last_uses) =
            Access::start(Arc::clone(&core.broker.handle), &core.registry, core.stop.clone())?;
        let (tracing, tracer) = tracer(&settings)?;
        let shared = shared(
            &core,
            &control,
            (metrics, sink.clone(), Arc::clone(&audit), access),
            tracer,
        );
        let handed = sockets.of_data_plane();
        let dataplane = Dataplane::start_with(
            &dataplane_options(&settings, options.workers),
            &handed,
            first.snapshot,
            Arc::clone(certificates.store()),
            shared,
        )
        .map_err(|error| cannot_listen(error, &settings))?;
        drop(handed);
        let operators = match operators {
            Some(operators) => operators,
            None => listeners::start(&settings, &core, &mut sockets).await?,
        };
        let grpc = grpc::start(
            &settings,
            &core,
            (&certificates, dataplane.authorizer()),
            sockets.grpc.pop(),
        )
        .await?;
        if let Some(before) = before {
            before.ready(Arc::clone(&core.broker.handle)).await?;
        }
        start_admin(&settings, &core, &sink, &audit);
        start_tasks(&settings, &core, &control)?;
        let server = Arc::new(Self {
            core,
            source: options.source,
            dataplane,
            certificates,
            control,
            state,
            sink,
            audit,
            last_uses: Mutex::new(Some(last_uses)),
            tracing,
            settings: Mutex::new(settings),
            workers: options.workers,
            operators,
            grpc,
            relaunch: options.start.relaunch,
            reload_owed: signals.owed(),
            signals: Mutex::new(Some(signals)),
            reloading: Mutex::new(()),
        });
        watch(&server, changes);
        // Last: whoever waits for it may change the configuration at once.
        report_running(&server.core, &server.settings(), &server.dataplane);
        if let Some(why) = records_fault {
            server.core.health.report_error(records::CHECK, why);
        }
        Ok(server)
    }

    /// The records, for whoever runs the program inside another one.
    pub fn databroker(&self) -> &Arc<dyn Databroker> {
        &self.core.broker.handle
    }

    /// The local copy of the records that requests are judged by.
    pub fn records(&self) -> &Arc<SyncedRecords> {
        &self.core.records
    }

    /// Addresses of the main listener.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.dataplane.local_addrs()
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock())
    }

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

    /// Stops everything at once; acknowledged records and written log lines are kept.
    pub async fn stop(self: Arc<Self>) {
        self.core.stop.cancel();
        let last_uses = self.last_uses.lock().take();
        if let Some(last_uses) = last_uses
            && last_uses.await.is_err()
        {
            tracing::error!("the last uses of sessions were not written down");
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

fn dataplane_options(settings: &Settings, workers: Option<usize>) -> pomerium_proxy::Options {
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

/// Names the key, where the error does not do it itself.
fn cannot_listen(error: StartError, settings: &Settings) -> anyhow::Error {
    match error {
        StartError::Decision { .. } | StartError::Tls(_) => error.into(),
        error => anyhow::Error::from(error)
            .context(format!("address: cannot listen on {}", settings.listener.address)),
    }
}

fn log_sink(output: &LogOutput, metrics: &Metrics) -> anyhow::Result<LogSink> {
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

fn audit_stream(settings: &Settings, core: &Core) -> anyhow::Result<Arc<Audit>> {
    let metrics = AuditMetrics::register(&core.registry)?;
    let audit = Audit::new(metrics, Arc::clone(&core.clock));
    audit.swap(audit.prepare(&settings.audit)?);
    Ok(Arc::new(audit))
}

type Tracing = (Option<SdkTracerProvider>, Option<Arc<dyn Tracer>>);

fn tracer(settings: &Settings) -> anyhow::Result<Tracing> {
    let Some(tracing) = &settings.tracing else {
        return Ok((None, None));
    };
    let provider = otel::provider(tracing, crate::VERSION)?;
    let spans = Spans::new(&provider, tracing.attribute_value_length_limit);
    Ok((Some(provider), Some(Arc::new(spans))))
}

fn shared(
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
fn start_admin(settings: &Settings, core: &Core, sink: &LogSink, audit: &Arc<Audit>) {
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
fn start_tasks(settings: &Settings, core: &Core, control: &Arc<Control>) -> anyhow::Result<()> {
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
fn watch(server: &Arc<Server>, changes: tokio::sync::watch::Receiver<u64>) {
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

fn report_running(core: &Core, settings: &Settings, dataplane: &Dataplane) {
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
