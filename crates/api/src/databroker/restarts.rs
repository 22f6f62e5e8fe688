//! The pace of those who follow changes and have to start over.

use std::time::Duration;

use tokio::time::Instant;

/// Two restarts within this time have to do with each other.
const CALM: Duration = Duration::from_secs(60);
/// The pause before the first.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait before everything is read again. A database that was cleared ends the stream once; one with damage in
/// its change log may do so again and again, with good changes in between.
#[derive(Debug, Default)]
pub struct Restarts {
    /// When the last one was, and how long it waited.
    last: Option<(Instant, Duration)>,
}

impl Restarts {
    /// The pause before the next one, which begins now.
    pub fn pause(&mut self) -> Duration {
        let now = Instant::now();
        let pause = match self.last {
            Some((at, pause)) if now.duration_since(at) < CALM => (pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.last = Some((now, pause));
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_after_another_waits_longer_and_a_calm_one_does_not() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.pause(), FIRST_PAUSE);
        assert_eq!(restarts.pause(), FIRST_PAUSE * 2);
        let last = (0..10).map(|_| restarts.pause()).last();
        assert_eq!(last, Some(LONGEST_PAUSE));
        tokio::time::advance(CALM).await;
        assert_eq!(restarts.pause(), FIRST_PAUSE);
    }
}
