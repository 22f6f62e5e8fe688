use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, future};
use jiff::Timestamp;
use pomerium_api::clock::SystemClock;
use pomerium_api::databroker::Databroker;
use pomerium_api::databroker::Error;

use super::{FileStore, OpenError};
use crate::Server;
use crate::conformance::{CATS, Subject, all_latest, conformance, deletion, record};
use crate::store::{Store, Write, Written};

const KEY: [u8; 32] = [7; 32];

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder, &[KEY]).unwrap()
}

mod sealed {
    use super::*;
    conformance!({
        let folder = tempfile::tempdir().unwrap();
        (open(folder.path()), folder)
    });
}

mod unsealed {
    use super::*;
    conformance!({
        let folder = tempfile::tempdir().unwrap();
        (FileStore::open(folder.path(), &[]).unwrap(), folder)
    });
}

/// Flips a bit of a live record on the disk, so many bytes behind its beginning, or before its end.
pub(crate) fn spoil(store: &FileStore, folder: &Path, (record_type, id): (&str, &str), at: i64) {
    let spot = store.index.read().find(record_type, id).unwrap().spot;
    let path = folder.join(super::segment::name(spot.segment));
    let file = File::options().read(true).write(true).open(path).unwrap();
    let begin = if at < 0 { spot.at + spot.length } else { spot.at };
    let at = u64::from(begin).checked_add_signed(at).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

async fn put(store: &FileStore, id: &str, data: &str) {
    let put = Write::Put(vec![record(CATS, id, data)]);
    assert!(matches!(
        store.write(put, Timestamp::UNIX_EPOCH).await,
        Ok(Written::Put(_))
    ));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = Subject::new(open(folder.path()));
    first
        .server
        .put(vec![record(CATS, "a", "1"), record(CATS, "b", "2")])
        .await
        .unwrap();
    first.server.put(vec![deletion(CATS, "a")]).await.unwrap();
    let (records, versions) = all_latest(&*first.server, "").await;
    drop(first);
    let second = Subject::new(open(folder.path()));
    assert_eq!(all_latest(&*second.server, "").await, (records, versions));
    assert_eq!(
        second
            .server
            .put(vec![record(CATS, "c", "3")])
            .await
            .unwrap()
            .records[0]
            .version,
        4
    );
}

/// A copy that went wrong: the index of one store beside the records of another.
#[tokio::test]
async fn nothing_is_taken_away_from_files_of_two_stores() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&one, &other] {
        put(&open(folder.path()), "a", "1").await;
    }
    let index = |folder: &tempfile::TempDir| folder.path().join("databroker.index");
    std::fs::rename(index(&other), other.path().join("aside")).unwrap();
    std::fs::copy(index(&one), index(&other)).unwrap();
    let refused = FileStore::open(other.path(), &[KEY]).err().unwrap().to_string();
    assert!(refused.contains("belongs to another store"), "{refused}");
    std::fs::rename(other.path().join("aside"), index(&other)).unwrap();
    let found = open(other.path()).get(CATS, "a").await.unwrap();
    assert!(found.is_some(), "the records are still there");
}

#[tokio::test]
async fn keys_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let refusal = |keys: &[[u8; 32]]| FileStore::open(folder.path(), keys).err().unwrap();
    let wrong = refusal(&[[8; 32]]);
    assert!(matches!(wrong, OpenError::WrongKey { .. }), "{wrong}");
    assert!(wrong.to_string().contains("another shared secret"));
    assert!(matches!(refusal(&[]), OpenError::MissingKey { .. }));
    drop(open(folder.path()));

    let plain = tempfile::tempdir().unwrap();
    drop(FileStore::open(plain.path(), &[]).unwrap());
    let refused = FileStore::open(plain.path(), &[KEY]).err().unwrap();
    assert!(matches!(refused, OpenError::NotSealed { .. }), "{refused}");
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let second = FileStore::open(folder.path(), &[KEY]).err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    assert!(second.to_string().contains(&folder.path().display().to_string()));
    drop(first);
    open(folder.path());
}

/// Nothing is acknowledged that ends with the process.
#[tokio::test]
async fn a_store_whose_files_were_deleted_takes_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("records");
    let store = open(&place);
    put(&store, "tom", "1").await;
    std::fs::remove_dir_all(&place).unwrap();
    for _ in 0..2 {
        let late = Write::Put(vec![record(CATS, "felix", "2")]);
        let refused = store.write(late, Timestamp::UNIX_EPOCH).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    drop(store);
    assert!(!FileStore::is_in(&place));
}

#[tokio::test]
async fn contents_are_not_readable_in_the_file() {
    let contains = |folder: &Path, text: &str| {
        let files = std::fs::read_dir(folder).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "tom", "refresh-token-of-a-user").await;
    drop(store);
    assert!(!contains(folder.path(), "refresh-token-of-a-user"));

    // The search finds it when it is there.
    let plain = tempfile::tempdir().unwrap();
    let store = FileStore::open(plain.path(), &[]).unwrap();
    put(&store, "tom", "refresh-token-of-a-user").await;
    drop(store);
    assert!(contains(plain.path(), "refresh-token-of-a-user"));
}

