//! Results of scripts beside those of the rules (spec policy.md 2): those of one action are alternatives. What is kept
//! is what has the value of the whole.

use std::sync::Arc;

use super::{Evaluation, Verdict};
use crate::input::Input;
use crate::reason::ReasonSet;
use crate::rego::Script;

/// Joins the results of the rules with those of the scripts. One that fails takes the result with it: what it would
/// deny is not known.
pub(super) fn with_scripts(rules: Evaluation, scripts: &[Script], input: &Input<'_>) -> Evaluation {
    let mut joined = rules;
    for script in scripts {
        match script.run(input) {
            Ok(outcome) => {
                joined.allow = either(joined.allow, outcome.allow);
                joined.deny = either(joined.deny, outcome.deny);
            }
            Err(failure) => {
                return Evaluation {
                    failure: Some(failure.into()),
                    ..Evaluation::default()
                };
            }
        }
    }
    joined
}

fn either(one: Verdict, other: Verdict) -> Verdict {
    match (one.value, other.value) {
        (true, false) => one,
        (false, true) => other,
        _ => Verdict {
            value: one.value,
            reasons: ReasonSet::union(one.reasons, other.reasons),
            other: union(one.other, other.other),
            // Of several the last in the alphabet counts.
            device_type: one.device_type.max(other.device_type),
        },
    }
}

fn union(one: Option<Arc<[Box<str>]>>, other: Option<Arc<[Box<str>]>>) -> Option<Arc<[Box<str>]>> {
    let (Some(some), Some(others)) = (&one, &other) else {
        return one.or(other);
    };
    let mut all: Vec<Box<str>> = some.iter().chain(others.iter()).cloned().collect();
    all.sort_unstable();
    all.dedup();
    Some(all.into())
}

/// The scripts that stand in the way of a request.
pub(super) struct InTheWay {
    /// Whether they do so by a denial.
    pub(super) deny: bool,
    pub(super) names: Vec<String>,
}

/// Scripts that deny; when neither they nor the rules do, those that do not allow.
pub(super) fn stand_in_the_way(scripts: &[Script], input: &Input<'_>, rules_deny: bool) -> InTheWay {
    let named = |script: &Script| format!("Rego policy {}", script.name());
    let results: Vec<_> = scripts.iter().map(|script| (script, script.run(input))).collect();
    let denies = |(script, result): &(&Script, Result<_, String>)| match result {
        Ok(crate::rego::Outcome { deny, .. }) => deny.value.then(|| named(script)),
        Err(_) => Some(named(script)),
    };
    let names: Vec<String> = results.iter().filter_map(denies).collect();
    if rules_deny || !names.is_empty() {
        return InTheWay { deny: true, names };
    }
    InTheWay {
        deny: false,
        names: scripts.iter().map(named).collect(),
    }
}
