//! A databroker with its role.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Cleared, Databroker, Error, Versions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::follow::Follower;
use super::read_only::ReadOnly;
use super::rivals::{self, Finding};
use super::status::{Role, Status};
use crate::Server;
use crate::store::{Standing, Store, Write, Written, ready};

/// How long a leader that is to be replaced has to show that it is there.
const STILL_THERE: Duration = Duration::from_secs(2);

/// Another node: whom this one follows, or may have to give way to.
#[derive(Clone)]
pub struct Leader {
    /// The way to it. Its calls must end, with an error if need be.
    pub broker: Arc<dyn Databroker>,
    /// What it is called in messages.
    pub place: String,
}

/// Why a node was not promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// There is nothing to do.
    #[error("this databroker leads already")]
    Leads,
    /// Two leaders would each take writes that the other does not know.
    #[error(
        "the leader at {0} answers: stop it first, so that nothing it takes from here on is lost; \
         or say --force to do without what it takes from here on"
    )]
    LeaderAnswers(String),
    /// The store does not let itself be promoted.
    #[error("this databroker cannot take the leader's place: {0}")]
    Store(#[from] Error),
}

/// A member of a group of databrokers, as the gRPC services see it.
pub trait Member: Databroker {
    /// Whether it answers by itself.
    fn leads(&self) -> bool;
    /// Its own copy, for reading. Errors while that is not complete.
    fn local(&self) -> BoxFuture<'_, Result<Arc<dyn Databroker>, Error>>;
    /// Up to where it is copied; zeros while it is not complete.
    fn checkpoint(&self) -> BoxFuture<'_, Result<Versions, Error>>;
    /// Under what name it passes calls on.
    fn forwarder(&self) -> &str;
}

/// A databroker that leads, or follows another one. As a [`Databroker`] it answers by itself or passes the call on to
/// the leader.
pub struct Node<S> {
    store: Arc<S>,
    server: Arc<Server<Arc<S>>>,
    clock: Arc<dyn Clock>,
    leader: Option<Leader>,
    /// Who has taken its place.
    successor: OnceLock<Leader>,
    forwarder: String,
    status: watch::Sender<Status>,
    following: Mutex<Option<Following>>,
}

struct Following {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl<S: Store> Node<S> {
    /// One that leads, until one of the `others` serves records of a later term: then it passes calls on to that one,
    /// and leaves its own records as they are. They are asked before it returns, and all the time after. Errors when
    /// its store holds a copy of another one's records: whether that one is gone is for people to say
    /// ([`Self::promote`]). Must be called within a tokio runtime.
    pub async fn lead(store: S, clock: Arc<dyn Clock>, others: Vec<Leader>) -> Result<Arc<Self>, Error> {
        ready(&store).await?;
        let node = Self::new(store, clock, None, Status::new(Role::Leads));
        node.server.keep_clean();
        if !others.is_empty() && !node.look_around(&others).await {
            tokio::spawn(rivals::watch(Arc::downgrade(&node), others.into()));
        }
        Ok(node)
    }

    /// One that follows `leader`: whatever records its store has are replaced by the leader's. `id` names it to the
    /// leader, and must be another one for each node. Must be called within a tokio runtime.
    pub fn follow(store: S, clock: Arc<dyn Clock>, leader: Leader, id: &str) -> Arc<Self> {
        let mut node = Self::new(store, clock, Some(leader), Status::new(Role::CatchesUp));
        if let Some(node) = Arc::get_mut(&mut node) {
            id.clone_into(&mut node.forwarder);
        }
        node.start_following();
        node
    }

    fn new(store: S, clock: Arc<dyn Clock>, leader: Option<Leader>, status: Status) -> Arc<Self> {
        let store = Arc::new(store);
        Arc::new(Self {
            server: Arc::new(Server::new(Arc::clone(&store), Arc::clone(&clock))),
            store,
            clock,
            leader,
            successor: OnceLock::new(),
            forwarder: String::new(),
            status: watch::Sender::new(status),
            following: Mutex::new(None),
        })
    }

    /// Asks the others; returns whether it has given way to one of them.
    pub(super) async fn look_around(&self, others: &[Leader]) -> bool {
        let Ok(own) = self.store.counters().await else {
            return false;
        };
        let (place, term) = match rivals::ask(&own, others).await {
            Finding::Later(number, term) => match others.get(number) {
                Some(successor) => {
                    let _ = self.successor.set(successor.clone());
                    (successor.place.as_str(), term)
                }
                None => return false,
            },
            Finding::Rival(number) => {
                self.meet(others.get(number).map(|rival| rival.place.as_str()));
                return false;
            }
            Finding::Alone => {
                self.meet(None);
                return false;
            }
        };
        let why = format!(
            "the node at {place} has taken this one's place (term {term}, here {}): records are neither read nor written \
             here any more, calls are passed on to it; name it in databroker_cluster_leader_id and restart",
            own.term
        );
        tracing::error!("databroker: {why}");
        self.status.send_modify(|status| status.role = Role::GaveWay(why));
        // Whoever follows the records here starts over at the other.
        self.server.close();
        true
    }

