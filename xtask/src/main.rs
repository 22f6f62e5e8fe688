//! Project tasks, run as `cargo xtask TASK`.
//!
//! Each task is one file. They print to the terminal and end with the exit code that CI reads. Nothing
//! of the product lives here, and nothing here is linked into it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a terminal program")]

mod bench;
mod chaos;
mod ci;
mod conformance;
mod failures;
mod layers;
mod run;
mod setup;
mod supply;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of this project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Get what tests or benchmarks need: Debian packages and npm packages, into a cache
    Setup {
        /// What for
        #[arg(value_enum, default_value = "test")]
        what: setup::Purpose,
    },
    /// Get what tests need, then run them all
    Test {
        /// Arguments for `cargo test`: `-p pomerium-web`, a filter, `-- --nocapture`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What must pass before a change lands: format, lints, layers, tests, licences and bans
    Ci,
    /// Check that dependencies between rooms only point down
    Layers,
    /// Check licences and banned crates against deny.toml
    Supply,
    /// Run case files against the program
    Conformance {
        /// What the cases are about
        #[arg(value_enum)]
        kind: conformance::Kind,
        /// Case files
        #[arg(required = true)]
        files: Vec<std::path::PathBuf>,
        /// Only cases whose name contains this
        #[arg(long)]
        filter: Option<String>,
    },
    /// Mixed load for a while: no request may fail, memory may not grow
    Soak {
        /// How long
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// Kill processes at random moments: nothing that was acknowledged may be lost
    Chaos(chaos::Chaos),
    /// Measure beside nginx, haproxy and Envoy; builds with the `dist` profile
    Bench {
        /// Arguments for the benchmark program: see `cargo xtask bench -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup { what } => setup::run(what).map(|tools| tools.print()),
        Task::Test { args } => test::run(&args),
        Task::Ci => ci::run(),
        Task::Layers => layers::run(),
        Task::Supply => supply::run(),
        Task::Conformance { kind, files, filter } => conformance::run(kind, &files, filter.as_deref()),
        Task::Chaos(chaos) => chaos::run(&chaos),
        Task::Bench { args } => bench::run(&args),
        Task::Soak { minutes } => bench::soak(minutes),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
