//! What can be wrong with a script, and with running it.

/// Why a script cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{script}: {}{problem}", at(*line, *column))]
pub struct RegoError {
    /// The name of the script.
    pub script: String,
    /// Line in the script, from 1; 0 when it is about the whole.
    pub line: u32,
    /// Column, likewise.
    pub column: u32,
    /// What is wrong, and what to do.
    pub problem: String,
}

fn at(line: u32, column: u32) -> String {
    match line {
        0 => String::new(),
        line => format!("line {line}, column {column}: "),
    }
}

/// Something wrong at a place, before it is known which script it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) problem: String,
}

impl Flaw {
    pub(super) fn at(span: &regorus::unstable::Span, problem: impl Into<String>) -> Self {
        Self {
            line: span.line,
            column: span.col,
            problem: problem.into(),
        }
    }

    pub(super) fn whole(problem: impl Into<String>) -> Self {
        Self {
            line: 0,
            column: 0,
            problem: problem.into(),
        }
    }

    /// Reads what the engine says. It draws a picture: the place after an arrow, the line with a pointer, the message.
    pub(super) fn of_engine(error: &anyhow::Error) -> Self {
        let text = error.to_string();
        let problem = text
            .rsplit_once("error: ")
            .map_or(text.as_str(), |(_, problem)| problem)
            .trim();
        // Of a chain of places, such as that of a recursion, the first counts.
        let place = text
            .split_once("--> ")
            .map_or("", |(_, rest)| rest.lines().next().unwrap_or(""));
        let mut numbers = place.rsplit(':').map(|number| number.trim().parse().unwrap_or(0));
        let column = numbers.next().unwrap_or(0);
        let line = numbers.next().unwrap_or(0);
        Self {
            line,
            column,
            problem: problem.lines().next().unwrap_or("").to_owned(),
        }
    }

    pub(super) fn of(self, script: &str, shift: u32) -> RegoError {
        RegoError {
            script: script.to_owned(),
            line: self.line.saturating_sub(shift),
            column: self.column,
            problem: self.problem,
        }
    }
}
