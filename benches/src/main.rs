//! Benchmarks: CPU per request and memory, side by side with nginx, haproxy and Envoy.
//!
//! Run through `cargo xtask bench`, which builds with the `dist` profile and gets the rivals. The method
//! is in docs/performance.md. Start at [`compare`]; [`routes`] and [`startup`] measure what only
//! concerns Pomerium. The hidden commands are the other ends of the wire, in processes of their own so
//! that their CPU does not count.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a terminal program")]

mod authorizer;
mod bodies;
mod chaos;
mod compare;
mod databroker;
mod decisions;
mod http3;
mod load;
mod many;
mod policies;
mod process;
mod reloads;
mod report;
mod rivals;
mod routes;
mod soak;
mod sockets;
mod startup;
mod statistics;
mod upstream;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

/// Measures Pomerium beside nginx, haproxy and Envoy.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// Requests of one run
    #[arg(long, default_value_t = 20_000)]
    requests: u32,
    /// Runs of each row; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Records of the databroker's measurements
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Only these rows, by a part of their name
    #[arg(long)]
    only: Vec<String>,
    /// Only these parts; all unless given
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Replace the measured section of this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// A section of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU per request and memory beside the others
    Comparison,
    /// HTTP/3 beside HTTP/2
    Http3,
    /// Checks of Envoy's external authorization beside grpc-go
    Decisions,
    /// Policies: a decision, and compiling many
    Policies,
    /// Large bodies beside nginx
    Bodies,
    /// Start-up and idle memory
    Startup,
    /// Numbers of routes
    Routes,
    /// Ten thousand routes: loading, changing, memory
    Many,
    /// Idle WebSockets
    Sockets,
    /// Reloads under load
    Reloads,
    /// The databroker: stores, sync, failover
    Databroker,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Mixed load for a while; fails when a request fails or memory grows
    Soak {
        /// How long
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// Databrokers that are killed at random moments; fails when anything acknowledged is lost
    Chaos(chaos::Chaos),
    /// Writes to a file store until it is killed
    #[command(hide = true)]
    ChaosWriter(chaos::Writer),
    /// Holds WebSockets open
    #[command(hide = true)]
    Holder(sockets::Holder),
    /// Answers 100 bytes to everything
    #[command(hide = true)]
    Upstream,
    /// An external authorizer that allows everything
    #[command(hide = true)]
    Authorizer,
}

/// Idle WebSockets of the measurement.
const SOCKETS: usize = 8_000;
/// Reloads of the measurement.
const RELOADS: usize = 1_000;

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Requests of one run.
    pub requests: u32,
    /// Runs of each row.
    pub runs: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut runtime = match cli.role {
        // The other ends of the wire use one thread, so that the proxy has the other core.
        Some(Role::Upstream | Role::Authorizer | Role::Holder(_)) => {
            tokio::runtime::Builder::new_current_thread()
        }
        Some(Role::Soak { .. } | Role::Chaos(_) | Role::ChaosWriter(_)) | None => {
            tokio::runtime::Builder::new_multi_thread()
        }
    };
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        match &cli.role {
            Some(Role::Upstream) => upstream::serve().await,
            Some(Role::Authorizer) => authorizer::serve().await,
            Some(Role::Holder(holder)) => sockets::hold(holder.clone()).await,
            Some(Role::ChaosWriter(writer)) => chaos::writer(writer).await,
            Some(Role::Chaos(chaos)) => tokio::select! {
                result = Box::pin(chaos::run(chaos)) => result,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            },
            Some(Role::Soak { minutes }) => tokio::select! {
                result = Box::pin(soak::run(*minutes)) => result,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            },
            // What was started ends with what started it, also when someone loses patience.
            None => tokio::select! {
                result = Box::pin(measure(&cli)) => result,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            },
        }
    })
}

/// The parts in the order of the report.
const PARTS: [Part; 11] = [
    Part::Comparison,
    Part::Http3,
    Part::Decisions,
    Part::Policies,
    Part::Bodies,
    Part::Startup,
    Part::Routes,
    Part::Many,
    Part::Sockets,
    Part::Reloads,
    Part::Databroker,
];

/// Measures one part and tells what came of it.
async fn section(part: Part, size: Size, cli: &Cli) -> Result<String> {
    match part {
        Part::Comparison => compare::run(size, &cli.only).await,
        Part::Http3 => http3::run(size).await,
        Part::Decisions => decisions::run(size).await,
        Part::Policies => policies::run(size.runs),
        Part::Bodies => bodies::run(size).await,
        Part::Startup => startup::run(size).await,
        Part::Routes => routes::run(size).await,
        Part::Many => many::run(size.runs).await,
        Part::Sockets => sockets::run(SOCKETS).await,
        Part::Reloads => reloads::run(RELOADS).await,
        Part::Databroker => databroker::run(cli.records, &cli.only).await,
    }
}

async fn measure(cli: &Cli) -> Result<()> {
    let size = Size {
        requests: cli.requests,
        runs: cli.runs,
    };
    let mut text = String::new();
    for part in PARTS {
        if cli.part.is_empty() || cli.part.contains(&part) {
            text.push_str(&Box::pin(section(part, size, cli)).await?);
        }
    }
    println!("{text}");
    if let Some(file) = &cli.write {
        report::write(file, &text)?;
    }
    Ok(())
}
