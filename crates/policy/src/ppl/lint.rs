//! Advice about policies that are right in form but seldom mean what they seem to (spec policy.md 0).

use std::fmt;

use super::{Action, Operator, Policy, Rule};
use crate::criteria;

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where in the policy.
    pub place: String,
    /// What it means as written.
    pub meaning: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.meaning)
    }
}

impl Policy {
    /// What deserves a second look, in the order of the policy.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for rule in &self.rules {
            lint_groups(rule, &mut warnings);
            lint_criteria(rule, &mut warnings);
        }
        if !self
            .rules
            .iter()
            .any(|rule| rule.action == Action::Allow && !rule.groups.is_empty())
        {
            warn(
                &mut warnings,
                "policy",
                "no `allow` rule holds a criterion: everybody gets 403, without a login",
            );
        }
        warnings
    }
}

fn warn(warnings: &mut Vec<Warning>, place: &str, meaning: impl Into<String>) {
    warnings.push(Warning {
        place: place.to_owned(),
        meaning: meaning.into(),
    });
}

fn lint_groups(rule: &Rule, warnings: &mut Vec<Warning>) {
    if let [first, _, ..] = rule.groups.as_slice() {
        let names: Vec<_> = rule
            .groups
            .iter()
            .map(|group| format!("`{}`", group.operator))
            .collect();
        let action = rule.action;
        let meaning = format!(
            "{} are alternatives: one of them is enough to {action}; put criteria that must hold together into one `and`",
            names.join(" and ")
        );
        warn(warnings, &first.place, meaning);
    }
    for group in rule
        .groups
        .iter()
        .filter(|group| group.operator == Operator::Nor && group.criteria.len() > 1)
    {
        warn(
            warnings,
            &group.place,
            "`nor` holds as soon as one of its criteria does not; for \"none of these\" write `not`",
        );
    }
}

fn lint_criteria(rule: &Rule, warnings: &mut Vec<Warning>) {
    if rule.action != Action::Deny {
        return;
    }
    for group in &rule.groups {
        if let Some(criterion) = group
            .criteria
            .iter()
            .find(|criterion| criteria::needs_session(&criterion.name))
        {
            warn(
                warnings,
                &criterion.place,
                format!(
                    "`{}` under `deny` makes everybody sign in, even on a public route",
                    criterion.name
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn warnings(policy: &Value) -> Vec<String> {
        Policy::parse(policy)
            .unwrap()
            .warnings()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_plain_policy_has_none() {
        assert!(warnings(&json!({"allow": {"and": [{"domain": "example.com"}]}})).is_empty());
    }

    #[test]
    fn traps_are_spelled_out() {
        let found = warnings(&json!({
            "allow": {"and": [{"accept": true}], "nor": [{"http_path": "/a"}, {"http_method": "GET"}]},
            "deny": {"or": [{"email": "user@example.com"}]}
        }));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("policy.allow.and: `and` and `nor` are alternatives"));
        assert!(found[1].contains("for \"none of these\" write `not`"));
        assert!(found[2].starts_with("policy.deny.or[0]: `email` under `deny` makes everybody sign in"));
    }

    #[test]
    fn a_policy_that_lets_nobody_in_says_so() {
        assert!(warnings(&json!({"allow": {}}))[0].contains("403, without a login"));
        assert!(warnings(&json!([]))[0].contains("403, without a login"));
    }
}
