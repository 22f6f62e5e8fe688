//! One suite for every storage.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use object_store::memory::InMemory;

use super::{Claim, FolderStorage, ObjectStorage, Storage, safe};

fn claim(owner: &str, at: i64) -> Claim {
    Claim {
        owner: owner.to_owned(),
        now: Timestamp::from_second(at).unwrap(),
        lease: Duration::from_secs(30),
    }
}

async fn suite(storage: Arc<dyn Storage>) {
    values(&*storage).await;
    locks(&*storage).await;
    race(storage).await;
}

async fn values(storage: &dyn Storage) {
    assert_eq!(storage.get("a/b.crt").await.unwrap(), None);
    storage.put("a/b.crt", b"one").await.unwrap();
    storage.put("a/b.crt", b"two").await.unwrap();
    storage.put("a/c/d.key", b"key").await.unwrap();
    storage.put("ab/e", b"other folder").await.unwrap();
    assert_eq!(storage.get("a/b.crt").await.unwrap().unwrap(), b"two");
    listed_and_deleted(storage).await;
}

async fn listed_and_deleted(storage: &dyn Storage) {
    assert!(!storage.put_if_absent("a/b.crt", b"three").await.unwrap());
    assert!(storage.put_if_absent("a/f", b"four").await.unwrap());
    assert_eq!(storage.get("a/b.crt").await.unwrap().unwrap(), b"two");
    assert_eq!(storage.list("a").await.unwrap(), ["a/b.crt", "a/c/d.key", "a/f"]);
    assert!(storage.list("nothing").await.unwrap().is_empty());
    storage.delete("a/b.crt").await.unwrap();
    storage.delete("a/b.crt").await.unwrap();
    assert_eq!(storage.get("a/b.crt").await.unwrap(), None);
}

async fn locks(storage: &dyn Storage) {
    assert!(storage.claim("x", &claim("one", 100)).await.unwrap());
    assert!(!storage.claim("x", &claim("two", 129)).await.unwrap());
    assert!(
        storage.claim("x", &claim("one", 120)).await.unwrap(),
        "the holder extends it"
    );
    assert!(!storage.claim("x", &claim("two", 149)).await.unwrap());
    assert!(
        storage.claim("x", &claim("two", 150)).await.unwrap(),
        "it has ended"
    );
    storage.release("x", "one").await.unwrap();
    assert!(
        !storage.claim("x", &claim("one", 151)).await.unwrap(),
        "only the holder releases"
    );
    storage.release("x", "two").await.unwrap();
    assert!(storage.claim("x", &claim("one", 152)).await.unwrap());
    let held = storage.get("locks/x").await.unwrap().unwrap();
    let held: serde_json::Value = serde_json::from_slice(&held).unwrap();
    assert_eq!(held["ID"], "one");
    assert_eq!(held["Expires"], "1970-01-01T00:03:02Z");
}

/// An expired lock that many want at once goes to one of them.
async fn race(storage: Arc<dyn Storage>) {
    assert!(storage.claim("raced", &claim("old", 100)).await.unwrap());
    let attempts = (0..16).map(|number| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            storage
                .claim("raced", &claim(&number.to_string(), 200))
                .await
                .unwrap()
        })
    });
    let won = futures_util::future::join_all(attempts).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn folder() {
    let root = tempfile::tempdir().unwrap();
    suite(Arc::new(FolderStorage::new(&root.path().join("autocert")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn objects() {
    for prefix in ["", "edge/one"] {
        suite(Arc::new(ObjectStorage::new(Arc::new(InMemory::new()), prefix))).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_their_owner_and_keys_stay_inside() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    let storage = FolderStorage::new(&root.path().join("autocert"));
    storage
        .put("acme/ca/users/default/private.key", b"key")
        .await
        .unwrap();
    let mode = |path: &str| {
        let path = root.path().join("autocert").join(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("acme/ca/users/default/private.key"), 0o600);
    assert_eq!(mode("acme"), 0o700);
    for bad in ["", "../x", "/etc/passwd", "a/../../x"] {
        assert!(storage.put(bad, b"").await.is_err(), "{bad}");
    }
}

#[test]
fn components_of_a_key() {
    assert_eq!(safe("*.Example.com"), "wildcard_.example.com");
    assert_eq!(safe("ops+certs@example.com"), "ops_plus_certs@example.com");
    assert_eq!(safe("../a/b:14000"), "ab-14000");
}
