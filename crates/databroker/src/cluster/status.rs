//! How a node is doing: for health, metrics, and whoever thinks about promoting it.

use std::time::Duration;

use jiff::Timestamp;
use pomerium_api::databroker::{RecordKey, Versions};

/// What a node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It answers by itself.
    Leads,
    /// It has everything the leader had when it was asked last, and waits for more.
    Follows,
    /// It is on its way there: its copy is being made, or behind.
    CatchesUp,
    /// The leader does not answer, with what went wrong.
    Alone(String),
    /// It led until it saw that another node has taken its place: it passes calls on to that one.
    GaveWay(String),
}

impl Role {
    /// As the health check of the cluster names it (spec databroker.md 16.2).
    pub fn member(&self) -> &'static str {
        match self {
            Self::Leads => "leader",
            Self::Follows | Self::CatchesUp => "follower",
            Self::Alone(_) | Self::GaveWay(_) => "unknown",
        }
    }
}

/// A node at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub role: Role,
    /// Up to where its records are copied; its own position when it leads.
    pub copied: Versions,
    /// Where the leader was when it was asked last.
    pub leader: Option<Versions>,
    /// When it was last seen to have everything.
    pub complete_at: Option<Timestamp>,
    /// Another node that leads as well, and neither has taken the other's place: what they write drifts apart.
    pub rival: Option<String>,
    /// Records that are missing here because the leader cannot read them. Not all of them, if they are very many.
    pub left_out: Vec<RecordKey>,
}

/// How far behind a follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Changes the leader has and this one has not, as far as is known; `None` when they cannot be counted.
    pub changes: Option<u64>,
    /// Changes of the leader since then may be missing; `None` when there never was such a moment.
    pub age: Option<Duration>,
}

impl Status {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            copied: Versions::default(),
            leader: None,
            complete_at: None,
            rival: None,
            left_out: Vec::new(),
        }
    }

    /// What would be lost if this one took the leader's place at `now`.
    pub fn lag(&self, now: Timestamp) -> Lag {
        if self.role == Role::Leads {
            return Lag {
                changes: Some(0),
                age: Some(Duration::ZERO),
            };
        }
        let same = self
            .leader
            .filter(|leader| leader.server_version == self.copied.server_version);
        Lag {
            changes: same.map(|leader| {
                leader
                    .latest_record_version
                    .saturating_sub(self.copied.latest_record_version)
            }),
            age: self
                .complete_at
                .map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default()),
        }
    }

    /// Where the leader stood at `asked`, and what is known by that.
    pub(super) fn heard(&mut self, leader: Versions, asked: Timestamp) {
        self.leader = Some(leader);
        let complete = self.copied.server_version == leader.server_version
            && self.copied.latest_record_version >= leader.latest_record_version;
        if complete {
            self.complete_at = Some(asked);
        }
        self.role = match complete {
            true => Role::Follows,
            false => Role::CatchesUp,
        };
    }
}
