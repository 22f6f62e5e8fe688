//! `pomerium policy test`: the cases that people keep beside their configuration.

use std::process::ExitCode;

use anyhow::Context;
use pomerium_authorize::conformance::{self, CaseOutcome, CaseResult};
use pomerium_policy::explain::text;
use serde_json::{Value, json};

use super::super::print;
use super::args::TestArgs;
use super::edge::Product;
use super::source::{self, Routes};

pub(super) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref();
    let routes = config.map(|config| Routes::load(config, false)).transpose()?;
    let edge = Product {
        routes: routes.as_ref(),
    };
    let (mut passed, mut failed) = (0_u64, 0_u64);
    for path in &args.files {
        let file = source::document(path)?;
        let results = conformance::run_file(file.clone(), &edge)
            .with_context(|| format!("{} is no case file", path.display()))?;
        for case in results.iter().filter(|case| case.name.contains(&args.filter)) {
            if case.outcome == CaseOutcome::Pass {
                passed += 1;
            } else {
                failed += 1;
                show(case, &path.display().to_string());
                if args.verbose {
                    explain(&file, &case.name, &edge);
                }
            }
        }
    }
    print(&format!("{passed} passed, {failed} failed"));
    // A filter that matches nothing, or a file without cases, has proved nothing.
    Ok(super::code(failed == 0 && passed > 0))
}

fn show(case: &CaseResult, file: &str) {
    print(&format!("FAILED {file}: {}", case.name));
    match &case.outcome {
        CaseOutcome::Pass => {}
        CaseOutcome::Fail(differences) => {
            for line in differences.iter().flat_map(|difference| difference.lines()) {
                print(&format!("    {line}"));
            }
        }
    }
}

fn explain(file: &Value, name: &str, edge: &Product<'_>) {
    match conformance::explain(file.clone(), name, edge) {
        Ok(explained) => {
            let tree = json!(explained.tree);
            for line in text(&tree).lines() {
                print(&format!("    {line}"));
            }
        }
        Err(problem) => print(&format!("    it cannot be explained: {problem}")),
    }
}
