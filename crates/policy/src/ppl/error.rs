//! What is wrong with the form of a policy.

use std::fmt;

/// A structural error: where, what, and what was probably meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Path in the policy: `policy[0].allow.or[1]`.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// The way out.
    pub hint: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.problem, self.hint)
    }
}

impl std::error::Error for ParseError {}
