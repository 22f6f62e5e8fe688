//! Policy cases, judged as `pomerium policy test` judges those of people.

use anyhow::Result;
use pomerium::commands::policy::edge::Product;
use pomerium_authorize::conformance::{self, CaseOutcome};

use crate::{Verdict, Weight};

/// Runs the cases of a file.
pub(crate) fn run(text: &str) -> Result<Vec<Verdict>> {
    let verdicts = conformance::run(text, &Product::default())?
        .into_iter()
        .map(|case| Verdict {
            name: case.name,
            weight: match (case.enterprise, case.unsure) {
                (true, _) => Weight::Enterprise,
                (_, true) => Weight::Unsure,
                _ => Weight::Counted,
            },
            differences: match case.outcome {
                CaseOutcome::Pass => Vec::new(),
                CaseOutcome::Fail(lines) => lines,
                CaseOutcome::NotBuilt(what) => vec![format!("not built yet: {what}")],
            },
        });
    Ok(verdicts.collect())
}
