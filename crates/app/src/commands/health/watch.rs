//! `pomerium health watch`: how a Pomerium is, each time that changes, over its gRPC listener (spec databroker.md 16.5).

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_api::pb::health::health_notifier_client::HealthNotifierClient;
use pomerium_api::pb::health::{ComponentStatus, HealthMessage, HealthStatus, HealthStreamRequest};
use pomerium_config::Loader;
use pomerium_config::settings::{RemoteDatabroker, Settings};
use tonic::{Code, Request, Status, Streaming};

use crate::cli::HealthWatchArgs;
use crate::commands::databroker::store::{parse, server_name};
use crate::commands::{environment, print, shared_secret};
use crate::server::core;
use crate::server::remote::Way;

/// Runs the command until the other side ends or breaks off, which is a failure.
pub fn run(args: &HealthWatchArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(follow(args))
}

async fn follow(args: &HealthWatchArgs) -> anyhow::Result<ExitCode> {
    let place = || format!("no word from the gRPC listener at {}", args.addr);
    let mut stream = ask(&way(args)?)
        .await
        .map_err(|status| explained(&status))
        .with_context(place)?;
    let mut told = None;
    loop {
        match stream
            .message()
            .await
            .map_err(|status| explained(&status))
            .with_context(place)?
        {
            // It says the same again every now and then.
            Some(state) if told.as_ref() != Some(&state) => {
                tell(&state);
                told = Some(state);
            }
            Some(_) => {}
            None => bail!("{} has ended", args.addr),
        }
    }
}

async fn ask(way: &Way) -> Result<Streaming<HealthMessage>, Status> {
    let (transport, token) = way.parts();
    let mut request = Request::new(HealthStreamRequest {});
    let token = token()
        .parse()
        .map_err(|_| Status::internal("the token of this process is none"))?;
    request.metadata_mut().insert("jwt", token);
    let answer = HealthNotifierClient::new(transport).sync_health(request).await?;
    Ok(answer.into_inner())
}

fn explained(status: &Status) -> anyhow::Error {
    let error = anyhow::anyhow!("{}", status.message());
    match status.code() {
        Code::Unauthenticated => {
            error.context("it does not take the shared secret; is it that of the other side?")
        }
        _ => error,
    }
}

fn way(args: &HealthWatchArgs) -> anyhow::Result<Way> {
    let url = match args.addr.contains("://") {
        true => args.addr.clone(),
        false => format!("http://{}", args.addr),
    };
    let mut remote = RemoteDatabroker {
        endpoints: vec![parse(&url)?],
        server_name: args.server_name.as_deref().map(str::to_lowercase),
    };
    let clock = Arc::new(SystemClock);
    let Some(settings) = settings(args)? else {
        return Way::of_secret(&remote, written(args)?, clock);
    };
    remote.server_name = remote.server_name.or_else(|| server_name(&settings));
    let shared = core::secret(settings.secrets.shared.expose(), "shared_secret")?;
    Way::of_tool(&remote, &settings, shared, clock)
}

fn settings(args: &HealthWatchArgs) -> anyhow::Result<Option<Settings>> {
    let Some(config) = &args.config else {
        return Ok(None);
    };
    let loaded = Loader::new(Some(config), &environment()).dry_run().load()?;
    Ok(Some(loaded.settings))
}

/// The secret of the command line, or else of the environment.
fn written(args: &HealthWatchArgs) -> anyhow::Result<[u8; 32]> {
    let text = args
        .shared_secret
        .clone()
        .or_else(shared_secret::of_environment)
        .context(
            "the shared secret is needed: set SHARED_SECRET, or give --config FILE or --shared-secret",
        )?;
    shared_secret::decoded(&text)
}

/// One line for the whole, one for each part.
fn tell(state: &HealthMessage) {
    let overall = name(state.overall_status().as_str_name());
    let now = SystemClock.now();
    match &state.overall_err {
        Some(problem) => print(&format!("{now:.0} {overall}: {problem}")),
        None => print(&format!("{now:.0} {overall}")),
    }
    let names: BTreeSet<&String> = state.statuses.keys().chain(&state.required).collect();
    for part in names {
        print(&format!("  {part}: {}", line(state.statuses.get(part))));
    }
}

fn line(part: Option<&ComponentStatus>) -> String {
    let Some(part) = part else {
        return "never reported".to_owned();
    };
    let status = match part.status() {
        HealthStatus::Unknown => "unknown".to_owned(),
        status => name(status.as_str_name()),
    };
    match &part.err {
        Some(error) => format!("{status}, {error}"),
        None => status,
    }
}

/// The last word of `OVERALL_STATUS_RUNNING`.
fn name(constant: &str) -> String {
    constant.rsplit('_').next().unwrap_or(constant).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_in_words() {
        let part = |status: HealthStatus, err: Option<&str>| ComponentStatus {
            status: status.into(),
            err: err.map(str::to_owned),
            ..ComponentStatus::default()
        };
        assert_eq!(line(None), "never reported");
        assert_eq!(line(Some(&part(HealthStatus::Running, None))), "running");
        assert_eq!(
            line(Some(&part(HealthStatus::Running, Some("disk full")))),
            "running, disk full"
        );
        assert_eq!(name("OVERALL_STATUS_STARTING"), "starting");
    }
}
