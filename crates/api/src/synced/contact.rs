//! Whether the databroker of another process can be reached, and for how long not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;

/// In touch.
const NEVER: i64 = i64::MIN;
/// Whoever asks may have looked at the clock before the loss was noticed, by not more than this (ms).
const EARLIER: i64 = 5_000;

/// Since when there is no contact.
pub(super) struct Contact {
    clock: Arc<dyn Clock>,
    limit: Duration,
    /// Unix milliseconds; [`NEVER`] while in touch.
    lost: AtomicI64,
    /// It was over once since then. Whatever the clock says later, it stays so until there is contact again.
    over: AtomicBool,
    /// Whether it is lost, for those who wait for that.
    told: watch::Sender<bool>,
}

impl Contact {
    /// In touch so far; what is known counts for `limit` without contact.
    pub(super) fn new(clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self {
            clock,
            limit,
            lost: AtomicI64::new(NEVER),
            over: AtomicBool::new(false),
            told: watch::Sender::new(false),
        }
    }

    /// The stream of changes stands.
    pub(super) fn kept(&self) {
        self.lost.store(NEVER, Ordering::Release);
        self.over.store(false, Ordering::Release);
        self.told.send_if_modified(|lost| std::mem::replace(lost, false));
    }

    /// The stream of changes broke. The first time counts.
    pub(super) fn lost(&self) {
        let now = self.clock.now().as_millisecond();
        let first = self
            .lost
            .compare_exchange(NEVER, now, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.over.store(false, Ordering::Release);
        }
        self.told.send_if_modified(|lost| !std::mem::replace(lost, true));
    }

    /// Tells when contact is lost (true) and found again.
    pub(super) fn told(&self) -> watch::Receiver<bool> {
        self.told.subscribe()
    }

    pub(super) fn lost_since(&self) -> Option<Timestamp> {
        match self.lost.load(Ordering::Acquire) {
            NEVER => None,
            at => Timestamp::from_millisecond(at).ok(),
        }
    }

    /// Whether the time without contact is longer than the limit at `now`. A clock that was set back does not lengthen
    /// it: then it is over as well. A request that began just before the loss is no such clock.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let lost = self.lost.load(Ordering::Acquire);
        if lost == NEVER {
            return false;
        }
        let limit = i64::try_from(self.limit.as_millis()).unwrap_or(i64::MAX);
        let outside = |at: Timestamp| {
            let gone = at.as_millisecond().saturating_sub(lost);
            !(-EARLIER..limit).contains(&gone)
        };
        if !outside(now) {
            return self.over.load(Ordering::Acquire);
        }
        // By the clock of now: a request that was held up since long before the loss says nothing about anybody else.
        if outside(self.clock.now()) {
            self.over.store(true, Ordering::Release);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_first_loss_counts_until_there_is_contact_again() {
        let clock = ManualClock::new(Timestamp::from_second(1_000_000).unwrap());
        let contact = Contact::new(Arc::new(clock.clone()), Duration::from_secs(300));
        assert!(!contact.is_over(clock.now()));
        contact.lost();
        clock.advance(Duration::from_secs(299));
        contact.lost();
        assert!(!contact.is_over(clock.now()));
        clock.advance(Duration::from_secs(1));
        assert!(contact.is_over(clock.now()));
        assert_eq!(contact.lost_since().unwrap().as_second(), 1_000_000);
        contact.kept();
        assert!(!contact.is_over(clock.now()) && contact.lost_since().is_none());
    }

    #[test]
    fn a_request_that_began_before_the_loss_is_judged() {
        let clock = ManualClock::new(Timestamp::from_second(1_000_000).unwrap());
        let contact = Contact::new(Arc::new(clock.clone()), Duration::from_secs(300));
        let began = clock.now();
        clock.advance(Duration::from_millis(1));
        contact.lost();
        assert!(!contact.is_over(began));
    }

    #[test]
    fn a_clock_set_back_does_not_lengthen_it() {
        let clock = ManualClock::new(Timestamp::from_second(1_000_000).unwrap());
        let contact = Contact::new(Arc::new(clock.clone()), Duration::from_secs(300));
        contact.lost();
        let back = Timestamp::from_second(999_000).unwrap();
        assert!(contact.is_over(back), "a request that was held up");
        assert!(!contact.is_over(clock.now()), "and no other");
        clock.set(back);
        assert!(contact.is_over(clock.now()));
        let caught_up = Timestamp::from_second(1_000_001).unwrap();
        clock.set(caught_up);
        assert!(contact.is_over(caught_up), "it stays over");
        contact.kept();
        contact.lost();
        assert!(!contact.is_over(caught_up));
    }
}
