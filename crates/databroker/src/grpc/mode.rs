//! Which databroker answers a call: this one, its copy, or the one that leads (spec databroker.md 10.4).

use std::sync::{Arc, Weak};

use pomerium_api::databroker::remote::FORWARDER;
use pomerium_api::databroker::{Databroker, Error, Versions};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::reason::reason;
use crate::cluster::Member;

/// The header by which a caller says who is to answer; the last one counts.
const MODE: &str = "pomerium-cluster-request-mode";

/// What the services serve.
#[derive(Clone)]
pub enum Served {
    /// A databroker that has no others beside it.
    Alone(Arc<dyn Databroker>),
    /// A member of a group.
    Member {
        /// Answers, or passes calls on.
        broker: Arc<dyn Databroker>,
        /// Its place in the group; once that is gone, `broker` is like one that is alone.
        member: Weak<dyn Member>,
    },
}

impl From<Arc<dyn Databroker>> for Served {
    fn from(broker: Arc<dyn Databroker>) -> Self {
        Self::Alone(broker)
    }
}

/// Who is to answer, by the caller's wish.
enum Mode {
    Any,
    Leader,
    Local,
}

impl Served {
    /// For calls that change nothing.
    pub(super) async fn reads(&self, metadata: &MetadataMap) -> Result<Arc<dyn Databroker>, Status> {
        let Some(member) = self.follower() else {
            return Ok(self.itself());
        };
        match mode(metadata)? {
            Mode::Any => self.forward(&*member, metadata),
            Mode::Leader => Err(not_leader()),
            Mode::Local => member
                .local()
                .await
                .map_err(|error| reason(Code::Unavailable, "NOT_INITIALIZED", &error.to_string())),
        }
    }

    /// For all others.
    pub(super) fn writes(&self, metadata: &MetadataMap) -> Result<Arc<dyn Databroker>, Status> {
        let Some(member) = self.follower() else {
            return Ok(self.itself());
        };
        match mode(metadata)? {
            Mode::Any => self.forward(&*member, metadata),
            Mode::Leader | Mode::Local => Err(not_leader()),
        }
    }

    /// What answers by itself, or passes calls on.
    pub(super) fn itself(&self) -> Arc<dyn Databroker> {
        match self {
            Self::Alone(broker) | Self::Member { broker, .. } => Arc::clone(broker),
        }
    }

    /// Its place in a group, if it follows there.
    pub(super) fn follower(&self) -> Option<Arc<dyn Member>> {
        match self {
            Self::Alone(_) => None,
            Self::Member { member, .. } => member.upgrade().filter(|member| !member.leads()),
        }
    }

    /// The position of this one.
    pub(super) async fn checkpoint(&self) -> Result<Versions, Error> {
        match self.follower() {
            Some(member) => member.checkpoint().await,
            None => self.itself().versions().await,
        }
    }

    /// The leader, unless the call has been passed on already: then who leads is not agreed upon.
    fn forward(&self, member: &dyn Member, metadata: &MetadataMap) -> Result<Arc<dyn Databroker>, Status> {
        let mut forwarders = metadata.get_all(FORWARDER).iter().peekable();
        if forwarders.peek().is_none() {
            return Ok(self.itself());
        }
        if forwarders.any(|id| id.as_bytes() == member.forwarder().as_bytes()) {
            let text = "this call came back to a databroker that had passed it on: the nodes disagree about who leads; \
                        set the same databroker_cluster_leader_id everywhere";
            return Err(reason(Code::Internal, "FORWARDING_CYCLE_DETECTED", text));
        }
        Err(not_leader())
    }
}

fn mode(metadata: &MetadataMap) -> Result<Mode, Status> {
    let Some(wish) = metadata.get_all(MODE).iter().next_back() else {
        return Ok(Mode::Any);
    };
    match wish.as_bytes() {
        b"default" => Ok(Mode::Any),
        b"leader" => Ok(Mode::Leader),
        b"local" => Ok(Mode::Local),
        other => {
            let other: String = String::from_utf8_lossy(other).chars().take(40).collect();
            let text = format!("{MODE} cannot be {other:?}; it is default, leader or local");
            Err(reason(
                Code::InvalidArgument,
                "UNKNOWN_CLUSTER_REQUEST_MODE",
                &text,
            ))
        }
    }
}

fn not_leader() -> Status {
    let text = "this databroker follows another one";
    reason(Code::FailedPrecondition, "NODE_IS_NOT_LEADER", text)
}
