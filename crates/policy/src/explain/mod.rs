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

pub use text::text;

/// An explained evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tree {
    /// The `allow` side.
    pub allow: ActionTree,
    /// The `deny` side.
    pub deny: ActionTree,
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

fn explain_group(group: &CompiledGroup, input: &Input<'_>) -> GroupTree {
    let criteria = group.checks.iter().map(|check| {
        let (holds, reason) = check.test.run(input);
        CriterionTree {
            place: check.place.to_string(),
            criterion: check.key.to_string(),
            wants: check.data.clone(),
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
