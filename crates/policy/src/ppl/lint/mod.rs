//! Advice about policies that are right in form but seldom mean what they seem to (spec policy.md 0).
//!
//! [`Policy::warnings`] is what the start-up log says: forms whose meaning surprises, and conditions that can never
//! hold. [`Policy::lint`] adds what is right but worth a look in a review: rules that change nothing, and rules that
//! let everybody in. How conditions are compared is in [`compare`], how rules are in [`alternatives`].

mod alternatives;
mod compare;
mod text;

use std::fmt;

use super::{Action, Operator, Policy, Rule};
use crate::criteria;

/// What sort of advice it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lint {
    /// Several operators in one rule are alternatives.
    Alternatives,
    /// `nor` is not what its name says.
    Nor,
    /// A `deny` rule that makes everybody sign in.
    DenyNeedsLogin,
    /// Nobody is let in.
    Empty,
    /// A condition that can never hold.
    Impossible,
    /// A rule that changes nothing, because another one covers it.
    Shadowed,
    /// Everybody is let in.
    Public,
    /// There are too many rules to compare each with each.
    TooMany,
}

impl Lint {
    /// All sorts, for `--allow` and its help.
    pub const ALL: [Lint; 8] = [
        Lint::Alternatives,
        Lint::Nor,
        Lint::DenyNeedsLogin,
        Lint::Empty,
        Lint::Impossible,
        Lint::Shadowed,
        Lint::Public,
        Lint::TooMany,
    ];

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lint::Alternatives => "alternatives",
            Lint::Nor => "nor",
            Lint::DenyNeedsLogin => "deny-needs-login",
            Lint::Empty => "empty",
            Lint::Impossible => "impossible",
            Lint::Shadowed => "shadowed",
            Lint::Public => "public",
            Lint::TooMany => "too-many",
        }
    }
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What sort.
    pub lint: Lint,
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
    /// What deserves a second look even at the start of the program, in the order of the policy.
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
                Lint::Empty,
                "policy",
                "no `allow` rule holds a criterion: everybody gets 403, without a login",
            );
        }
        alternatives::impossible(self, &mut warnings);
        warnings
    }

    /// Everything there is to say about the policy: [`Policy::warnings`], and what a review would ask about.
    pub fn lint(&self) -> Vec<Warning> {
        let mut warnings = self.warnings();
        alternatives::compare_all(self, &mut warnings);
        warnings
    }
}

