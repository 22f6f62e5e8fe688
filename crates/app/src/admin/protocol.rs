//! What is said over the socket: one JSON object each way, a line each, then the connection ends.

use serde::{Deserialize, Serialize};

/// Longest question, bytes.
pub const LONGEST_QUESTION: u64 = 16 * 1024;
/// Longest answer, bytes.
pub const LONGEST_ANSWER: u64 = 16 * 1024 * 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// The sessions that are alive.
    List {
        /// Only those of the user with this id or e-mail.
        user: Option<String>,
    },
    /// Lets a session see with the eyes of another one.
    Impersonate {
        /// The session of whoever looks.
        session: String,
        /// Whose eyes.
        target: Target,
        /// Why; for the log.
        reason: String,
    },
    /// Ends that.
    End {
        /// The session of whoever looked.
        session: String,
    },
}

/// Whom to impersonate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// This session.
    Session(String),
    /// The session that this user (id or e-mail) used last.
    User(String),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The sessions, newest first.
    Sessions(Vec<SessionLine>),
    /// It was done.
    Done {
        /// The session of whoever looks.
        session: Box<SessionLine>,
        /// The session that is looked through, or was.
        target: Option<Box<SessionLine>>,
    },
    /// It was not done, and why.
    Refused(String),
}

/// A session, as far as an administrator needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLine {
    /// Id of the session.
    pub id: String,
    /// Id of the user.
    pub user_id: String,
    /// E-mail of the user; may be empty.
    pub email: String,
    /// When it began, RFC 3339; may be empty.
    pub issued_at: String,
    /// When it was used last; may be empty.
    pub accessed_at: String,
    /// Until when it holds; may be empty.
    pub expires_at: String,
    /// The session it looks through, while it does.
    pub impersonates: Option<String>,
}
