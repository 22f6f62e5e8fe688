//! Values that may be used once: OAuth states and callback URLs. In memory, bounded, kept over reloads.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

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
