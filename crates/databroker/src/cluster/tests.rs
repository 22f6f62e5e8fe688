use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, future};
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, Options, PutReply, Record, RecordKey, RecordStream, ServerInfo,
    Versions,
};

use super::{Leader, Member, Node, PromoteError, Role, Status};
use crate::conformance::{CATS, DOGS, Subject, all_latest, deletion, record};
use crate::store::{Standing, Store};
use crate::{FileStore, MemoryStore, RETENTION};

const KEY: [u8; 32] = [7; 32];

/// A leader whose line can be cut, and whose changes can be held back.
struct Link {
    subject: Subject<MemoryStore>,
    down: AtomicBool,
    /// The last version that is told of; later changes stay on the line.
    held_after: tokio::sync::watch::Sender<u64>,
    whole_copies: AtomicUsize,
    /// It does not know the calls that came last.
    former: AtomicBool,
    /// It cannot read its change log.
    patchy: AtomicBool,
    /// Ids of cats that it cannot read.
    unreadable: parking_lot::Mutex<Vec<&'static str>>,
}

impl Link {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            subject: Subject::new(MemoryStore::new()),
            down: AtomicBool::new(false),
            held_after: tokio::sync::watch::Sender::new(u64::MAX),
            whole_copies: AtomicUsize::new(0),
            former: AtomicBool::new(false),
            patchy: AtomicBool::new(false),
            unreadable: parking_lot::Mutex::default(),
        })
    }

    fn check(&self) -> Result<(), Error> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Error::Unavailable("the line is cut".into())),
            false => Ok(()),
        }
    }

    fn cut(&self) {
        self.down.store(true, Ordering::SeqCst);
        self.held_after.send_modify(|_| ());
    }

    fn leader(self: &Arc<Self>) -> Leader {
        Leader {
            broker: Arc::clone(self) as Arc<dyn Databroker>,
            place: "http://leader.example.com".into(),
        }
    }

    async fn put(&self, records: Vec<Record>) -> PutReply {
        self.subject.broker.put(records).await.unwrap()
    }
}

impl Databroker for Link {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async { self.check().and(self.subject.broker.versions().await) }.boxed()
    }
    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        async { self.check().and(self.subject.broker.info().await) }.boxed()
    }
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        async move { self.check().and(self.subject.broker.get(record_type, id).await) }.boxed()
    }
    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async {
            self.check()?;
            self.subject.broker.put(records).await
        }
        .boxed()
    }
    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        async { self.check().and(self.subject.broker.types().await) }.boxed()
    }
    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        async move { self.check().and(self.subject.broker.options(record_type).await) }.boxed()
    }
    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        async {
            if self.former.load(Ordering::SeqCst) {
                return Err(Error::Unsupported("what is that".into()));
            }
            self.check().and(self.subject.broker.all_options().await)
        }
        .boxed()
    }
    fn unreadable(&self) -> BoxFuture<'_, Result<Vec<RecordKey>, Error>> {
        let ids = self.unreadable.lock().clone();
        let keys = ids.iter().map(|id| (CATS.into(), (*id).into())).collect();
        future::ready(Ok(keys)).boxed()
    }
    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        async move {
            self.check()?;
            self.whole_copies.fetch_add(1, Ordering::SeqCst);
            self.subject.broker.sync_latest(record_type).await
        }
        .boxed()
    }
    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        async move {
            self.check()?;
            if self.patchy.load(Ordering::SeqCst) {
                return Err(Error::Resync);
            }
            let stream = self.subject.broker.sync(record_type, from).await?;
            let held = self.held_after.subscribe();
            let stream = stream.then(move |change| {
                let mut held = held.clone();
                async move {
                    if let Ok(change) = &change {
                        let version = change.version;
                        let _ = held.wait_for(|last| version <= *last).await;
                    }
                    change
                }
            });
            Ok(stream.boxed())
        }
        .boxed()
    }
    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        self.subject.broker.clear()
    }
}

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder, &[KEY]).unwrap()
}

