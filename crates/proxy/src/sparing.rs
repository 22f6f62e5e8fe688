//! Log lines about what strangers can cause at will: one a second at most, with how many were left out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The pause between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Says whether a line may be written.
#[derive(Debug)]
pub struct Sparing {
    base: Instant,
    /// Milliseconds after `base` from which the next line may be written.
    next: AtomicU64,
    left_out: AtomicU64,
}

impl Default for Sparing {
    /// The first line may be written.
    fn default() -> Self {
        Self {
            base: Instant::now(),
            next: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }
}

impl Sparing {
    /// How many lines were left out since the last one, if this one may be written.
    pub fn line(&self) -> Option<u64> {
        let now = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        let mine = now >= next
            && self
                .next
                .compare_exchange(
                    next,
                    now.saturating_add(pause),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if mine {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_and_the_rest_is_counted() {
        let sparing = Sparing::default();
        assert_eq!(sparing.line(), Some(0));
        assert_eq!(sparing.line(), None);
        assert_eq!(sparing.line(), None);
        tokio::time::advance(PAUSE).await;
        assert_eq!(sparing.line(), Some(2));
        assert_eq!(sparing.line(), None);
    }
}