fn warn(warnings: &mut Vec<Warning>, lint: Lint, place: impl fmt::Display, meaning: impl Into<String>) {
    warnings.push(Warning {
        lint,
        place: place.to_string(),
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
        warn(warnings, Lint::Alternatives, &first.place, meaning);
    }
    for group in rule
        .groups
        .iter()
        .filter(|group| group.operator == Operator::Nor && group.criteria.len() > 1)
    {
        warn(
            warnings,
            Lint::Nor,
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
                Lint::DenyNeedsLogin,
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

    fn lints(policy: &Value) -> Vec<(Lint, String)> {
        let policy = Policy::parse(policy).unwrap();
        let pair = |warning: Warning| (warning.lint, warning.place);
        policy.lint().into_iter().map(pair).collect()
    }

    #[test]
    fn conditions_that_exclude_each_other_are_found() {
        for group in [
            json!([{"user": "u1"}, {"user": {"is": "u2"}}]),
            json!([{"user": "u1"}, {"user": {"in": ["u2", "u3"]}}]),
            json!([{"email": "a@example.com"}, {"domain": "example.net"}]),
            json!([{"email": {"is": "a@example.com", "ends_with": "@example.net"}}]),
            json!([{"http_path": {"starts_with": "/a"}}, {"http_path": {"starts_with": "/b"}}]),
            json!([{"http_method": {"in": []}}]),
            json!([{"source_ip": "10.0.0.0/8"}, {"source_ip": ["192.168.0.0/16", "203.0.113.9"]}]),
            json!([{"source_ip": []}]),
            json!([{"claim/role": {"is": "a"}}, {"claim/role": {"has": "b"}}]),
            json!([{"claim/role": {"has": "a", "exclude": "a"}}]),
            json!([{"groups": {"has": "g1"}}, {"groups": {"exclude": "g1"}}]),
            json!([{"accept": true}, {"reject": true}]),
        ] {
            let found = lints(&json!({"allow": {"and": group}}));
            assert_eq!(
                found.first().map(|found| found.0),
                Some(Lint::Impossible),
                "{group}"
            );
        }
        let found = lints(&json!({"allow": {"not": [{"accept": true}]}}));
        assert_eq!(found[0].0, Lint::Impossible);
    }

    #[test]
    fn conditions_that_can_hold_together_are_left_alone() {
        for group in [
            json!([{"user": {"in": ["u1", "u2"]}}, {"user": {"not": "u2"}}]),
            json!([{"email": {"starts_with": "a", "ends_with": "@example.com"}}, {"domain": "example.com"}]),
            json!([{"http_path": {"starts_with": "/a"}}, {"http_path": {"starts_with": "/a/b"}}]),
            json!([{"source_ip": "10.0.0.0/8"}, {"source_ip": "10.1.0.0/16"}]),
            json!([{"source_ip": "2001:db8::/32"}, {"http_method": "GET"}]),
            json!([{"claim/role": "a"}, {"claim/role": "b"}]),
            json!([{"claim/role": {"is": "a"}}, {"claim/level": {"is": "b"}}]),
            // One may be the id, the other the name of the same group.
            json!([{"groups": {"is": "g1"}}, {"groups": {"has": "Staff"}}]),
        ] {
            let found = lints(&json!({"allow": {"and": group}}));
            assert!(found.is_empty(), "{group}: {found:?}");
        }
    }

    #[test]
    fn rules_that_another_rule_covers_are_found() {
        let shadowed = |policy: &Value| -> Vec<String> {
            let found = lints(policy).into_iter();
            found
                .filter(|(lint, _)| *lint == Lint::Shadowed)
                .map(|(_, place)| place)
                .collect()
        };
        let policy = json!([
            {"allow": {"or": [{"domain": "example.com"}, {"email": "a@example.com"}]}},
            {"allow": {"and": [{"domain": "example.com"}, {"http_method": "GET"}]}},
            {"allow": {"or": [{"email": "b@example.net"}]}}
        ]);
        assert_eq!(
            shadowed(&policy),
            ["policy[0].allow.or[1]", "policy[1].allow.and"]
        );
        let policy = json!({"allow": {"or": [{"user": "u1"}, {"authenticated_user": true}, {"user": "u1"}]}});
        assert_eq!(shadowed(&policy), ["policy.allow.or[0]", "policy.allow.or[2]"]);
        let same = json!([{"allow": {"or": [{"user": "u1"}]}}, {"allow": {"or": [{"user": "u1"}]}}]);
        assert_eq!(shadowed(&same), ["policy[1].allow.or[0]"], "the first one stays");
        let networks = json!({"deny": {"or": [{"source_ip": "10.0.0.0/8"}, {"source_ip": "10.2.0.0/16"}]}});
        assert_eq!(shadowed(&networks), ["policy.deny.or[1]"]);
    }

    #[test]
    fn an_allow_that_a_deny_always_overrides_is_impossible() {
        let policy = json!({
            "allow": {"and": [{"http_path": {"is": "/admin"}}, {"user": "u1"}]},
            "deny": {"or": [{"http_path": {"starts_with": "/admin"}}]}
        });
        let found = lints(&policy);
        assert_eq!(found, [(Lint::Impossible, "policy.allow.and".to_owned())]);
    }

    #[test]
    fn a_rule_that_lets_everybody_in_says_so() {
        let found = lints(&json!({"allow": {"or": [{"accept": true}]}}));
        assert_eq!(found, [(Lint::Public, "policy.allow.or[0]".to_owned())]);
        let found = lints(&json!({"allow": {"or": [{"accept": true}, {"email": "a@example.com"}]}}));
        assert_eq!(found[1].0, Lint::Shadowed);
        assert!(
            lints(&json!({"allow": {"and": [{"accept": true}, {"source_ip": "10.0.0.0/8"}]}})).is_empty()
        );
        let narrowed =
            json!({"allow": {"or": [{"accept": true}]}, "deny": {"not": [{"source_ip": "10.0.0.0/8"}]}});
        assert!(
            !lints(&narrowed).is_empty(),
            "an `allow` for everybody stays worth a look"
        );
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Lint::ALL.map(Lint::as_str).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Lint::ALL.len());
    }
}