    /// Another one leads as well, or none does any more.
    fn meet(&self, place: Option<&str>) {
        let rival = place.map(|place| {
            format!(
                "the node at {place} leads as well, over other records: what is written at the two drifts apart; set the same \
                 databroker_cluster_leader_id everywhere"
            )
        });
        let news = self
            .status
            .send_if_modified(|status| match status.rival == rival {
                true => false,
                false => {
                    status.rival.clone_from(&rival);
                    true
                }
            });
        if let Some(rival) = rival.filter(|_| news) {
            tracing::error!("databroker: {rival}");
        }
    }

    /// Whom calls are passed on to.
    fn above(&self) -> Option<&Leader> {
        let leader = self.leader.as_ref().filter(|_| !self.leads());
        self.successor.get().or(leader)
    }

    fn start_following(&self) {
        let Some(leader) = &self.leader else { return };
        let stop = watch::Sender::new(false);
        let follower = Follower {
            store: Arc::clone(&self.store),
            leader: Arc::clone(&leader.broker),
            clock: Arc::clone(&self.clock),
            status: self.status.clone(),
            stop: stop.subscribe(),
        };
        let task = tokio::spawn(follower.run());
        *self.following.lock() = Some(Following { stop, task });
    }

    /// How it is doing, from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Takes the leader's place, with what is copied by now; returns the former and the new server version. Unless it
    /// is `forced`, a leader that still answers is left in its place.
    pub async fn promote(&self, forced: bool) -> Result<Cleared, PromoteError> {
        let Some(leader) = self.leader.as_ref().filter(|_| !self.leads()) else {
            return Err(PromoteError::Leads);
        };
        let answer = tokio::time::timeout(STILL_THERE, leader.broker.versions()).await;
        if !forced && matches!(answer, Ok(Ok(_))) {
            return Err(PromoteError::LeaderAnswers(leader.place.clone()));
        }
        let Some(following) = self.following.lock().take() else {
            return Err(PromoteError::Leads);
        };
        following.stop.send_replace(true);
        // What it has begun to write is written; a panic in it leaves the store as it is.
        let _ = following.task.await;
        match self.store.write(Write::Promote, self.clock.now()).await {
            Ok(Written::Cleared(cleared)) => {
                self.status.send_modify(|status| status.role = Role::Leads);
                self.server.keep_clean();
                Ok(cleared)
            }
            Ok(_) => Err(Error::Unavailable("the store answered another question".into()).into()),
            Err(error) => {
                self.start_following();
                Err(error.into())
            }
        }
    }

    /// Ends all streams with an error; later calls fail.
    pub fn close(&self) {
        if let Some(following) = &*self.following.lock() {
            following.stop.send_replace(true);
        }
        self.server.close();
    }

    fn answers(&self) -> Arc<dyn Databroker> {
        match self.above() {
            Some(leader) => Arc::clone(&leader.broker),
            None => Arc::clone(&self.server) as Arc<dyn Databroker>,
        }
    }

    fn explain(&self, error: Error) -> Error {
        match (error, self.above()) {
            (Error::Unavailable(why), Some(leader)) => Error::Unavailable(format!(
                "the leading databroker at {}: {why}; if it does not come back, promote one that follows it \
                 (`pomerium databroker promote`)",
                leader.place
            )),
            (error, _) => error,
        }
    }
}

impl<S> Drop for Node<S> {
    fn drop(&mut self) {
        if let Some(following) = self.following.lock().take() {
            following.stop.send_replace(true);
        }
    }
}

impl<S: Store> Member for Node<S> {
    fn leads(&self) -> bool {
        self.status.borrow().role == Role::Leads
    }

    fn local(&self) -> BoxFuture<'_, Result<Arc<dyn Databroker>, Error>> {
        async {
            if self.store.counters().await?.standing == Standing::Incomplete {
                return Err(Error::Unavailable(
                    "the copy of the leader's records is not complete yet".into(),
                ));
            }
            Ok(Arc::new(ReadOnly(Arc::clone(&self.server) as Arc<dyn Databroker>)) as Arc<dyn Databroker>)
        }
        .boxed()
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async {
            let counters = self.store.counters().await?;
            let known = counters.standing == Standing::Copy || self.leads();
            Ok(if known {
                counters.versions()
            } else {
                Versions::default()
            })
        }
        .boxed()
    }

    fn forwarder(&self) -> &str {
        &self.forwarder
    }
}

macro_rules! pass {
    ($self:ident, $($call:tt)+) => {
        async move {
            let broker = $self.answers();
            broker.$($call)+.await.map_err(|error| $self.explain(error))
        }
        .boxed()
    };
}

impl<S: Store> Databroker for Node<S> {
    pomerium_api::forward_databroker!(pass);
}
