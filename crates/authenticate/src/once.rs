//! Values that may be used once: OAuth states, callback URLs, answers of devices.
//!
//! [`OnceSet`] remembers them in this process: bounded, kept over reloads. [`Once`] asks the databroker as well, because
//! the second use may come to another replica; [`Withdrawn`] tells all replicas of what does not count any more.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pomerium_api::databroker::{Databroker, Error, Options, Record};
use pomerium_api::pb::pomerium::internal::UsedOnce;
use pomerium_crypto::encoding;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// Type of the records of what was used.
const USED: &str = "type.googleapis.com/pomerium.internal.UsedOnce";
/// How long they are kept: longer than any such value is good for.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// Type of the records of what was withdrawn. Their data are those of [`USED`].
const WITHDRAWN: &str = "pomerium.io/Withdrawn";
/// How often the databroker is told so, in seconds: it forgets when it is cleared.
const TELL_EVERY: i64 = 10 * 60;

/// Values of one sort, each good for one use in all processes together.
#[derive(Debug)]
pub(crate) struct Once {
    kind: &'static str,
    here: OnceSet,
    told: Told,
}

impl Once {
    /// Values of the sort `kind`; the rest is for [`OnceSet::new`].
    pub(crate) fn new(kind: &'static str, lifetime: i64, capacity: usize) -> Self {
        Self {
            kind,
            here: OnceSet::new(lifetime, capacity),
            told: Told::new(USED, KEPT),
        }
    }

    /// Uses `value` up. False when it was used before, here or elsewhere.
    ///
    /// Errors when the databroker cannot tell: then it must count as used.
    pub(crate) async fn claim(&self, broker: &dyn Databroker, value: &str, now: i64) -> Result<bool, Error> {
        if !self.here.claim(value, now) {
            return Ok(false);
        }
        self.told.tell(broker, now).await?;
        Ok(broker.replace(mark(USED, self.kind, value)).await?.is_some())
    }
}

/// Things of one sort that do not count any more, at any replica.
#[derive(Debug)]
pub(crate) struct Withdrawn {
    kind: &'static str,
    here: OnceSet,
    told: Told,
}

impl Withdrawn {
    /// Things of the sort `kind` that would count for `lifetime` seconds at the longest; this process remembers
    /// `capacity` of them by itself.
    pub(crate) fn new(kind: &'static str, lifetime: i64, capacity: usize) -> Self {
        let kept = Duration::from_secs(u64::try_from(lifetime).unwrap_or_default());
        Self {
            kind,
            here: OnceSet::new(lifetime, capacity),
            told: Told::new(WITHDRAWN, kept),
        }
    }

    /// `value` does not count any more. Errors when only this process knows it now.
    pub(crate) async fn add(&self, broker: &dyn Databroker, value: &str, now: i64) -> Result<(), Error> {
        self.here.claim(value, now);
        self.told.tell(broker, now).await?;
        // Somebody else may have said so already.
        broker.replace(mark(WITHDRAWN, self.kind, value)).await?;
        Ok(())
    }

    /// Whether `value` does not count any more. Errors when the databroker cannot say.
    pub(crate) async fn holds(&self, broker: &dyn Databroker, value: &str) -> Result<bool, Error> {
        if self.here.holds(value) {
            return Ok(true);
        }
        match broker.get(WITHDRAWN, &name(self.kind, value)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How a value is called in a record: its digest, because the value may be a secret.
fn name(kind: &str, value: &str) -> String {
    format!("{kind}/{}", encoding::base64url_encode(&Sha256::digest(value)))
}

/// A record that is there or not; version 0: it must not be there yet.
fn mark(record_type: &str, kind: &str, value: &str) -> Record {
    let used = UsedOnce {
        kind: kind.to_owned(),
    };
    Record {
        r#type: record_type.to_owned(),
        id: name(kind, value),
        data: Some(prost_types::Any {
            type_url: USED.to_owned(),
            value: used.encode_to_vec(),
        }),
        ..Record::default()
    }
}

/// Tells the databroker how long such records are kept, so that they go by themselves.
#[derive(Debug)]
struct Told {
    record_type: &'static str,
    kept: Duration,
    at: AtomicI64,
}

impl Told {
    fn new(record_type: &'static str, kept: Duration) -> Self {
        Self {
            record_type,
            kept,
            at: AtomicI64::new(i64::MIN),
        }
    }

    async fn tell(&self, broker: &dyn Databroker, now: i64) -> Result<(), Error> {
        let told = self.at.load(Ordering::Relaxed);
        if now.saturating_sub(told) < TELL_EVERY {
            return Ok(());
        }
        let options = Options {
            ttl: prost_types::Duration::try_from(self.kept).ok(),
            ..Options::default()
        };
        broker.set_options(self.record_type.to_owned(), options).await?;
        self.at.store(now, Ordering::Relaxed);
        Ok(())
    }
}

/// Remembers used values until they would have expired anyway.
///
/// Every value of one set lives equally long, so the oldest is always at the front. When the set is full the
/// oldest is forgotten: only values that carried a valid signature or tag ever get in, so filling it takes as
/// many real logins.
#[derive(Debug)]
pub struct OnceSet {
    lifetime: i64,
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: HashSet<String>,
    order: VecDeque<(i64, String)>,
}

impl OnceSet {
    /// A set whose values are remembered for `lifetime` seconds, at most `capacity` of them.
    pub fn new(lifetime: i64, capacity: usize) -> Self {
        Self {
            lifetime,
            capacity,
            inner: Mutex::default(),
        }
    }

    /// Uses `value` up. False when it was used before.
    pub fn claim(&self, value: &str, now: i64) -> bool {
        let mut inner = self.inner.lock();
        inner.forget(now, self.capacity);
        if !inner.seen.insert(value.to_owned()) {
            return false;
        }
        inner.order.push_back((now + self.lifetime, value.to_owned()));
        true
    }

    /// Whether `value` was used.
    pub fn holds(&self, value: &str) -> bool {
        self.inner.lock().seen.contains(value)
    }
}

impl Inner {
    fn forget(&mut self, now: i64, capacity: usize) {
        while let Some((expires, _)) = self.order.front() {
            if *expires > now && self.order.len() < capacity {
                return;
            }
            if let Some((_, value)) = self.order.pop_front() {
                self.seen.remove(&value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_good_once_and_forgotten_after_its_life() {
        let set = OnceSet::new(60, 10);
        assert!(set.claim("a", 100));
        assert!(!set.claim("a", 159));
        assert!(set.holds("a"));
        assert!(set.claim("b", 160), "another value");
        assert!(!set.holds("a"), "past its life");
    }

    #[test]
    fn it_never_grows_past_its_capacity() {
        let set = OnceSet::new(1_000, 3);
        for value in ["a", "b", "c", "d", "e"] {
            assert!(set.claim(value, 0));
        }
        assert!(!set.holds("a"));
        assert!(set.holds("e"));
        assert_eq!(set.inner.lock().seen.len(), 3);
        assert_eq!(set.inner.lock().order.len(), 3);
    }
}
