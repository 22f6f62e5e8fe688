//! Compiling a policy: every criterion to its typed form, all errors in one go.

use std::sync::Arc;

use crate::criteria::Test;
use crate::ppl::{Action, Group, Policy};
use crate::program::{Check, CompiledGroup, Program};

/// Why a policy that is right in form cannot be judged. The place is a path such as
/// `policy[0].allow.or[1]`, or the route setting the criterion comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A criterion of the language that this build cannot judge. The policy is right; loading may go on
    /// with [`Program::deny_all`], starting must not.
    #[error("{place}: criterion `{criterion}` is not built yet: remove it from the policy")]
    NotBuilt {
        /// Where.
        place: String,
        /// Its name.
        criterion: &'static str,
    },
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
            Self::NotBuilt { place, .. }
            | Self::UnknownCriterion { place, .. }
            | Self::UnknownOperator { place, .. }
            | Self::WrongType { place, .. }
            | Self::BadAddress { place, .. }
            | Self::BadPin { place, .. } => place,
        }
    }

    /// The criterion this build lacks, when that is all that is wrong.
    pub fn not_built(&self) -> Option<&'static str> {
        match self {
            Self::NotBuilt { criterion, .. } => Some(criterion),
            _ => None,
        }
    }
}

impl Program {
    /// Compiles a policy.
    ///
    /// Errors with the first thing wrong with it; [`CompileError::NotBuilt`] only when nothing else is.
    pub fn compile(policy: &Policy) -> Result<Program, CompileError> {
        Self::compile_all(policy).map_err(|mut errors| {
            let worst = errors
                .iter()
                .position(|error| error.not_built().is_none())
                .unwrap_or(0);
            errors.swap_remove(worst)
        })
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
            Ok(test) => checks.push(Check {
                test,
                key: criterion.key().into(),
                data: criterion.data.clone(),
                place: Arc::clone(&criterion.place),
            }),
            Err(error) => errors.push(error),
        }
    }
    CompiledGroup {
        operator: group.operator,
        checks: checks.into(),
        place: Arc::clone(&group.place),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy() -> Policy {
        Policy::parse(&json!([
            {"allow": {"or": [{"groups": "g1"}, {"nope": 1}, {"email": {"in": 3}}]}},
            {"deny": {"or": [{"device": {}}]}}
        ]))
        .unwrap()
    }

    #[test]
    fn all_errors_come_at_once() {
        let errors = Program::compile_all(&policy()).unwrap_err();
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

    #[test]
    fn not_built_is_told_only_when_nothing_else_is_wrong() {
        assert_eq!(Program::compile(&policy()).unwrap_err().not_built(), None);
        let groups = Policy::parse(&json!({"allow": {"or": [{"groups": "g1"}]}})).unwrap();
        assert_eq!(Program::compile(&groups).unwrap_err().not_built(), Some("groups"));
    }
}
