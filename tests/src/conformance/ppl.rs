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
            },
        });
    Ok(verdicts.collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::Context as _;
    use pomerium_authorize::conformance::Edge as _;
    use serde_json::{Value, json};

    use super::*;

    fn at(path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join(path))
    }

    fn all_pass(text: &str, least: usize) -> Result<()> {
        let verdicts = run(text)?;
        assert!(verdicts.len() >= least, "only {} cases", verdicts.len());
        let failed: Vec<_> = verdicts
            .iter()
            .filter(|verdict| !verdict.differences.is_empty())
            .map(|verdict| format!("{}: {:?}", verdict.name, verdict.differences))
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    }

    #[test]
    fn every_policy_case_passes_whole() -> Result<()> {
        for (file, least) in [("ppl.json", 228), ("ppl-more.json", 240)] {
            all_pass(&std::fs::read_to_string(at("cases")?.join(file))?, least)?;
        }
        Ok(())
    }

    /// Each policy of the guide with the cases behind it: what is known, and whether it lets in.
    #[test]
    fn the_policies_of_the_guide_let_in_whom_they_say() -> Result<()> {
        let text = std::fs::read_to_string(at("../docs/policy.md")?)?;
        let mut cases = Vec::new();
        for (number, block) in text.split("```yaml policy\n").skip(1).enumerate() {
            let (policy, rest) = block.split_once("\n```\n").context("a policy without an end")?;
            let rest = rest
                .strip_prefix("```json cases\n")
                .context("a policy without cases")?;
            let (lines, _) = rest.split_once("\n```").context("cases without an end")?;
            for (line, text) in lines.lines().enumerate() {
                let case: Value = serde_json::from_str(text)?;
                let upstream = case["allow"]
                    .as_bool()
                    .context("a case that does not say who gets in")?;
                cases.push(json!({
                    "name": format!("policy {number}, case {line}"),
                    "policy_yaml": policy,
                    "input": case["in"],
                    "expect": {"upstream": upstream},
                }));
            }
        }
        all_pass(&json!({ "cases": cases }).to_string(), 18)
    }

    /// Text that would take all memory or the stack is an error, as it is in a configuration file.
    #[test]
    fn hostile_text_is_an_error() {
        let nested = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
        let deep = format!("allow: {}1", "\n- ".repeat(50_000).replace('\n', " "));
        let cyclic = "allow: &a {or: [*a]}".to_owned();
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let last = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![last; 8].join(", "));
        }
        for text in [nested, deep, cyclic, bomb] {
            assert!(
                Product::default().yaml(&text).is_err(),
                "{}",
                &text[..60.min(text.len())]
            );
        }
    }
}
