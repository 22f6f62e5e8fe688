//! Opens the databroker the settings ask for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::Databroker;
use pomerium_certs::DerivedAuthority;
use pomerium_config::settings::{ClusterSettings, DatabrokerSettings, Origin, RemoteDatabroker, Settings};
use pomerium_crypto::kdf;
use pomerium_databroker::backup::{self, BackupError};
use pomerium_databroker::cluster::{self, Leader, Member, Node};
use pomerium_databroker::grpc::Served;
use pomerium_databroker::store::{Standing, ready};
use pomerium_databroker::{AT_REST, FileStore, MemoryStore, OpenError, PostgresStore, Server, Store};
use tokio::sync::{OwnedRwLockWriteGuard, watch};

use super::kept;
use super::remote::Way;
use super::switch::{Source, Switch};
use crate::handover::relay::Relay;

/// How long a new process waits until the old one has closed the store.
const CLOSING: Duration = Duration::from_secs(10);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// The databroker of this process, and how to close it.
pub struct Broker {
    /// For everyone who reads and writes records.
    pub handle: Arc<dyn Databroker>,
    /// The place of this one among others.
    pub group: Option<Group>,
    switch: Arc<Switch>,
    opening: Opening,
}

/// The place of a databroker among others.
pub struct Group {
    member: Weak<dyn Member>,
    /// How it is doing.
    pub status: watch::Receiver<cluster::Status>,
}

/// What a databroker is to others with stores of their own.
#[derive(Clone)]
enum Place {
    /// There are none.
    Alone,
    /// They follow it; it asks them whether one of them leads in its place by now.
    Leads(Vec<Leader>),
    /// It follows one of them.
    Follows(Follow),
}

/// Whom to follow.
#[derive(Clone)]
struct Follow {
    id: String,
    leader: Leader,
    /// Where records go that are here and not a copy, and what they are sealed with.
    aside: Option<(PathBuf, [u8; 32])>,
}

/// What it takes to open the store.
#[derive(Clone)]
enum Opening {
    /// Kept by this process.
    Own {
        settings: DatabrokerSettings,
        /// The first seals, each of them opens.
        keys: Vec<[u8; 32]>,
        clock: Arc<dyn Clock>,
        place: Place,
    },
    /// Kept by another one.
    Other(Way),
}

impl Broker {
    /// The way to the databroker, where another process keeps the records.
    pub fn way(&self) -> Option<&Way> {
        match &self.opening {
            Opening::Other(way) => Some(way),
            Opening::Own { .. } => None,
        }
    }

    /// What other processes are served.
    pub fn served(&self) -> Served {
        let broker = Arc::clone(&self.handle);
        match &self.group {
            None => Served::Alone(broker),
            Some(group) => Served::Member {
                broker,
                member: Weak::clone(&group.member),
            },
        }
    }

    /// Ends every stream; records that were acknowledged are already durable.
    pub fn close(&self) {
        self.switch.close();
    }

    /// Closes the store for another process. What is under way is finished; whoever asks from here on waits
    /// until [`Released`] says who answers.
    pub async fn release(&self) -> Released {
        Released {
            place: self.switch.clear().await,
            opening: self.opening.clone(),
        }
    }
}

/// A store that was given up for another process.
pub struct Released {
    place: OwnedRwLockWriteGuard<Source>,
    opening: Opening,
}

impl Released {
    /// The other process answers from here on.
    pub fn relay(mut self, relay: Relay) {
        *self.place = Source {
            broker: Arc::new(relay),
            close: Box::new(|| ()),
        };
    }

    /// The other process is gone: this one goes on. Errors when the store cannot be opened; then this process
    /// has none.
    pub async fn reopen(mut self) -> anyhow::Result<()> {
        *self.place = self.opening.open_once_free().await?.0;
        Ok(())
    }
}

/// Opens the store, or the way to the process that has it. Must be called within a tokio runtime. `waiting`: another
/// process is about to close it.
///
/// Errors when the store belongs to another secret, is in use by another process, or cannot be read.
pub async fn open(
    settings: &Settings,
    keys: (&[u8; 32], &DerivedAuthority),
    clock: Arc<dyn Clock>,
    waiting: bool,
) -> anyhow::Result<Broker> {
    let opening = match &settings.internal.databroker {
        Some(remote) => Opening::Other(Way::new(remote, settings, keys, clock)?),
        None => Opening::Own {
            settings: settings.databroker.clone(),
            keys: at_rest(settings)?,
            place: place(settings, keys, &clock)?,
            clock,
        },
    };
    if matches!(
        &opening,
        Opening::Own {
            settings: DatabrokerSettings::Memory,
            ..
        }
    ) {
        tracing::warn!("databroker_storage_type is memory: sessions end with this process");
    }
    let (source, group) = if waiting {
        opening.open_once_free().await?
    } else {
        opening.open().await?
    };
    let switch = Arc::new(Switch::new(source));
    Ok(Broker {
        handle: Arc::clone(&switch) as Arc<dyn Databroker>,
        group,
        switch,
        opening,
    })
}