/// A sealed value moved to another id, as someone with the file but not the key could do.
#[tokio::test]
async fn a_swapped_value_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "admin", "all rights").await;
    put(&store, "guest", "few rights").await;
    {
        let mut index = store.index.write();
        let admin = index.find(CATS, "admin").unwrap();
        let cats = index.live.get_mut(CATS).unwrap();
        cats.rows.insert("guest", admin);
    }
    let error = store.get(CATS, "guest").await.unwrap_err();
    assert!(
        matches!(&error, Error::Damaged(text) if text.contains("damaged or was altered")),
        "{error}"
    );
    let (_, records) = store.latest("").await.unwrap();
    let ids: Vec<_> = records.map(|record| record.unwrap().id).collect().await;
    assert_eq!(ids, ["admin"], "the others can still be read");
    // One bad write in a shared commit must not spoil the others.
    let patch = Write::Patch {
        records: vec![record(CATS, "guest", "y")],
        mask: vec!["name".into()],
    };
    let deletion = Write::Put(vec![deletion(CATS, "admin")]);
    let now = Timestamp::UNIX_EPOCH;
    let (bad, good) = future::join(store.write(patch, now), store.write(deletion, now)).await;
    assert!(matches!(bad, Err(Error::Damaged(_))), "{bad:?}");
    assert!(good.is_ok());
    assert_eq!(store.get(CATS, "admin").await.unwrap(), None);
}

#[tokio::test]
async fn a_store_of_a_later_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "tom", "x").await;
    drop(store);
    let path = folder.path().join("databroker.index");
    let kept = std::fs::read(&path).unwrap();
    let mut later = kept.clone();
    // Behind the name of the file and the length of the format.
    assert_eq!(later[12], b'3');
    later[12] = b'4';
    std::fs::write(&path, &later).unwrap();
    let refused = FileStore::open(folder.path(), &[KEY]).err().unwrap();
    assert!(
        matches!(&refused, OpenError::Format { found, .. } if found == "4"),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("this program knows format 3"),
        "{refused}"
    );
    std::fs::write(&path, &kept).unwrap();
    let store = open(folder.path());
    assert!(
        store.get(CATS, "tom").await.unwrap().is_some(),
        "nothing was touched"
    );
}

#[tokio::test]
async fn former_keys_open_and_the_first_seals() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "old", "x").await;
    drop(store);
    const NEW: [u8; 32] = [8; 32];
    let store = FileStore::open(folder.path(), &[NEW, KEY]).unwrap();
    assert!(store.get(CATS, "old").await.unwrap().is_some());
    put(&store, "new", "x").await;
    drop(store);
    // Everything is sealed with the new key by now: the former may be forgotten.
    let store = FileStore::open(folder.path(), &[NEW]).unwrap();
    assert!(store.get(CATS, "old").await.unwrap().is_some());
    assert!(store.get(CATS, "new").await.unwrap().is_some());
    drop(store);
    let refused = FileStore::open(folder.path(), &[KEY]).err().unwrap();
    assert!(matches!(refused, OpenError::WrongKey { .. }), "{refused}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_has_access() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new");
    let store = open(&folder);
    put(&store, "tom", "x").now_or_never();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn concurrent_puts_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let ids: Vec<String> = (0..500).map(|i| i.to_string()).collect();
    future::join_all(ids.iter().map(|id| put(&store, id, "x"))).await;
    let commits = store.commits();
    assert!(commits < 50, "{commits} commits for 500 puts");
    assert_eq!(store.counters().await.unwrap().latest, 500);
    store
        .write(Write::Trim(Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    assert_eq!(
        store.commits(),
        commits,
        "a trim with nothing to do does not touch the disk"
    );
}

const KILLED_FOLDER: &str = "DATABROKER_TEST_FOLDER";

/// What was acknowledged is there after the process was killed in the middle of its writes.
#[test]
fn survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "file::tests::writes_until_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(KILLED_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let parse = |line: &str| {
            let (id, version) = line.strip_prefix("stored ")?.split_once(' ')?;
            Some((format!("{round}-{id}"), version.parse::<u64>().unwrap()))
        };
        let known = acknowledged.len();
        while acknowledged.len() < known + 40 + 60 * round {
            acknowledged.extend(parse(&lines.next().expect("the child ended by itself").unwrap()));
        }
        let second = FileStore::open(folder.path(), &[KEY]).err().unwrap();
        assert!(matches!(second, OpenError::InUse { .. }), "{second}");
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines.filter_map(|line| parse(&line.ok()?)));

        let store = open(folder.path());
        for (key, version) in &acknowledged {
            let (written_in, id) = key.split_once('-').unwrap();
            let found = store
                .get(CATS, id)
                .now_or_never()
                .unwrap()
                .unwrap()
                .unwrap_or_else(|| panic!("{key} is lost"));
            assert!(
                found.version >= *version,
                "{key} from round {written_in} went back"
            );
        }
    }
}

/// The process that [`survives_a_kill`] kills; run as a test by itself it has nothing to do.
#[test]
#[ignore = "started by survives_a_kill"]
fn writes_until_killed() {
    let Some(folder) = std::env::var_os(KILLED_FOLDER) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Arc::new(Server::new(open(Path::new(&folder)), Arc::new(SystemClock)));
        let writers = (0..8).map(|writer| {
            let server = server.clone();
            tokio::spawn(async move {
                for i in 0.. {
                    let id = format!("{writer}.{i}");
                    let reply = server
                        .put(vec![record(CATS, &id, &"x".repeat(700))])
                        .await
                        .unwrap();
                    #[allow(clippy::print_stdout, reason = "how the parent learns of it")]
                    {
                        println!("stored {id} {}", reply.records[0].version);
                    }
                }
            })
        });
        future::join_all(writers).await;
    });
}
