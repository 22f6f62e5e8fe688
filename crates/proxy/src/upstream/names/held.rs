//! What is believed about a name after each answer, and when to ask again. Pure.
//!
//! A failure says nothing about the name: the last good answer serves on, for an hour at most. An empty
//! answer says that the name has no addresses; it is believed when it comes twice in a row, because some
//! name servers are empty for a moment while they restart.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pomerium_config::settings::DnsSettings;
use tokio::time::Instant;

use super::lookup::Answer;

/// How long a good answer serves while lookups fail.
const STALE: Duration = Duration::from_secs(3600);
/// Least and most time between two questions.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// What is known about a name.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// It has these addresses, in order; possibly none.
    Addresses(Arc<[IpAddr]>),
    /// It never could be looked up, or not for too long.
    Failed(Arc<io::Error>),
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Addresses(mine), Self::Addresses(theirs)) => mine == theirs,
            (Self::Failed(_), Self::Failed(_)) => true,
            _ => false,
        }
    }
}

/// The memory of one name.
#[derive(Debug, Default)]
pub(super) struct Held {
    good: Option<(Instant, Arc<[IpAddr]>)>,
    empty: u32,
}

impl Held {
    /// Takes in an answer: what is known now, and how long to wait before asking again.
    pub(super) fn learn(
        &mut self,
        answer: Answer,
        now: Instant,
        settings: &DnsSettings,
    ) -> (Known, Duration) {
        let after_failure = settings.failure_refresh_rate.unwrap_or(settings.refresh_rate);
        let (known, wait) = match answer {
            Answer::Found(mut addresses, ttl) => {
                addresses.dedup();
                let addresses: Arc<[IpAddr]> = addresses.into();
                self.empty = 0;
                self.good = Some((now, addresses.clone()));
                (Known::Addresses(addresses), ttl.unwrap_or(settings.refresh_rate))
            }
            Answer::Empty => {
                self.empty += 1;
                if self.empty >= 2 {
                    self.good = None;
                }
                let known = self.good.as_ref().map(|(_, addresses)| addresses.clone());
                (Known::Addresses(known.unwrap_or_default()), after_failure)
            }
            Answer::Failed(error) => {
                self.good = self
                    .good
                    .take()
                    .filter(|(since, _)| now.duration_since(*since) < STALE);
                let known = match &self.good {
                    Some((_, addresses)) => Known::Addresses(addresses.clone()),
                    None => Known::Failed(Arc::new(error)),
                };
                (known, after_failure)
            }
        };
        (known, wait.clamp(SHORTEST, LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(last: u8, ttl: Option<u64>) -> Answer {
        Answer::Found(vec![[192, 0, 2, last].into()], ttl.map(Duration::from_secs))
    }

    fn failed() -> Answer {
        Answer::Failed(io::Error::from(io::ErrorKind::TimedOut))
    }

    fn settings() -> DnsSettings {
        DnsSettings {
            refresh_rate: Duration::from_secs(7),
            failure_refresh_rate: Some(Duration::from_secs(3)),
            ..DnsSettings::default()
        }
    }

    fn is(known: &Known, last: u8) -> bool {
        matches!(known, Known::Addresses(addresses) if **addresses == [IpAddr::from([192, 0, 2, last])])
    }

    fn is_empty(known: &Known) -> bool {
        matches!(known, Known::Addresses(addresses) if addresses.is_empty())
    }

    #[tokio::test]
    async fn the_ttl_says_when_to_ask_again_and_the_refresh_rate_where_there_is_none() {
        let (mut held, now) = (Held::default(), Instant::now());
        assert_eq!(held.learn(found(1, Some(20)), now, &settings()).1.as_secs(), 20);
        assert_eq!(held.learn(found(1, None), now, &settings()).1.as_secs(), 7);
        assert_eq!(held.learn(failed(), now, &settings()).1.as_secs(), 3);
        assert_eq!(held.learn(Answer::Empty, now, &settings()).1.as_secs(), 3);
        let mut without = settings();
        without.failure_refresh_rate = None;
        assert_eq!(held.learn(failed(), now, &without).1.as_secs(), 7);
        assert_eq!(held.learn(found(1, Some(u64::MAX)), now, &settings()).1, LONGEST);
    }

    #[tokio::test]
    async fn a_failure_keeps_the_last_good_answer_for_an_hour() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.learn(found(1, None), now, &settings());
        assert!(is(&held.learn(failed(), now + STALE / 2, &settings()).0, 1));
        let (known, _) = held.learn(failed(), now + STALE, &settings());
        assert!(matches!(known, Known::Failed(_)));
        assert!(is(&held.learn(found(2, None), now + STALE, &settings()).0, 2));
    }

    #[tokio::test]
    async fn an_empty_answer_is_believed_the_second_time() {
        let (mut held, now) = (Held::default(), Instant::now());
        held.learn(found(1, None), now, &settings());
        assert!(is(&held.learn(Answer::Empty, now, &settings()).0, 1));
        assert!(is_empty(&held.learn(Answer::Empty, now, &settings()).0));
        // A good answer in between starts the count anew.
        held.learn(found(1, None), now, &settings());
        held.learn(Answer::Empty, now, &settings());
        held.learn(found(1, None), now, &settings());
        assert!(is(&held.learn(Answer::Empty, now, &settings()).0, 1));
    }

    #[tokio::test]
    async fn a_name_that_never_had_an_address_has_none_at_once() {
        let (mut held, now) = (Held::default(), Instant::now());
        assert!(is_empty(&held.learn(Answer::Empty, now, &settings()).0));
        assert!(matches!(
            Held::default().learn(failed(), now, &settings()).0,
            Known::Failed(_)
        ));
    }
}
