//! One policy among several of a route, kept to itself: what people are told about it when the route refuses them
//! (spec policy.md 9). What decides is the program of the whole route.

use crate::input::Input;
use crate::program::Program;

/// A policy of a route with its author's words about it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its id; may be empty.
    pub id: String,
    /// What it is about, in Markdown; may be empty.
    pub explanation: String,
    /// What somebody can do whom it does not let in, in Markdown; may be empty.
    pub remediation: String,
    /// Its rules and scripts, without those of the others.
    pub program: Program,
}

/// What a part says about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Its rules allow.
    pub allow: bool,
    /// Its rules deny.
    pub deny: bool,
}

impl PartialEq for Part {
    /// The same words, and rules that print alike.
    fn eq(&self, other: &Self) -> bool {
        (&self.id, &self.explanation, &self.remediation)
            == (&other.id, &other.explanation, &other.remediation)
            && format!("{:?}", self.program) == format!("{:?}", other.program)
    }
}

impl Part {
    /// Judges one request by this part alone. What cannot be judged neither allows nor denies.
    pub fn said(&self, input: &Input<'_>) -> Said {
        let evaluation = self.program.evaluate(input);
        let judged = evaluation.failure.is_none();
        Said {
            allow: judged && evaluation.allow.value,
            deny: judged && evaluation.deny.value,
        }
    }
}
