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
mod parts;
pub mod records;
mod refresh;
mod registration;
pub mod reload;
pub mod remote;
mod running;
mod sessions;
pub mod signals;
pub mod store;
mod switch;
pub mod syncers;
pub mod tokens;
mod upgrade;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use pomerium_api::databroker::Databroker;
use pomerium_api::synced::SyncedRecords;
use pomerium_authenticate::State;
use pomerium_config::settings::Settings;
use pomerium_proxy::{Dataplane, LogSink, Metrics};
use tokio::task::JoinHandle;

use self::access::Access;
use self::certificates::Certificates;
use self::control::Control;
use self::core::Core;
use self::listeners::{Begin, Operators};
use self::load::Source;
use self::parts::{
    audit_stream, cannot_listen, dataplane_options, log_sink, report_running, shared, start_admin,
    start_tasks, tracer, watch,
};
use self::signals::Signals;
use crate::audit::Audit;
use crate::handover::activation::Activated;
use crate::handover::predecessor::Predecessor;
use crate::handover::successor::Relaunch;
use crate::telemetry::log;

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
    /// What has to end before the store is closed; see [`Self::stop`].
    last_deeds: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
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
        let begin = Begin::new(before.is_some());
        let mut operators = None;
        if settings.internal.databroker.is_some() {
            operators = Some(listeners::start(&settings, &core, &mut sockets, &begin).await?);
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
        let keeping = core.autocert.start(first.plan, &core, &certificates).await;
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
        .map_err(cannot_listen)?;
        drop(handed);
        let operators = match operators {
            Some(operators) => operators,
            None => listeners::start(&settings, &core, &mut sockets, &begin).await?,
        };
        let grpc = grpc::start(
            &settings,
            &core,
            (&certificates, dataplane.authorizer()),
            sockets.grpc.pop(),
        )
        .await?;
        let (grpc, calls) = grpc
            .map(|listening| (listening.handle, listening.serving))
            .unzip();
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
            last_deeds: Mutex::new(running::last_deeds((last_uses, keeping, calls))),
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
        begin.now();
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
}
