//! The program behind `cargo xtask conformance`: runs case files and counts honestly.
//!
//! Prints each failure with its difference, then what is counted apart, and last `N passed, N failed`.
//! The exit code is 1 when a case failed. Reading and judging cases is the work of the rooms.
#![allow(clippy::print_stdout, reason = "a terminal program")]

mod ppl;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use pomerium_config::conformance as config;
use pomerium_testing::routing;

#[derive(Debug, Parser)]
struct Cli {
    #[arg(value_enum)]
    kind: Kind,
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    filter: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Config,
    Ppl,
    Routing,
}

/// How a case counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Passed or failed.
    Counted,
    /// The expectation itself is a guess.
    Unsure,
    /// About something the original only sells; run, but owed to nobody.
    Enterprise,
}

/// What came of one case.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) weight: Weight,
    /// Empty: passed.
    pub(crate) differences: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let mut verdicts = Vec::new();
    for file in &cli.files {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        match cli.kind {
            Kind::Config => verdicts.extend(run_config(&text)?),
            Kind::Ppl => verdicts.extend(ppl::run(&text)?),
            Kind::Routing => verdicts.extend(run_routing(
                routing::run(file, &cli.filter, pomerium_tests::records::seed).await?,
            )),
        }
    }
    verdicts.retain(|verdict| verdict.name.contains(&cli.filter));
    Ok(report(&verdicts))
}

fn run_config(text: &str) -> Result<Vec<Verdict>> {
    let verdicts = config::run(text)?.cases.into_iter().map(|case| {
        let (weight, differences) = match case.outcome {
            config::CaseOutcome::Pass => (Weight::Counted, Vec::new()),
            config::CaseOutcome::Fail(lines) => (Weight::Counted, lines),
            config::CaseOutcome::Unsure(lines) => (Weight::Unsure, lines),
        };
        Verdict {
            name: case.name,
            weight,
            differences,
        }
    });
    Ok(verdicts.collect())
}

fn run_routing(outcomes: Vec<routing::Outcome>) -> Vec<Verdict> {
    let verdict = |outcome: routing::Outcome| Verdict {
        name: outcome.name,
        weight: if outcome.unsure {
            Weight::Unsure
        } else {
            Weight::Counted
        },
        differences: outcome.differences,
    };
    outcomes.into_iter().map(verdict).collect()
}

fn report(verdicts: &[Verdict]) -> ExitCode {
    for verdict in verdicts.iter().filter(|verdict| !verdict.differences.is_empty()) {
        let word = match verdict.weight {
            Weight::Counted => "FAILED",
            Weight::Unsure => "unsure",
            Weight::Enterprise => "enterprise",
        };
        println!("{word} {}", verdict.name);
        for line in verdict
            .differences
            .iter()
            .flat_map(|difference| difference.lines())
        {
            println!("    {line}");
        }
    }
    for (weight, word) in [
        (Weight::Unsure, "unsure"),
        (Weight::Enterprise, "enterprise only"),
    ] {
        let (agree, differ) = counts(verdicts, weight);
        if agree + differ > 0 {
            println!("{word}: {agree} agree, {differ} differ");
        }
    }
    let (passed, failed) = counts(verdicts, Weight::Counted);
    println!("{passed} passed, {failed} failed");
    // A filter that matches nothing has proved nothing.
    ExitCode::from(u8::from(failed > 0 || verdicts.is_empty()))
}

fn counts(verdicts: &[Verdict], weight: Weight) -> (usize, usize) {
    let all = verdicts.iter().filter(|verdict| verdict.weight == weight);
    let passed = all
        .clone()
        .filter(|verdict| verdict.differences.is_empty())
        .count();
    (passed, all.count() - passed)
}
