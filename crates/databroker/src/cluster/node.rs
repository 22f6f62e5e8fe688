//! A databroker with its role.

use std::sync::Arc;
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
use super::status::{Role, Status};
use crate::Server;
use crate::store::{Standing, Store, Write, Written, ready};

/// How long a leader that is to be replaced has to show that it is there.
const STILL_THERE: Duration = Duration::from_secs(2);

/// Whom a node follows.
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
    forwarder: String,
    status: watch::Sender<Status>,
    following: Mutex<Option<Following>>,
}

struct Following {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl<S: Store> Node<S> {
    /// One that leads. Errors when its store holds a copy of another one's records: whether that one is gone is for
    /// people to say ([`Self::promote`]). Must be called within a tokio runtime.
    pub async fn lead(store: S, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        ready(&store).await?;
        let node = Self::new(store, clock, None, Status::new(Role::Leads));
        node.server.keep_clean();
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
            forwarder: String::new(),
            status: watch::Sender::new(status),
            following: Mutex::new(None),
        })
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
        match &self.leader {
            Some(leader) if !self.leads() => Arc::clone(&leader.broker),
            _ => Arc::clone(&self.server) as Arc<dyn Databroker>,
        }
    }

    fn explain(&self, error: Error) -> Error {
        match (error, &self.leader) {
            (Error::Unavailable(why), Some(leader)) if !self.leads() => Error::Unavailable(format!(
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
