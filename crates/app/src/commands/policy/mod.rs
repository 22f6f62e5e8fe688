//! `pomerium policy`: policies explained, tested, replayed, formatted and reviewed, without running anything.
//!
//! Thin: judging is `pomerium-authorize`, policies are `pomerium-policy`, files are `pomerium-config`. One file a
//! command; [`args`] is what can be typed.

pub mod args;
pub mod edge;
mod explain;
mod fmt;
mod lint;
mod logs;
mod replay;
mod request;
pub mod source;
mod test;

use std::process::ExitCode;

use args::PolicyCommand;

/// Runs a command.
pub fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Explain(args) => explain::run(args),
        PolicyCommand::Test(args) => test::run(args),
        PolicyCommand::Replay(args) => replay::run(args),
        PolicyCommand::Lint(args) => lint::run(args),
        PolicyCommand::Fmt(args) => fmt::run(args),
    }
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
