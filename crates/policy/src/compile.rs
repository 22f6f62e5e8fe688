//! Compiling a policy: every criterion to its typed form, all errors in one go.

use std::borrow::Cow;

use crate::criteria::{CRITERIA, Test};
use crate::ppl::{Action, Criterion, Group, Policy};
use crate::program::{Check, CompiledGroup, Program};

/// Why a policy that is right in form cannot be judged. The place is a path such as
/// `policy[0].allow.or[1]`, or the route setting the criterion comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// No such criterion.
    #[error("{place}: unknown criterion `{name}`: {hint}")]
    UnknownCriterion {
        /// Where.
        place: String,
        /// The key as written.
        name: String,
        /// What was probably meant.
        hint: String,
    },
    /// No such operator in this criterion.
    #[error("{place}: `{criterion}` has no operator `{operator}`: {hint}")]
    UnknownOperator {
        /// Where.
        place: String,
        /// The criterion.
        criterion: String,
        /// The operator as written.
        operator: String,
        /// What was probably meant.
        hint: String,
    },
    /// Data of a type that cannot work.
    #[error("{place}: `{subject}` needs {expected}, not {found}")]
    WrongType {
        /// Where.
        place: String,
        /// Criterion, or criterion and operator.
        subject: String,
        /// What it needs.
        expected: &'static str,
        /// What it got.
        found: &'static str,
    },
    /// No such key in this criterion.
    #[error("{place}: `{criterion}` has no key `{key}`: {hint}")]
    UnknownKey {
        /// Where.
        place: String,
        /// The criterion.
        criterion: String,
        /// The key as written.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// Something the criterion cannot do without.
    #[error("{place}: `{criterion}` needs {needs}")]
    Incomplete {
        /// Where.
        place: String,
        /// The criterion.
        criterion: String,
        /// What it needs.
        needs: &'static str,
    },
    /// Data of the right type that cannot work.
    #[error("{place}: `{subject}`: `{text}`: {problem}")]
    BadValue {
        /// Where.
        place: String,
        /// Criterion, or criterion and key.
        subject: String,
        /// The text, or enough of it to know which one is meant.
        text: String,
        /// What is wrong about it, and the way out.
        problem: String,
    },
    /// Text that is no address and no CIDR.
    #[error("{place}: `{text}` is no network: {problem}")]
    BadAddress {
        /// Where.
        place: String,
        /// The text.
        text: String,
        /// What is wrong about it.
        problem: &'static str,
    },
    /// Text that is no fingerprint and no key hash.
    #[error("{place}: `{text}` never matches a certificate: {problem}")]
    BadPin {
        /// Where.
        place: String,
        /// The text.
        text: String,
        /// What it has to look like.
        problem: &'static str,
    },
}

impl CompileError {
    /// Where in the policy.
    pub fn place(&self) -> &str {
        match self {
            Self::UnknownCriterion { place, .. }
            | Self::UnknownOperator { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::Incomplete { place, .. }
            | Self::BadValue { place, .. }
            | Self::WrongType { place, .. }
            | Self::BadAddress { place, .. }
            | Self::BadPin { place, .. } => place,
        }
    }
}

impl Program {
    /// Compiles a policy.
    ///
    /// Errors with the first thing wrong with it; [`Program::compile_all`] tells all of them.
    pub fn compile(policy: &Policy) -> Result<Program, CompileError> {
        Self::compile_all(policy).map_err(|mut errors| errors.swap_remove(0))
    }

    /// Compiles a policy. Errors with everything wrong with it; the list is never empty.
    pub fn compile_all(policy: &Policy) -> Result<Program, Vec<CompileError>> {
        let mut errors = Vec::new();
        let [mut allow, mut deny] = [Vec::new(), Vec::new()];
        for rule in &policy.rules {
            let target = match rule.action {
                Action::Allow => &mut allow,
                Action::Deny => &mut deny,
            };
            // A group without criteria does not exist: it must not hold because nothing in it fails.
            let groups = rule.groups.iter().filter(|group| !group.criteria.is_empty());
            target.extend(groups.map(|group| compile_group(group, &mut errors)));
        }
        if errors.is_empty() {
            Ok(Program::new(allow, deny))
        } else {
            Err(errors)
        }
    }
}

fn compile_group(group: &Group, errors: &mut Vec<CompileError>) -> CompiledGroup {
    let mut checks = Vec::with_capacity(group.criteria.len());
    for criterion in &group.criteria {
        match Test::read(criterion) {
            Ok(test) => checks.push(Check::new(
                test,
                key(criterion),
                &criterion.data,
                criterion.place.clone(),
            )),
            Err(error) => errors.push(error),
        }
    }
    CompiledGroup {
        operator: group.operator,
        checks: checks.into(),
        place: group.place.clone(),
    }
}

/// The key of a criterion; most are a word of the language, which is there already.
fn key(criterion: &Criterion) -> Cow<'static, str> {
    let known = CRITERIA.into_iter().find(|known| *known == criterion.name);
    match known.filter(|_| criterion.sub_path.is_empty()) {
        Some(known) => known.into(),
        None => criterion.key().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_written_is_kept_or_told_by_the_test() {
        let written = [
            json!({"email": {"is": "one@example.com"}}),
            json!({"email": "one@example.com"}),
            json!({"user": {"not": "u1"}}),
            json!({"claim/level": 3}),
            json!({"domain": {"in": ["example.com", "example.org"]}}),
            json!({"domain": {"not_in": ["example.com", 3]}}),
            json!({"http_path": {"starts_with": "/a", "ends_with": "/b"}}),
            json!({"http_path": {"contains": "\"c"}}),
            json!({"http_method": {"is": "GET"}}),
            json!({"source_ip": ["192.0.2.0/24"]}),
            json!({"authenticated_user": true}),
        ];
        let policy = Policy::parse(&json!([{"allow": {"or": written}}])).unwrap();
        let program = Program::compile(&policy).unwrap();
        let checks = &program.groups(Action::Allow)[0].checks;
        assert_eq!(checks.len(), written.len());
        for (check, written) in checks.iter().zip(&written) {
            assert_eq!(json!({ &*check.key: check.data() }), *written);
        }
    }

    #[test]
    fn all_errors_come_at_once() {
        let policy = Policy::parse(&json!([
            {"allow": {"or": [{"groups/colour": "g1"}, {"nope": 1}, {"email": {"in": 3}}, {"accept": 1}]}},
            {"deny": {"or": [{"device": {"os": 1}}]}}
        ]))
        .unwrap();
        let errors = Program::compile_all(&policy).unwrap_err();
        let places: Vec<_> = errors.iter().map(CompileError::place).collect();
        assert_eq!(
            places,
            [
                "policy[0].allow.or[0]",
                "policy[0].allow.or[1]",
                "policy[0].allow.or[2]",
                "policy[1].deny.or[0]"
            ]
        );
    }
}
