//! `pomerium --config FILE`: runs the services until told to stop.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::environment;
use crate::handover::activation::Activated;
use crate::handover::predecessor::Predecessor;
use crate::handover::successor::Relaunch;
use crate::server::load::Source;
use crate::server::signals::StoppedEarly;
use crate::server::{LogOutput, Options, Server, Start};

/// Runs until a signal ends it.
pub fn run(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    // First of all, while there is one thread: both take what is theirs out of the process.
    let start = Start {
        predecessor: Predecessor::from_environment()?,
        activated: Activated::from_environment()?,
        relaunch: Some(Relaunch::of_this_process()?),
    };
    raise_descriptor_limit();
    let source = Source::new(config, &environment());
    runtime()?.block_on(async {
        let options = Options {
            source,
            log_output: LogOutput::Stdout,
            workers: None,
            start,
        };
        match Server::start(options).await {
            Ok(server) => server.run_until_stopped().await,
            Err(error) if error.is::<StoppedEarly>() => {
                tracing::info!("cmd/pomerium: exiting");
                Ok(())
            }
            Err(error) => Err(error),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Every connection takes a descriptor, and many systems start programs with a soft limit of 1024 that is meant
/// for programs from before `poll`. What cannot be raised stays as it is.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
}

/// The runtime of the control plane; the data plane brings its own threads.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the runtime of the control plane could not be started")
}
