//! Benchmarks: CPU per request and memory, side by side with nginx, haproxy and Envoy.
//!
//! Run through `cargo xtask bench`, which builds with the `dist` profile and gets the rivals. The method
//! is in docs/performance.md. Start at [`compare`]; [`routes`] and [`startup`] measure what only
//! concerns Pomerium. The hidden commands are the other ends of the wire, in processes of their own so
//! that their CPU does not count.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a terminal program")]

mod authorizer;
mod compare;
mod load;
mod process;
mod report;
mod rivals;
mod routes;
mod startup;
mod statistics;
mod upstream;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    /// Only these rows, by a part of their name
    #[arg(long)]
    only: Vec<String>,
    /// Leave out the parts about start-up and numbers of routes
    #[arg(long)]
    comparison_only: bool,
    /// Replace the measured section of this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Answers 100 bytes to everything
    #[command(hide = true)]
    Upstream,
    /// An external authorizer that allows everything
    #[command(hide = true)]
    Authorizer,
}

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
        Some(_) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        match cli.role {
            Some(Role::Upstream) => upstream::serve().await,
            Some(Role::Authorizer) => authorizer::serve().await,
            // What was started ends with what started it, also when someone loses patience.
            None => tokio::select! {
                result = Box::pin(measure(&cli)) => result,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            },
        }
    })
}

async fn measure(cli: &Cli) -> Result<()> {
    let size = Size {
        requests: cli.requests,
        runs: cli.runs,
    };
    let mut text = compare::run(size, &cli.only).await?;
    if !cli.comparison_only {
        text.push_str(&startup::run(size).await?);
        text.push_str(&routes::run(size).await?);
    }
    println!("{text}");
    if let Some(file) = &cli.write {
        report::write(file, &text)?;
    }
    Ok(())
}
