//! The record of an impersonation that began or ended.

use jiff::Timestamp;
use serde::Serialize;

use super::{VERSION, json};

/// A person, by their session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SessionOf<'a> {
    /// Id of the session.
    pub id: &'a str,
    /// Whose it is.
    pub user_id: &'a str,
    /// Their e-mail; empty when there is none.
    pub email: &'a str,
}

/// Who did it, as the operating system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// User id on the machine.
    pub uid: u32,
    /// Process id, where it is told.
    pub pid: Option<i32>,
}

/// A session that was given the eyes of another one, or lost them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impersonation<'a> {
    /// When.
    pub now: Timestamp,
    /// It began; otherwise it ended.
    pub began: bool,
    /// Who looks.
    pub session: SessionOf<'a>,
    /// Through whose eyes; `None` when that session is gone.
    pub target: Option<SessionOf<'a>>,
    /// Why; empty at the end.
    pub reason: &'a str,
    /// Who did it.
    pub by: Operator,
}

/// Appends the record of an impersonation, without a line end.
pub fn impersonation(out: &mut Vec<u8>, what: &Impersonation<'_>) {
    #[derive(Serialize)]
    struct Record<'a> {
        kind: &'static str,
        version: u32,
        time: Timestamp,
        action: &'static str,
        session: SessionOf<'a>,
        target: Option<SessionOf<'a>>,
        reason: &'a str,
        by: Operator,
    }
    let record = Record {
        kind: "impersonation",
        version: VERSION,
        time: what.now,
        action: if what.began { "began" } else { "ended" },
        session: what.session,
        target: what.target,
        reason: what.reason,
        by: what.by,
    };
    json::append(out, &record);
}
