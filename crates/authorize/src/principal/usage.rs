//! When the use of a session was noted last, so that a person who asks often is noted seldom.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// The moment, in milliseconds; 0 is never.
#[derive(Debug, Default)]
pub(super) struct Noted(AtomicI64);

impl Noted {
    /// True for one caller in each `every`. A clock that goes back is noted at once.
    pub(super) fn at(&self, now: Timestamp, every: Duration) -> bool {
        let now = now.as_millisecond();
        let last = self.0.load(Ordering::Relaxed);
        let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        if last != 0 && now >= last && now - last < every {
            return false;
        }
        self.0
            .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_news_once_in_a_while() {
        let noted = Noted::default();
        let every = Duration::from_secs(10);
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        assert!(noted.at(at(0), every));
        assert!(!noted.at(at(0), every) && !noted.at(at(9), every));
        assert!(noted.at(at(10), every));
        assert!(!noted.at(at(11), every));
        assert!(noted.at(at(-100), every), "the clock went back");
    }
}
