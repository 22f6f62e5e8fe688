//! The same judgement as [`Program::evaluate`](crate::Program::evaluate), told in full: every group, every
//! criterion, what it wanted, what it looked at, what came of it.
//!
//! [`Tree`] is the judgement, [`text`] prints it for people, [`Tree::grounds`] picks what decided.

mod grounds;
mod text;

use serde::Serialize;
use serde_json::Value;

use crate::input::Input;
use crate::ppl::{Action, Operator};
use crate::program::{CompiledGroup, Program, Verdict};
use crate::reason::{Reason, ReasonSet};
use crate::rego::Script;

pub use text::text;

/// An explained evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tree {
    /// The `allow` side.
    pub allow: ActionTree,
    /// The `deny` side.
    pub deny: ActionTree,
    /// The scripts beside the rules; their results count on both sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<ScriptTree>,
}

/// What a script in Rego said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScriptTree {
    /// Its name.
    pub name: String,
    /// Whether it allows.
    pub allow: bool,
    /// Whether it denies.
    pub deny: bool,
    /// Its reasons for both, by name, sorted.
    pub reasons: Vec<String>,
    /// Why there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// One action: its groups are alternatives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionTree {
    /// Whether the action applies.
    pub value: bool,
    /// Why.
    pub reasons: ReasonSet,
    /// Further reasons, in the words of custom Rego.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_reasons: Vec<String>,
    /// The groups.
    pub groups: Vec<GroupTree>,
}

/// One group of criteria.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupTree {
    /// Where it stands.
    pub place: String,
    /// How its criteria combine.
    pub operator: Operator,
    /// The same in words.
    pub meaning: &'static str,
    /// Whether it holds.
    pub value: bool,
    /// Why.
    pub reasons: ReasonSet,
    /// Its criteria.
    pub criteria: Vec<CriterionTree>,
}

/// One criterion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CriterionTree {
    /// Where it stands.
    pub place: String,
    /// Name and sub-path.
    pub criterion: String,
    /// What it wants, as written.
    pub wants: Value,
    /// What it looked at; null when there was nothing.
    pub found: Value,
    /// Whether it holds, before its group turns it round.
    pub holds: bool,
    /// Why.
    pub reason: Reason,
}

impl Program {
    /// Judges one request and tells how. Slow beside [`Program::evaluate`]; the result is the same.
    pub fn explain(&self, input: &Input<'_>) -> Tree {
        let evaluation = self.evaluate(input);
        Tree {
            allow: self.action(Action::Allow, &evaluation.allow, input),
            deny: self.action(Action::Deny, &evaluation.deny, input),
            scripts: self
                .scripts()
                .iter()
                .map(|script| explain_script(script, input))
                .collect(),
        }
    }

    fn action(&self, action: Action, verdict: &Verdict, input: &Input<'_>) -> ActionTree {
        let groups = self
            .groups(action)
            .iter()
            .map(|group| explain_group(group, input))
            .collect();
        ActionTree {
            value: verdict.value,
            reasons: verdict.reasons,
            other_reasons: verdict
                .other
                .iter()
                .flat_map(|other| other.iter())
                .map(|reason| reason.to_string())
                .collect(),
            groups,
        }
    }
}

fn explain_script(script: &Script, input: &Input<'_>) -> ScriptTree {
    let name = script.name().to_owned();
    match script.run(input) {
        Ok(outcome) => {
            let names = outcome.allow.names().into_iter().chain(outcome.deny.names());
            let mut reasons: Vec<String> = names.map(str::to_owned).collect();
            reasons.sort_unstable();
            reasons.dedup();
            ScriptTree {
                name,
                allow: outcome.allow.value,
                deny: outcome.deny.value,
                reasons,
                failure: None,
            }
        }
        Err(failure) => ScriptTree {
            name,
            allow: false,
            deny: false,
            reasons: Vec::new(),
            failure: Some(failure),
        },
    }
}

fn explain_group(group: &CompiledGroup, input: &Input<'_>) -> GroupTree {
    let criteria = group.checks.iter().map(|check| {
        let (holds, reason) = check.test.run(input);
        CriterionTree {
            place: check.place.to_string(),
            criterion: check.key.clone().into_owned(),
            wants: check.data(),
            found: check.test.looks_at(input),
            holds,
            reason,
        }
    });
    let criteria = criteria.collect();
    let verdict = group.evaluate(input);
    GroupTree {
        place: group.place.to_string(),
        operator: group.operator,
        meaning: group.operator.meaning(),
        value: verdict.value,
        reasons: verdict.reasons,
        criteria,
    }
}
