//! Several processes with one databroker: one set of certificates, and one order at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use pomerium_api::clock::{ManualClock, SystemClock};
use pomerium_api::databroker::{Databroker, Latest, Record};
use pomerium_certs::LoadedCertificate;
use pomerium_certs::acme::{Challenges, Keeper, Observer, Options, Plan, Served, SharedChallenges};
use pomerium_certs::storage::{RecordStorage, Storage, StorageError};
use pomerium_certs::web::WebClient;
use pomerium_databroker::{MemoryStore, Server};
use pomerium_testing::{Pebble, PebbleOptions, lease, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEY: [u8; 32] = [7; 32];

/// What a process has and did.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) served: watch::Sender<Vec<LoadedCertificate>>,
    pub(crate) ordered: AtomicUsize,
}

impl Observer for Seen {
    fn changed(&self, served: Served) {
        self.served.send_replace(served.certificates);
    }

    fn ordered(&self, _: &str, _: bool) {
        self.ordered.fetch_add(1, Ordering::Relaxed);
    }

    fn failing(&self, _: &BTreeMap<String, String>) {}
}

/// One process: its keeper, its listeners' challenges, and its eye on the databroker.
struct Process {
    challenges: Arc<Challenges>,
    seen: Arc<Seen>,
    tasks: Vec<JoinHandle<()>>,
    _stop: tokio_util::sync::DropGuard,
}

impl Process {
    async fn start(broker: &Arc<dyn Databroker>, pebble: &Pebble, names: &[&str]) -> Result<Self> {
        let stop = CancellationToken::new();
        let storage = RecordStorage::new(Arc::clone(broker), Arc::new(SystemClock), &[KEY]);
        let challenges = Arc::<Challenges>::default();
        let shared = SharedChallenges::new(Arc::clone(&challenges));
        let following = tokio::spawn(Arc::clone(&storage).follow(shared, stop.clone()));
        let options = Options {
            directory: pebble.directory(),
            email: "ops@example.com".into(),
            external_account: None,
            must_staple: false,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            dns: None,
            tls_challenge: false,
            http_challenge: true,
            storage,
            web: Arc::new(WebClient::new(pebble.authority_pem().as_bytes())?),
        };
        let plan = Plan {
            options: Some(Arc::new(options)),
            configured: Vec::new(),
        };
        let seen = Arc::<Seen>::default();
        let mut keeper = Keeper::new(
            Arc::new(SystemClock),
            Arc::clone(&challenges),
            Arc::clone(&seen) as Arc<dyn Observer>,
        );
        let plans = watch::Sender::new(plan.clone());
        let mut plan_changes = plans.subscribe();
        plan_changes.mark_unchanged();
        keeper.adopt(plan).await;
        let keeping = tokio::spawn({
            let stop = stop.clone();
            async move {
                let _plans = plans;
                keeper.run(plan_changes, stop).await;
            }
        });
        Ok(Self {
            challenges,
            seen,
            tasks: vec![following, keeping],
            _stop: stop.drop_guard(),
        })
    }

    /// As if the process were killed: nothing is put in order.
    async fn kill(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
    }

    async fn serves(&self, count: usize) -> Result<Vec<String>> {
        let mut served = self.seen.served.subscribe();
        within("the certificates", async {
            let now = served.wait_for(|served| served.len() == count).await;
            let now = now.context("the process is gone")?;
            Ok(now.iter().map(LoadedCertificate::fingerprint).collect())
        })
        .await?
    }

    fn ordered(&self) -> usize {
        self.seen.ordered.load(Ordering::Relaxed)
    }
}

/// The listener that the authority asks: what a question is answered with is up to `answer`.
async fn listen(
    port: u16,
    answer: impl Fn(String, String) -> BoxFuture<'static, Option<String>> + Send + Sync + 'static,
) -> Result<JoinHandle<()>> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let answer = Arc::new(answer);
    Ok(tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
                    head.push(socket.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let host = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Host: "))
                    .unwrap_or_default();
                let host = host.split(':').next().unwrap_or_default().to_owned();
                let reply = match answer(host, path).await {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ),
                    None => {
                        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
                    }
                };
                socket.write_all(reply.as_bytes()).await?;
                socket.shutdown().await
            });
        }
    }))
}