/// The keys of records at rest.
pub fn at_rest(settings: &Settings) -> anyhow::Result<Vec<[u8; 32]>> {
    settings
        .at_rest
        .iter()
        .map(|key| {
            Ok(kdf::derive(
                &super::core::secret(key.expose(), "databroker_encryption_keys")?,
                AT_REST,
            ))
        })
        .collect()
}

/// What this databroker is to the others of its group.
fn place(
    settings: &Settings,
    keys: (&[u8; 32], &DerivedAuthority),
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Place> {
    let Some(cluster) = &settings.internal.cluster else {
        return Ok(Place::Alone);
    };
    let way = |origin: &Origin| way(origin, cluster, settings, keys, clock);
    let Some(leader) = &cluster.leader else {
        let others = cluster.others.iter().map(way).collect::<anyhow::Result<_>>()?;
        return Ok(Place::Leads(others));
    };
    let aside = match (&settings.databroker, settings.at_rest.first()) {
        (DatabrokerSettings::File(folder), Some(key)) => {
            let key = super::core::secret(key.expose(), "databroker_encryption_keys")?;
            Some((folder.clone(), kdf::derive(&key, backup::PURPOSE)))
        }
        _ => None,
    };
    Ok(Place::Follows(Follow {
        id: cluster.id.clone(),
        leader: way(leader)?,
        aside,
    }))
}

/// The way to another node.
fn way(
    origin: &Origin,
    cluster: &ClusterSettings,
    settings: &Settings,
    keys: (&[u8; 32], &DerivedAuthority),
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Leader> {
    let remote = RemoteDatabroker {
        endpoints: vec![origin.clone()],
        server_name: cluster.server_name.clone(),
    };
    let broker = Way::new(&remote, settings, keys, Arc::clone(clock))?.forwarding(&cluster.id)?;
    Ok(Leader {
        broker: Arc::new(broker),
        place: origin.url(),
    })
}

impl Opening {
    async fn open(&self) -> anyhow::Result<(Source, Option<Group>)> {
        let (settings, keys, clock, place) = match self {
            Self::Own {
                settings,
                keys,
                clock,
                place,
            } => (settings, keys, Arc::clone(clock), place),
            Self::Other(way) => {
                let source = Source {
                    broker: Arc::new(way.client()),
                    close: Box::new(|| ()),
                };
                return Ok((source, None));
            }
        };
        match settings {
            DatabrokerSettings::Memory => serve(MemoryStore::new(), clock, place).await,
            DatabrokerSettings::File(folder) => serve(open_file(folder, keys)?, clock, place).await,
            DatabrokerSettings::Postgres(connection) => {
                let connection = std::str::from_utf8(connection.expose())
                    .context("databroker_storage_connection_string is no text")?;
                let store = PostgresStore::open_with(connection, &crate::commands::environment(), keys)
                    .await
                    .context("databroker")?;
                serve(store, clock, place).await
            }
        }
    }

    /// Waits a while for a process that still has it.
    async fn open_once_free(&self) -> anyhow::Result<(Source, Option<Group>)> {
        let deadline = tokio::time::Instant::now() + CLOSING;
        loop {
            match self.open().await {
                Err(error) if is_in_use(&error) && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                result => return result,
            }
        }
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<OpenError>(), Some(OpenError::InUse { .. }))
}

fn open_file(folder: &Path, keys: &[[u8; 32]]) -> anyhow::Result<FileStore> {
    FileStore::open(folder, keys)
        .with_context(|| format!("databroker: the store in {} cannot be opened", folder.display()))
}

/// A databroker over `store`, in its role.
async fn serve<S: Store>(
    store: S,
    clock: Arc<dyn Clock>,
    place: &Place,
) -> anyhow::Result<(Source, Option<Group>)> {
    match place {
        Place::Alone => {
            ready(&store).await.context("databroker")?;
            let server = Server::start(store, clock);
            kept::say(&*server).await;
            Ok((source(server), None))
        }
        Place::Leads(others) => {
            let node = Node::lead(store, clock, others.clone()).await;
            let node = node.context("databroker")?;
            kept::say(&*node).await;
            Ok(member(node))
        }
        Place::Follows(follow) => {
            let store = Arc::new(store);
            if let Some((folder, key)) = &follow.aside {
                set_aside(&store, folder, key, &clock).await?;
            }
            tracing::info!(leader = follow.leader.place, "databroker: following");
            let leader = follow.leader.clone();
            Ok(member(Node::follow(store, clock, leader, &follow.id)))
        }
    }
}

fn member<S: Store>(node: Arc<Node<S>>) -> (Source, Option<Group>) {
    let status = node.status();
    let member = Arc::clone(&node) as Arc<dyn Member>;
    let (member, closing) = (Arc::downgrade(&member), Arc::downgrade(&node));
    let source = Source {
        broker: node,
        close: Box::new(move || {
            if let Some(node) = closing.upgrade() {
                node.close();
            }
        }),
    };
    (source, Some(Group { member, status }))
}

/// Records that are no copy are about to be replaced by those of another databroker: a backup of them stays.
async fn set_aside<S: Store>(
    store: &Arc<S>,
    folder: &Path,
    key: &[u8; 32],
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let counters = store.counters().await.context("databroker")?;
    if counters.standing != Standing::Own || counters.latest == 0 {
        return Ok(());
    }
    let name = format!(
        "before-following-{:016x}-{}.backup",
        counters.server_version, counters.latest
    );
    let path = folder.join(name);
    let server = Server::new(Arc::clone(store), Arc::clone(clock));
    match backup::write(&server, &path, key, clock.now()).await {
        Ok(made) => tracing::warn!(
            backup = %path.display(),
            not_readable = made.left_out.len(),
            "databroker: this node follows another one from here on; the records it had of its own are in a backup"
        ),
        Err(BackupError::Exists(_)) => {}
        Err(error) => return Err(error).context("databroker: the records of this node cannot be set aside"),
    }
    Ok(())
}

fn source<S>(server: Arc<Server<S>>) -> Source
where
    Server<S>: Databroker,
    S: Store,
{
    let closing = Arc::downgrade(&server);
    Source {
        broker: server,
        close: Box::new(move || {
            if let Some(server) = closing.upgrade() {
                server.close();
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pomerium_api::clock::SystemClock;
    use pomerium_api::databroker::Options;

    use super::*;

    #[tokio::test]
    async fn how_records_are_kept_is_said_at_each_start() {
        let store = Arc::new(MemoryStore::new());
        let requests = "type.googleapis.com/session.SessionBindingRequest";
        let changed = Options {
            capacity: Some(3),
            ..Options::default()
        };
        for start in 0..2 {
            let (source, _) = serve(Arc::clone(&store), Arc::new(SystemClock), &Place::Alone)
                .await
                .unwrap();
            let kept = source.broker.options(requests).await.unwrap().unwrap();
            assert_eq!(kept.capacity, Some(50_000), "start {start}");
            assert_eq!(kept.indexable_fields, ["key"]);
            let minutes = Duration::from_secs(15 * 60);
            assert_eq!(kept.ttl, minutes.try_into().ok());
            for (record_type, fields, ttl) in [
                ("session.SessionBinding", &["session_id", "user_id"][..], None),
                ("session.IdentityBinding", &["user_id"], None),
                ("oauth21.UpstreamMCPToken", &["user_id", "route_id"], None),
                ("oauth21.PendingUpstreamAuth", &["state_id"], Some(minutes)),
            ] {
                let record_type = format!("type.googleapis.com/{record_type}");
                let kept = source.broker.options(&record_type).await.unwrap().unwrap();
                assert_eq!(kept.indexable_fields, fields, "{record_type}");
                assert_eq!(kept.ttl, ttl.and_then(|ttl| ttl.try_into().ok()));
                assert_eq!(kept.capacity, None);
            }
            let errors = "type.googleapis.com/pomerium.events.LastError";
            let kept = source.broker.options(errors).await.unwrap().unwrap();
            assert_eq!((kept.capacity, kept.ttl), (Some(50), None));
            // Whatever a tool made of it, the next start says it again.
            source
                .broker
                .set_options(requests.into(), changed.clone())
                .await
                .unwrap();
            (source.close)();
        }
    }
}
