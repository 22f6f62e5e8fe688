//! The conformance suite on a real server, and what only a database can do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::{StreamExt, future};
use pomerium_api::databroker::Versions;

use super::{OpenError, PostgresStore};
use crate::conformance::{CATS, Subject, all_latest, conformance, deletion, record};

const KEY: [u8; 32] = [7; 32];

/// A server of its own on a temporary folder; it stops with the process that tests.
struct Postgres {
    socket: PathBuf,
    _process: Child,
    _folder: tempfile::TempDir,
}

/// One server for all tests, a database for each.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    // From a thread that stays: the server ends with the thread that started it.
    let (ready, server) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        ready.send(Postgres::start()).unwrap();
        loop {
            std::thread::park();
        }
    });
    server.recv().expect("the server did not start")
});

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let packaged = versions.map(|version| version.path().join("bin").join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .collect();
    path.into_iter()
        .chain(packaged)
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: `cargo xtask test` gets it"))
}

/// The command as somebody else than root, whom the server refuses.
fn humbly(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--pdeathsig=KILL",
    ]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

impl Postgres {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
        }
        let data = folder.path().join("data");
        let made = humbly(&program("initdb"))
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut process = humbly(&program("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=400",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(process.stderr.take().unwrap()));
        let mut lines = lines.map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("ready to accept connections")),
            "the server did not start"
        );
        // Whatever else it says is read, so that it never waits.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            socket: folder.path().to_owned(),
            _process: process,
            _folder: folder,
        }
    }

    fn connection(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.socket.display())
    }
}

/// A connection string to a database that nobody has used.
async fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let server = tokio::task::spawn_blocking(|| &*SERVER).await.unwrap();
    let config = server.connection("postgres");
    let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    server.connection(&name)
}

async fn open(connection: &str) -> PostgresStore {
    PostgresStore::open(connection, &[KEY]).await.unwrap()
}

mod suite {
    use super::*;
    conformance!((open(&fresh().await).await, ()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_one_databroker_is_seen_by_the_others_in_order() {
    let connection = fresh().await;
    let (one, two) = (
        Subject::new(open(&connection).await),
        Subject::new(open(&connection).await),
    );
    let here = two.broker.versions().await.unwrap();
    let following = two.broker.sync("", here).await.unwrap();
    let writes = (0..40).map(|i: u32| {
        let broker = if i % 2 == 0 { &one.broker } else { &two.broker };
        broker.put(vec![
            record(CATS, &i.to_string(), "x"),
            record(CATS, "same", &i.to_string()),
        ])
    });
    future::try_join_all(writes).await.unwrap();
    let versions: Vec<u64> = following
        .take(80)
        .map(|change| change.unwrap().version)
        .collect()
        .await;
    assert_eq!(
        versions,
        (1..=80).collect::<Vec<_>>(),
        "no gap, no order but that of the commits"
    );
    assert_eq!(
        all_latest(&*one.broker, "").await,
        all_latest(&*two.broker, "").await
    );

    let cleared = one.broker.clear().await.unwrap();
    let elsewhere = two.broker.versions().await.unwrap();
    assert_eq!(elsewhere.server_version, cleared.new);
    let stale = Versions {
        server_version: cleared.old,
        ..elsewhere
    };
    assert!(two.broker.sync("", stale).await.is_err());
}

#[tokio::test]
async fn a_clear_elsewhere_ends_a_stream() {
    let connection = fresh().await;
    let (one, two) = (
        Subject::new(open(&connection).await),
        Subject::new(open(&connection).await),
    );
    one.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let here = two.broker.versions().await.unwrap();
    let mut following = two.broker.sync("", here).await.unwrap();
    let waiting = tokio::spawn(async move { following.next().await });
    one.broker.clear().await.unwrap();
    assert_eq!(
        waiting.await.unwrap(),
        Some(Err(pomerium_api::databroker::Error::Resync))
    );
}

#[tokio::test]
async fn contents_are_sealed_and_keys_must_fit() {
    let connection = fresh().await;
    let store = Subject::new(open(&connection).await);
    store
        .broker
        .put(vec![record(CATS, "tom", "refresh-token-of-a-user")])
        .await
        .unwrap();
    let (client, task) = tokio_postgres::connect(&connection, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(task);
    let row = client
        .query_one(
            "SELECT count(*) FROM pomerium_rs.records r, pomerium_rs.changes c
             WHERE position($1::bytea in r.value) > 0 OR position($1::bytea in c.value) > 0",
            &[&b"refresh-token".as_slice()],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    let refused = |keys: Vec<[u8; 32]>| {
        let connection = connection.clone();
        async move {
            match PostgresStore::open(&connection, &keys).await {
                Err(OpenError::Migrate(error)) => error.to_string(),
                other => panic!("{:?}", other.err()),
            }
        }
    };
    assert!(refused(vec![[8; 32]]).await.contains("another shared secret"));
    assert!(refused(vec![]).await.contains("no shared secret"));
    let rotated = PostgresStore::open(&connection, &[[8; 32], KEY]).await.unwrap();
    let rotated = Subject::new(rotated);
    assert!(
        rotated.broker.get(CATS, "tom").await.is_ok(),
        "the former key still opens"
    );
    rotated.broker.put(vec![record(CATS, "kit", "x")]).await.unwrap();
    assert!(store.broker.get(CATS, "kit").await.is_err(), "and seals no more");
}

#[tokio::test]
async fn a_zero_in_a_name_is_refused() {
    let store = Subject::new(open(&fresh().await).await);
    let refused = store.broker.put(vec![record(CATS, "a\0b", "x")]).await;
    assert!(
        matches!(refused, Err(pomerium_api::databroker::Error::Invalid(_))),
        "{refused:?}"
    );
    assert!(store.broker.get(CATS, "a\0b").await.is_err());
}

#[tokio::test]
async fn two_that_start_at_once_make_one_layout() {
    let connection = fresh().await;
    let all = future::join_all((0..8).map(|_| open(&connection))).await;
    let versions = future::join_all(all.iter().map(crate::store::Store::counters)).await;
    assert!(versions.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn tables_of_a_later_version_are_left_alone() {
    let connection = fresh().await;
    drop(open(&connection).await);
    let (client, task) = tokio_postgres::connect(&connection, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(task);
    client
        .batch_execute("UPDATE pomerium_rs.format SET format = 99")
        .await
        .unwrap();
    let error = PostgresStore::open(&connection, &[KEY])
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("format 99"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let error = PostgresStore::open("host=/nowhere user=x password=hunter2 dbname=x", &[KEY]).await;
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("/nowhere") && !error.contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let connection = fresh().await;
    let store = Subject::new(open(&connection).await);
    store.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let (client, task) = tokio_postgres::connect(&connection, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(task);
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    store.broker.put(vec![deletion(CATS, "tom")]).await.unwrap();
    assert!(store.broker.get(CATS, "tom").await.is_err());
}