fn databroker(clock: &ManualClock) -> Arc<dyn Databroker> {
    Server::start(MemoryStore::new(), Arc::new(clock.clone()))
}

fn clock() -> Result<ManualClock> {
    Ok(ManualClock::new("2026-03-01T12:00:00Z".parse()?))
}

async fn records(broker: &Arc<dyn Databroker>) -> Result<Vec<Record>> {
    use futures_util::StreamExt as _;
    let mut stream = broker.sync_latest("").await?;
    let mut records = Vec::new();
    while let Some(next) = stream.next().await {
        if let Latest::Record(record) = next? {
            records.push(record);
        }
    }
    Ok(records)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_what_one_of_them_orders_and_both_answer_the_authority() -> Result<()> {
    let port = lease()?;
    let pebble = Pebble::start(&PebbleOptions {
        http_port: port.number(),
        ..PebbleOptions::default()
    })
    .await?;
    let clock = clock()?;
    let broker = databroker(&clock);
    let names = ["a.example.com", "b.example.com"];
    let (one, two) = tokio::try_join!(
        Process::start(&broker, &pebble, &names),
        Process::start(&broker, &pebble, &names)
    )?;
    let all_answered = Arc::new(AtomicBool::new(true));
    let (first, second) = (Arc::clone(&one.challenges), Arc::clone(&two.challenges));
    let noted = Arc::clone(&all_answered);
    let listening = listen(port.number(), move |host, path| {
        let answers = [&first, &second].map(|challenges| challenges.http_answer(&host, &path));
        let [one, two] = answers;
        if one.is_none() || one != two {
            noted.store(false, Ordering::Relaxed);
        }
        Box::pin(std::future::ready(one.and(two)))
    })
    .await?;
    let mut served = one.serves(2).await?;
    let mut others = two.serves(2).await?;
    served.sort();
    others.sort();
    assert_eq!(served, others, "the same certificates");
    assert_eq!(pebble.orders(), 2, "one order for each name");
    assert_eq!(one.ordered() + two.ordered(), 2);
    assert!(
        all_answered.load(Ordering::Relaxed),
        "whichever process is asked knows the answer"
    );

    // A third one comes later: it has them at once.
    let third = Process::start(&broker, &pebble, &names).await?;
    let mut late = third.serves(2).await?;
    late.sort();
    assert_eq!((late, pebble.orders()), (served, 2));

    // Nothing of it can be read in the records, and no proof is left.
    for record in records(&broker).await? {
        let data = record.data.unwrap_or_default().value;
        let readable = |text: &[u8]| data.windows(text.len()).any(|window| window == text);
        assert!(
            !readable(b"PRIVATE KEY") && !readable(b"CERTIFICATE") && !readable(b"location"),
            "{}",
            record.id
        );
        assert!(!record.r#type.ends_with("AcmeProof"), "{}", record.id);
    }
    listening.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_holder_is_killed_another_goes_on_after_its_lease() -> Result<()> {
    let port = lease()?;
    let pebble = Pebble::start(&PebbleOptions {
        http_port: port.number(),
        ..PebbleOptions::default()
    })
    .await?;
    let clock = clock()?;
    let broker = databroker(&clock);
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let open = Arc::new(AtomicBool::new(false));
    let current = Arc::new(parking_lot::Mutex::new(Arc::<Challenges>::default()));
    let listening = {
        let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
        let (open, current) = (Arc::clone(&open), Arc::clone(&current));
        listen(port.number(), move |host, path| {
            let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
            let (open, current) = (Arc::clone(&open), Arc::clone(&current));
            Box::pin(async move {
                if !open.load(Ordering::Relaxed) {
                    asked.notify_one();
                    go_on.notified().await;
                    return None;
                }
                let challenges = Arc::clone(&*current.lock());
                challenges.http_answer(&host, &path)
            })
        })
        .await?
    };
    let names = ["a.example.com"];
    let mut holder = Process::start(&broker, &pebble, &names).await?;
    within("the authority to look", asked.notified()).await?;
    let other = Process::start(&broker, &pebble, &names).await?;
    *current.lock() = Arc::clone(&other.challenges);
    holder.kill().await;
    open.store(true, Ordering::Relaxed);
    go_on.notify_waiters();
    assert_eq!(
        pebble.orders(),
        1,
        "the lease is the dead one's still, and nobody else orders"
    );
    assert!(other.seen.served.borrow().is_empty());
    clock.advance(Duration::from_secs(31));
    assert_eq!(other.serves(1).await?.len(), 1);
    assert_eq!((pebble.orders(), other.ordered()), (2, 1));
    listening.abort();
    Ok(())
}

fn storage(broker: &Arc<dyn Databroker>, keys: &[[u8; 32]]) -> Arc<RecordStorage> {
    RecordStorage::new(Arc::clone(broker), Arc::new(SystemClock), keys)
}

#[tokio::test]
async fn values_are_sealed_and_bound_to_their_place() -> Result<()> {
    let broker = databroker(&clock()?);
    let old = storage(&broker, &[KEY]);
    old.put("a/b.key", b"secret").await?;
    assert!(!old.put_if_absent("a/b.key", b"other").await?);
    assert!(old.put_if_absent("a/c/d.crt", b"chain").await?);
    old.put("ab/e", b"elsewhere").await?;
    assert_eq!(old.list("a").await?, ["a/b.key", "a/c/d.crt"]);
    assert_eq!(old.get("a/b.key").await?.as_deref(), Some(&b"secret"[..]));

    // A key that was replaced still opens; a stranger's does not, and says so.
    let new = storage(&broker, &[[9; 32], KEY]);
    assert_eq!(new.get("a/b.key").await?.as_deref(), Some(&b"secret"[..]));
    new.put("a/b.key", b"renewed").await?;
    let lost: Result<_, StorageError> = old.get("a/b.key").await;
    assert!(lost.is_err_and(|error| error.to_string().contains("another key")));

    // A value in another's place is none.
    let mut moved = broker
        .get("type.googleapis.com/pomerium.internal.AcmeFile", "a/c/d.crt")
        .await?;
    moved.id = "a/b.key".into();
    broker.put(vec![moved]).await?;
    assert!(new.get("a/b.key").await.is_err());

    new.delete("a/c/d.crt").await?;
    new.delete("a/c/d.crt").await?;
    assert_eq!(new.get("a/c/d.crt").await?, None);
    assert!(new.put("", b"x").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_lock_is_a_lease_and_a_lost_one_ends_what_is_done_under_it() -> Result<()> {
    use pomerium_certs::storage::{LockError, acquire};
    let clock = clock()?;
    let broker = databroker(&clock);
    let own: Arc<dyn Storage> = storage(&broker, &[KEY]);
    let time: Arc<dyn pomerium_api::clock::Clock> = Arc::new(SystemClock);
    let lock = acquire(&own, &time, "name", Duration::ZERO).await?;
    let busy = acquire(&own, &time, "name", Duration::ZERO).await;
    assert!(matches!(busy.err(), Some(LockError::Busy)));
    let other = acquire(&own, &time, "other", Duration::ZERO).await?;
    other.release().await;
    clock.advance(Duration::from_secs(31));
    let thief = acquire(&own, &time, "name", Duration::ZERO).await?;
    let work = lock.during(async { std::future::pending::<Result<(), LockError>>().await });
    let ended = within("the loss to be noticed", work).await?;
    assert!(matches!(ended, Err(LockError::Lost)));
    // The one who lost it has not given away the other's.
    let busy = acquire(&own, &time, "name", Duration::ZERO).await;
    assert!(matches!(busy.err(), Some(LockError::Busy)));
    thief.release().await;
    Ok(())
}
