//! PPL as people write it: the tree, reading it from a JSON value, printing it back, and advice.
//!
//! Nothing here knows what a criterion means; that is `criteria` and `compile`. Start at [`Policy`].

use std::fmt;

use serde_json::Value;

mod error;
mod lint;
mod parse;
mod place;
mod print;

pub use error::ParseError;
pub use lint::{Lint, Warning};
pub use place::{Place, Setting};

/// A policy: rules, whose order does not matter (spec policy.md 1).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// The rules, `allow` before `deny` inside one object of the source.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// The same rules at other places, which errors and denials then name.
    #[must_use]
    pub fn placed(mut self, place: impl Fn(&str) -> String) -> Self {
        for group in self.rules.iter_mut().flat_map(|rule| &mut rule.groups) {
            group.place = Place::setting(place(&group.place.to_string()), None);
            for criterion in &mut group.criteria {
                criterion.place = Place::setting(place(&criterion.place.to_string()), None);
            }
        }
        self
    }
}

/// One action with its groups of criteria. The groups are alternatives: one that holds is enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What the rule does when a group holds.
    pub action: Action,
    /// Groups that hold at least one criterion, in the order and, or, not, nor.
    pub groups: Vec<Group>,
}

/// Criteria under one operator.
#[derive(Debug, Clone)]
pub struct Group {
    /// How the criteria combine.
    pub operator: Operator,
    /// The criteria, never empty.
    pub criteria: Vec<Criterion>,
    /// Where it stands: `policy[0].allow.or`, or the route settings it comes from.
    pub place: Place,
}

/// One condition.
#[derive(Debug, Clone)]
pub struct Criterion {
    /// Name, before the first `/` of the key.
    pub name: String,
    /// All after the first `/`; empty when there is none.
    pub sub_path: String,
    /// What it is given.
    pub data: Value,
    /// Where it stands: `policy[0].allow.or[1]`, `allowed_users[2]`.
    pub place: Place,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Lets in.
    Allow,
    /// Keeps out, whatever is allowed.
    Deny,
}

/// How the criteria of a group combine (spec policy.md 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operator {
    /// All hold.
    And,
    /// At least one holds.
    Or,
    /// None holds.
    Not,
    /// At least one does not hold.
    Nor,
}

impl Action {
    /// The key in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Deny => "deny",
        }
    }
}

impl Operator {
    /// All operators, in the order in which they are read and printed.
    pub const ALL: [Operator; 4] = [Operator::And, Operator::Or, Operator::Not, Operator::Nor];

    /// The key in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operator::And => "and",
            Operator::Or => "or",
            Operator::Not => "not",
            Operator::Nor => "nor",
        }
    }

    /// What it means, for people: `nor` is not what its name says.
    pub const fn meaning(self) -> &'static str {
        match self {
            Operator::And => "all of these hold",
            Operator::Or => "at least one of these holds",
            Operator::Not => "none of these holds",
            Operator::Nor => "at least one of these does not hold",
        }
    }
}

impl Criterion {
    /// The key in a policy: the name, and `/` and the sub-path when there is one.
    pub fn key(&self) -> String {
        if self.sub_path.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.name, self.sub_path)
        }
    }
}

impl PartialEq for Criterion {
    /// The same condition, wherever it stands.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.sub_path == other.sub_path && self.data == other.data
    }
}

impl PartialEq for Group {
    /// The same group, wherever it stands.
    fn eq(&self, other: &Self) -> bool {
        self.operator == other.operator && self.criteria == other.criteria
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