fn follow<S: Store>(store: S, link: &Arc<Link>) -> Arc<Node<S>> {
    Node::follow(
        store,
        Arc::new(link.subject.clock.clone()),
        link.leader(),
        "node-b",
    )
}

async fn until<S: Store>(node: &Node<S>, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut status = node.status();
    tokio::time::timeout(Duration::from_secs(30), status.wait_for(wanted))
        .await
        .expect("it does not get there")
        .unwrap()
        .clone()
}

/// Until the node has everything the leader has now.
async fn complete<S: Store>(node: &Node<S>, link: &Link) -> Status {
    let goal = link.subject.broker.versions().await.unwrap();
    until(node, |status| {
        status.role == Role::Follows && status.copied == goal
    })
    .await
}

async fn same<S: Store>(node: &Node<S>, link: &Link) {
    let local = node.local().await.unwrap();
    let leader: &dyn Databroker = &*link.subject.broker;
    assert_eq!(all_latest(&*local, "").await, all_latest(leader, "").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_has_what_the_leader_has() {
    let link = Link::new();
    let three = Options {
        capacity: Some(3),
        ..Options::default()
    };
    for i in 0..100 {
        link.put(vec![record(CATS, &format!("{i:03}"), "x")]).await;
    }
    link.put(vec![record(DOGS, "rex", "x")]).await;
    link.subject
        .broker
        .set_options(DOGS.into(), three.clone())
        .await
        .unwrap();
    let node = follow(MemoryStore::new(), &link);
    complete(&node, &link).await;
    same(&node, &link).await;
    let local = node.local().await.unwrap();
    assert_eq!(local.options(DOGS).await.unwrap(), Some(three));

    let here = local.versions().await.unwrap();
    let mut following = local.sync("", here).await.unwrap();
    link.put(vec![record(CATS, "new", "x"), deletion(CATS, "000")])
        .await;
    let told: Vec<_> = (&mut following)
        .take(2)
        .map(|change| change.unwrap().id)
        .collect()
        .await;
    assert_eq!(
        told,
        ["new", "000"],
        "whoever follows the follower is told as well"
    );
    complete(&node, &link).await;
    same(&node, &link).await;
    assert!(
        local.put(vec![record(CATS, "x", "x")]).await.is_err(),
        "it takes no writes of its own"
    );
    node.put(vec![record(CATS, "through", "x")]).await.unwrap();
    assert!(
        link.subject.broker.get(CATS, "through").await.is_ok(),
        "it passes them on"
    );
    assert_eq!(link.whole_copies.load(Ordering::SeqCst), 1);
}

/// A copy that lacks what the leader cannot read says so, as long as it lacks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_cannot_read_is_told_to_be_missing() {
    let link = Link::new();
    link.put(vec![record(CATS, "kim", "x")]).await;
    link.unreadable.lock().extend(["kim", "tom"]);
    let folder = tempfile::tempdir().unwrap();
    let node = follow(open(folder.path()), &link);
    let status = until(&node, |status| !status.left_out.is_empty()).await;
    assert_eq!(
        status.left_out,
        [(CATS.to_owned(), "tom".to_owned())],
        "kim is here"
    );
    complete(&node, &link).await;
    drop(node);
    link.put(vec![record(CATS, "tom", "x")]).await;
    let node = follow(loop_open(folder.path()).await, &link);
    complete(&node, &link).await;
    drop(node);
    let node = follow(loop_open(folder.path()).await, &link);
    assert_eq!(complete(&node, &link).await.left_out, []);
}

/// One that cannot read its change log has its followers start over, but not without end and without a pause.
#[tokio::test(start_paused = true)]
async fn a_patchy_change_log_is_not_copied_round_and_round() {
    let link = Link::new();
    link.patchy.store(true, Ordering::SeqCst);
    let _node = follow(MemoryStore::new(), &link);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let copies = link.whole_copies.load(Ordering::SeqCst);
    assert!((5..=25).contains(&copies), "{copies}");
}

/// How a type is kept, whether it has records or not, is the same after a promotion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_are_those_of_the_leader() {
    const BIRDS: &str = "example.com/bird";
    let capacity = |capacity| Options {
        capacity,
        ..Options::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let stray = Subject::new(open(folder.path()));
    stray
        .broker
        .set_options(BIRDS.into(), capacity(Some(9)))
        .await
        .unwrap();
    drop(stray);
    let link = Link::new();
    let set = |record_type: &str, options| link.subject.broker.set_options(record_type.into(), options);
    set(CATS, capacity(Some(3))).await.unwrap();
    set(DOGS, capacity(Some(5))).await.unwrap();
    let copied = async || {
        let node = follow(loop_open(folder.path()).await, &link);
        complete(&node, &link).await;
        let local = node.local().await.unwrap();
        let all = local.all_options().await.unwrap();
        let capacities = [CATS, DOGS, BIRDS].map(|name| all.get(name).and_then(|options| options.capacity));
        node.close();
        capacities
    };
    assert_eq!(copied().await, [Some(3), Some(5), None]);
    set(CATS, capacity(None)).await.unwrap();
    assert_eq!(
        copied().await,
        [None, Some(5), None],
        "what the leader forgets goes"
    );

    // A former version tells of types with records only.
    link.former.store(true, Ordering::SeqCst);
    set(CATS, capacity(Some(4))).await.unwrap();
    link.put(vec![record(CATS, "tom", "x")]).await;
    assert_eq!(copied().await, [Some(4), Some(5), None]);

    link.cut();
    let node = follow(loop_open(folder.path()).await, &link);
    node.promote(true).await.unwrap();
    assert_eq!(node.options(DOGS).await, Ok(Some(capacity(Some(5)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_follower_has_goes() {
    let folder = tempfile::tempdir().unwrap();
    let former = Subject::new(open(folder.path()));
    for id in ["000", "stray", "zzz"] {
        former
            .broker
            .put(vec![record(CATS, id, "stray"), record(DOGS, id, "stray")])
            .await
            .unwrap();
    }
    drop(former);
    let link = Link::new();
    for i in 0..50 {
        link.put(vec![record(CATS, &format!("{i:03}"), "x")]).await;
    }
    let node = follow(open(folder.path()), &link);
    complete(&node, &link).await;
    same(&node, &link).await;
    // Capacity goes by the order of writing: it must not remember the strays.
    link.cut();
    node.promote(false).await.unwrap();
    let one = Options {
        capacity: Some(1),
        ..Options::default()
    };
    node.set_options(CATS.into(), one).await.unwrap();
    node.put(vec![record(CATS, "last", "x")]).await.unwrap();
    let (left, _) = all_latest(&*node, CATS).await;
    assert_eq!(
        left.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(),
        ["last"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_database_and_too_long_an_absence_are_copied_anew() {
    let link = Link::new();
    link.put(vec![record(CATS, "tom", "x")]).await;
    let folder = tempfile::tempdir().unwrap();
    let node = follow(open(folder.path()), &link);
    complete(&node, &link).await;
    link.clear().await.unwrap();
    link.put(vec![record(CATS, "kit", "x")]).await;
    complete(&node, &link).await;
    same(&node, &link).await;
    assert_eq!(link.whole_copies.load(Ordering::SeqCst), 2);

    node.close();
    drop(node);
    let node = loop_open(folder.path()).await;
    link.put(vec![record(CATS, "while away", "x"), deletion(CATS, "kit")])
        .await;
    link.subject.clock.advance(RETENTION * 2);
    link.subject.server.trim().await.unwrap();
    let node = follow(node, &link);
    complete(&node, &link).await;
    same(&node, &link).await;
    assert_eq!(link.whole_copies.load(Ordering::SeqCst), 3);
}

/// The store of a node that was dropped, as soon as its last task has let go of it.
async fn loop_open(folder: &Path) -> FileStore {
    loop {
        match FileStore::open(folder, &[KEY]) {
            Ok(store) => return store,
            Err(crate::OpenError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_it_was_wherever_it_was() {
    let link = Link::new();
    let folder = tempfile::tempdir().unwrap();
    let node = follow(open(folder.path()), &link);
    complete(&node, &link).await;
    drop(node);
    for round in 0..12_usize {
        let node = follow(loop_open(folder.path()).await, &link);
        for i in 0..20 {
            let id = format!("{}", (round * 7 + i) % 40);
            let change = if i % 4 == 3 {
                deletion(CATS, &id)
            } else {
                record(CATS, &id, "x")
            };
            link.put(vec![change]).await;
        }
        // Sometimes in the middle of it, sometimes when all is there.
        if round % 3 == 2 {
            complete(&node, &link).await;
            same(&node, &link).await;
        }
    }
    let node = follow(loop_open(folder.path()).await, &link);
    complete(&node, &link).await;
    same(&node, &link).await;
    assert_eq!(
        link.whole_copies.load(Ordering::SeqCst),
        1,
        "the log was enough from then on"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_follower_leads_under_a_new_name() {
    let link = Link::new();
    let folder = tempfile::tempdir().unwrap();
    link.put(vec![record(CATS, "tom", "x")]).await;
    let node = follow(open(folder.path()), &link);
    let before = complete(&node, &link).await.copied;
    let refused = node.promote(false).await.unwrap_err();
    assert!(
        matches!(&refused, PromoteError::LeaderAnswers(place) if place.contains("leader.example.com")),
        "{refused}"
    );

    link.cut();
    let status = until(&node, |status| matches!(status.role, Role::Alone(_))).await;
    assert_eq!(status.role.member(), "unknown");
    let failed = node.get(CATS, "tom").await.unwrap_err().to_string();
    assert!(
        failed.contains("leader.example.com") && failed.contains("pomerium databroker promote"),
        "{failed}"
    );
    let cleared = node.promote(false).await.unwrap();
    assert_eq!(cleared.old, before.server_version);
    assert_ne!(cleared.new, before.server_version);
    assert!(matches!(node.promote(false).await, Err(PromoteError::Leads)));
    assert!(node.get(CATS, "tom").await.is_ok());
    let written = node.put(vec![record(CATS, "kit", "x")]).await.unwrap();
    assert_eq!(written.server_version, cleared.new);
    assert_eq!(
        written.records[0].version,
        before.latest_record_version + 1,
        "no version is given out twice"
    );
    assert_eq!(
        node.sync("", before).await.err(),
        Some(Error::Resync),
        "who knew the former leader starts over"
    );
    node.close();
    drop(node);
    // It stays what it is.
    let store = loop_open(folder.path()).await;
    assert_eq!(store.counters().await.unwrap().standing, Standing::Own);
    assert!(
        Node::lead(store, Arc::new(link.subject.clock.clone()), Vec::new())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_copy_is_not_promoted_and_a_copy_does_not_lead_by_itself() {
    let link = Link::new();
    link.cut();
    let node = follow(MemoryStore::new(), &link);
    until(&node, |status| matches!(status.role, Role::Alone(_))).await;
    let refused = node.promote(false).await.unwrap_err().to_string();
    assert!(refused.contains("no copy"), "{refused}");
    link.down.store(false, Ordering::SeqCst);
    complete(&node, &link).await;

    let folder = tempfile::tempdir().unwrap();
    let node = follow(open(folder.path()), &link);
    complete(&node, &link).await;
    node.close();
    drop(node);
    let store = loop_open(folder.path()).await;
    let refused = Node::lead(store, Arc::new(link.subject.clock.clone()), Vec::new())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("pomerium databroker promote"), "{refused}");
}

/// What the leader acknowledged and had not told yet is what is lost, no more; and the lag says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_is_what_the_lag_says() {
    let link = Link::new();
    let folder = tempfile::tempdir().unwrap();
    let node = follow(open(folder.path()), &link);
    for i in 0..10 {
        link.put(vec![record(CATS, &i.to_string(), "x")]).await;
    }
    let status = complete(&node, &link).await;
    let now = pomerium_api::clock::Clock::now(&link.subject.clock);
    let lag = status.lag(now);
    assert_eq!((lag.changes, lag.age), (Some(0), Some(Duration::ZERO)));

    link.held_after.send_replace(10);
    for i in 10..25 {
        link.put(vec![record(CATS, &i.to_string(), "x")]).await;
    }
    link.subject.clock.advance(Duration::from_secs(90));
    let behind = until(&node, |status| status.role == Role::CatchesUp).await;
    let lag = behind.lag(pomerium_api::clock::Clock::now(&link.subject.clock));
    assert_eq!(lag.changes, Some(15));
    assert_eq!(lag.age, Some(Duration::from_secs(90)));
    link.cut();
    node.promote(true).await.unwrap();
    let (left, _) = all_latest(&*node, CATS).await;
    assert_eq!(left.len(), 10);
}

/// One that follows is not kept from writing by one that does not: every write of the leader goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_followers_of_one_leader_come_to_the_same() {
    let link = Link::new();
    let nodes: Vec<_> = (0..4).map(|_| follow(MemoryStore::new(), &link)).collect();
    let writers = (0..4).map(|writer| {
        let link = Arc::clone(&link);
        tokio::spawn(async move {
            for i in 0..50 {
                link.put(vec![record(CATS, &format!("{writer}-{}", i % 9), "x")])
                    .await;
            }
        })
    });
    future::try_join_all(writers).await.unwrap();
    for node in &nodes {
        complete(node, &link).await;
        same(node, &link).await;
    }
}

/// A standby that was promoted, as a former leader sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_leader_gives_way_to_the_later_term() {
    let clock = Arc::new(pomerium_api::clock::ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let folder = tempfile::tempdir().unwrap();
    let former = Subject::new(open(folder.path()));
    former.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    drop(former);
    // The other follows a leader with the same records, and is promoted.
    let link = Link::new();
    link.put(vec![record(CATS, "tom", "x")]).await;
    let other = follow(MemoryStore::new(), &link);
    complete(&other, &link).await;
    let place = || Leader {
        broker: Arc::clone(&other) as Arc<dyn Databroker>,
        place: "http://b.example.com".into(),
    };
    link.cut();
    let store = loop_open(folder.path()).await;
    let node = Node::lead(store, clock, vec![place()]).await.unwrap();
    assert_eq!(
        node.status().borrow().role,
        Role::Leads,
        "the other does not answer"
    );
    let here = node.versions().await.unwrap();
    let mut stream = node.sync("", here).await.unwrap();
    other.promote(true).await.unwrap();
    other.put(vec![record(CATS, "kit", "x")]).await.unwrap();
    let status = until(&node, |status| matches!(status.role, Role::GaveWay(_))).await;
    assert!(
        matches!(&status.role, Role::GaveWay(why) if why.contains("http://b.example.com")),
        "{status:?}"
    );
    assert!(stream.next().await.unwrap().is_err(), "who follows it is told");
    assert!(
        node.get(CATS, "kit").await.is_ok(),
        "what it is asked comes from the other"
    );
    node.put(vec![record(CATS, "rex", "x")]).await.unwrap();
    assert!(other.get(CATS, "rex").await.is_ok());
    assert!(!Member::leads(&*node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_leader_of_the_same_term_is_reported() {
    let link = Link::new();
    link.put(vec![record(CATS, "tom", "x")]).await;
    let clock = Arc::new(link.subject.clock.clone());
    let node = Node::lead(MemoryStore::new(), clock, vec![link.leader()])
        .await
        .unwrap();
    let status = until(&node, |status| status.rival.is_some()).await;
    assert!(
        status
            .rival
            .is_some_and(|rival| rival.contains("leader.example.com"))
    );
    assert!(node.put(vec![record(CATS, "kit", "x")]).await.is_ok());
    link.cut();
    until(&node, |status| status.rival.is_none()).await;
}
