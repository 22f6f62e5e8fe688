//! `pomerium policy lint`: a review of policies, for people and for their CI.

use std::path::Path;
use std::process::ExitCode;

use pomerium_config::{Sort, tidy};
use pomerium_policy::Program;

use super::super::print;
use super::args::LintArgs;
use super::source::{self, Routes};

pub(super) fn run(args: &LintArgs) -> anyhow::Result<ExitCode> {
    let mut found = 0_u64;
    if let Some(config) = &args.config {
        let routes = Routes::load(config, true)?;
        for warning in &routes.warnings {
            let Sort::Policy(lint) = warning.sort else {
                continue;
            };
            if wanted(args, lint.as_str()) {
                found += 1;
                let at = warning.location();
                print(&format!(
                    "{at}: [{}] {}: {}",
                    lint.as_str(),
                    warning.key,
                    warning.message
                ));
            }
        }
    }
    for path in &args.files {
        found += review(path, args)?;
    }
    if found == 0 {
        print("nothing to say");
    }
    Ok(super::code(found == 0))
}

fn wanted(args: &LintArgs, name: &str) -> bool {
    !args.allow.iter().any(|allowed| allowed == name)
}

/// Reviews a document; how much there is to say about it.
fn review(path: &Path, args: &LintArgs) -> anyhow::Result<u64> {
    let text = source::text(path)?;
    let shown = path.display();
    let mut found = 0;
    let (policy, line) = match tidy::policy(&text, source::form(path)) {
        Ok(parsed) => parsed,
        Err(mistakes) => {
            for mistake in &mistakes {
                print(&format!("{shown}: error: {mistake}"));
            }
            return Ok(mistakes.len() as u64);
        }
    };
    if let Err(mistakes) = Program::compile_all(&policy) {
        for mistake in mistakes {
            found += 1;
            print(&format!("{shown}:{}: error: {mistake}", line(mistake.place())));
        }
    }
    for warning in policy.lint() {
        if wanted(args, warning.lint.as_str()) {
            found += 1;
            let name = warning.lint.as_str();
            print(&format!("{shown}:{}: [{name}] {warning}", line(&warning.place)));
        }
    }
    Ok(found)
}
