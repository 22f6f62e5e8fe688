//! What is wrong with a record.

use std::fmt;

/// What is wrong with one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the field, with what is inside it behind dots; empty when it is no single one.
    pub field: String,
    /// What is wrong, and what to do. Never a value that may be secret.
    pub message: String,
}

/// A record that is left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordProblem {
    /// Which one: type, id and place in it, such as `Route wiki` or `Config main routes[2]`.
    pub record: String,
    /// As in [`Fault`].
    pub field: String,
    /// As in [`Fault`].
    pub message: String,
}

impl Fault {
    /// Of one field.
    pub fn of(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// Of no single field.
    pub fn whole(message: impl Into<String>) -> Self {
        Self::of("", message)
    }

    pub(crate) fn of_record(self, record: &str) -> RecordProblem {
        RecordProblem {
            record: record.to_owned(),
            field: self.field,
            message: self.message,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl RecordProblem {
    /// Type of the record, such as `Route`.
    pub fn kind(&self) -> &str {
        self.record.split(' ').next().unwrap_or_default()
    }

    /// Id of the record, with the place in it.
    pub fn id(&self) -> &str {
        self.record.split_once(' ').map_or("", |(_, id)| id)
    }
}

impl fmt::Display for RecordProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.record)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
