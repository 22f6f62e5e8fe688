//! `cargo xtask supply`: licences and banned crates, against `deny.toml`.
//!
//! cargo-deny does it where it is installed, and looks at advisories too. Elsewhere this file does the
//! two checks that need nothing but cargo. It reads what is really built (`cargo tree`), not the lock
//! file: an optional crate that no feature switches on may stay in the lock.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::run::{cargo, check, output, root};

#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

/// The platforms that count: what is compiled on none of them (a browser, say) is not ours to judge.
#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// A crate that may have other licences.
#[derive(Deserialize)]
struct Exception {
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    name: String,
}

/// Runs cargo-deny, or the built-in checks.
pub fn run() -> Result<()> {
    if output(&mut cargo(["deny", "--version"])).is_ok() {
        return check(&mut cargo(["deny", "check", "bans", "licenses", "sources"]));
    }
    let text = std::fs::read_to_string(root().join("deny.toml")).context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("deny.toml")?;
    let trees: Vec<String> = rules
        .graph
        .targets
        .iter()
        .map(|target| tree(target))
        .collect::<Result<_>>()?;
    let (count, faults) = faults(&rules, &trees.concat());
    if !faults.is_empty() {
        faults.iter().for_each(|fault| println!("supply: {fault}"));
        bail!(
            "{} fault(s) in the dependencies; the rules are in deny.toml",
            faults.len()
        );
    }
    println!(
        "supply: {count} crates, licences allowed, none banned (cargo-deny is not installed: advisories not checked)"
    );
    Ok(())
}

/// Every crate that is built for `target`, with its licence.
fn tree(target: &str) -> Result<String> {
    output(&mut cargo([
        "tree",
        "--locked",
        "--workspace",
        "--target",
        target,
        "--edges=normal,build,dev",
        "--prefix=none",
        "--format={p}\t{l}",
    ]))
}

fn faults(rules: &Rules, tree: &str) -> (usize, BTreeSet<String>) {
    let crates: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    let mut faults = BTreeSet::new();
    for line in &crates {
        let (package, license) = line.split_once('\t').unwrap_or((line, ""));
        let name = package.split(' ').next().unwrap_or_default();
        if rules.bans.deny.iter().any(|banned| banned.name == name) {
            faults.insert(format!(
                "`{package}` is banned; find who needs it with `cargo tree -i {name}`"
            ));
        }
        let excepted = rules
            .licenses
            .exceptions
            .iter()
            .find(|exception| exception.name == name);
        let allow = excepted.map_or(&rules.licenses.allow, |exception| &exception.allow);
        if !license_allowed(license, allow) {
            faults.insert(format!(
                "`{package}` has the licence `{license}`, which is not on the list"
            ));
        }
    }
    (crates.len(), faults)
}

/// Whether an SPDX expression can be met with allowed licences alone. `/` is the old spelling of OR.
fn license_allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Spdx {
        tokens: &tokens,
        at: 0,
        allow,
    };
    let allowed = parser.any_of();
    allowed && parser.at == tokens.len()
}

/// Recursive descent over `a OR b`, `a AND b`, `a WITH x`, parentheses; AND binds tighter.
struct Spdx<'a> {
    tokens: &'a [&'a str],
    at: usize,
    allow: &'a [String],
}

impl Spdx<'_> {
    fn any_of(&mut self) -> bool {
        let mut value = self.all_of();
        while self.take("OR") {
            value |= self.all_of();
        }
        value
    }

    fn all_of(&mut self) -> bool {
        let mut value = self.one();
        while self.take("AND") {
            value &= self.one();
        }
        value
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let value = self.any_of();
            return self.take(")") && value;
        }
        let Some(name) = self.tokens.get(self.at) else {
            return false;
        };
        self.at += 1;
        let mut license = (*name).to_owned();
        if self.take("WITH")
            && let Some(exception) = self.tokens.get(self.at)
        {
            self.at += 1;
            license = format!("{license} WITH {exception}");
        }
        self.allow.contains(&license)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at) == Some(&token);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> bool {
        license_allowed(
            expression,
            &[
                "MIT".into(),
                "ISC".into(),
                "Apache-2.0 WITH LLVM-exception".into(),
            ],
        )
    }

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        assert!(allowed("MIT"));
        assert!(allowed("GPL-3.0-only OR MIT"));
        assert!(allowed("Unlicense/MIT"));
        assert!(allowed("ISC AND (GPL-3.0-only OR MIT)"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(!allowed("Apache-2.0"));
        assert!(!allowed("MIT AND GPL-3.0-only"));
        assert!(!allowed("GPL-3.0-only AND MIT OR GPL-2.0-only"));
        assert!(!allowed(""));
        assert!(!allowed("MIT MIT"));
    }

    #[test]
    fn a_banned_crate_and_a_foreign_licence_are_both_named() {
        let rules: Rules = toml::from_str(
            "graph.targets = []\nlicenses.allow = [\"MIT\"]\nbans.deny = [{ name = \"ring\" }]",
        )
        .unwrap();
        let tree = "a v1.0.0\tMIT\na v1.0.0\tMIT (*)\nring v0.17.0\tMIT\nb v2.0.0\tAGPL-3.0-only\n";
        let (count, faults) = faults(&rules, tree);
        assert_eq!(count, 3);
        assert_eq!(faults.len(), 2);
        assert!(
            faults
                .iter()
                .any(|fault| fault.contains("`ring v0.17.0` is banned"))
        );
        assert!(faults.iter().any(|fault| fault.contains("AGPL-3.0-only")));
    }
}
