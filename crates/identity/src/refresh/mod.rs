//! Keeping sessions and users up to date with their identity provider (spec authentication.md 10, with the
//! improvements of 21).
//!
//! How long a session lives is ours to say; the provider is asked for new tokens before the old ones end,
//! and regularly who the user is. When it clearly says no, the session is deleted. When it cannot be reached
//! or is out of order, the session stays and the question is put again, later and later.
//!
//! One task follows the sessions and starts jobs; `schedule` decides when, `session` says what a job
//! does, an `observer` is told how the provider took it. One session never has two jobs at the same time.

mod observer;
mod schedule;
mod session;
#[cfg(test)]
mod tests;
mod unwritten;
mod watch;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Databroker, SyncObserver, SyncState};
use pomerium_crypto::random;
use tokio::task::JoinSet;

pub use self::observer::{Matter, RefreshObserver};
use self::schedule::{Outcome, Schedule, Task};
pub use self::unwritten::Unwritten;
use self::watch::Event;
use crate::OidcProvider;

/// Finds the provider of a session by its `idp_id`, in the configuration of the moment.
pub type Providers = dyn Fn(&str) -> Option<Arc<OidcProvider>> + Send + Sync;

/// What the manager works with.
pub struct RefreshDeps {
    /// Where sessions and users are.
    pub broker: Arc<dyn Databroker>,
    /// Sessions whose provider is not found are deleted when a refresh is due.
    pub providers: Box<Providers>,
    /// Judges when something is due.
    pub clock: Arc<dyn Clock>,
    /// Learns how sessions are followed.
    pub syncer: Arc<dyn SyncObserver>,
    /// Learns how the provider takes it.
    pub observer: Arc<dyn RefreshObserver>,
    /// What could not be written so far; outlives this manager.
    pub unwritten: Arc<Unwritten>,
}

/// How often and how early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshSettings {
    /// Refresh this long before the tokens end.
    pub grace: Duration,
    /// Leave at least this between two refreshes of one session.
    pub cool_off: Duration,
    /// Ask for user info this often.
    pub userinfo_every: Duration,
    /// Whether the end of the ID token is a reason to refresh (`refresh_session_at_id_token_expiration`).
    pub at_id_token_expiry: bool,
    /// How many sessions are worked on at the same time.
    pub parallel: usize,
}

impl RefreshSettings {
    /// Those of the specification.
    pub const DEFAULT: Self = Self {
        grace: Duration::from_secs(60),
        cool_off: Duration::from_secs(10),
        userinfo_every: Duration::from_secs(600),
        at_id_token_expiry: true,
        parallel: 8,
    };
}

impl Default for RefreshSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The clock is looked at at least this often, in case it jumps.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long jobs under way may take to finish at the end.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The manager.
pub struct Refresher {
    deps: Arc<RefreshDeps>,
    schedule: Schedule,
    parallel: usize,
    jobs: JoinSet<Finished>,
}

struct Finished {
    id: String,
    task: Task,
    outcome: Outcome,
}

impl Refresher {
    /// A manager that has not begun; see [`Self::run`].
    pub fn new(deps: RefreshDeps, settings: RefreshSettings) -> Self {
        let parallel = settings.parallel.max(1);
        Self {
            deps: Arc::new(deps),
            schedule: Schedule::new(settings),
            parallel,
            jobs: JoinSet::new(),
        }
    }

    /// Works until `cancel` completes, then lets the jobs under way finish, for some seconds: a refresh cut
    /// off in the middle may lose a refresh token.
    pub async fn run(mut self, cancel: impl Future<Output = ()> + Send) {
        let syncer = Arc::clone(&self.deps.syncer);
        let mut events = watch::sessions(self.deps.broker.clone(), Arc::clone(&syncer));
        tokio::pin!(cancel);
        loop {
            self.start_due();
            let sleep = tokio::time::sleep(self.time_to_next());
            tokio::select! {
                () = &mut cancel => break,
                Some(event) = events.next() => self.take_note(event),
                Some(finished) = self.jobs.join_next() => self.finish(finished),
                () = sleep => {}
            }
        }
        syncer.state(SyncState::Inactive);
        let rest = async { while self.jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WAIT, rest).await.is_err() {
            tracing::warn!("session refreshes were cut off at the end");
        }
    }

    fn take_note(&mut self, event: Event) {
        let now = self.deps.clock.now();
        let mut began = Instant::now();
        match event {
            Event::All(sessions) => {
                self.schedule.keep_only(
                    &sessions
                        .iter()
                        .map(|session| session.id.as_str())
                        .collect::<HashSet<_>>(),
                );
                self.deps.syncer.cleared(began.elapsed());
                began = Instant::now();
                sessions
                    .iter()
                    .for_each(|session| self.schedule.upsert(session, now, chance()));
                tracing::debug!(sessions = self.schedule.len(), "following sessions");
            }
            Event::Changed(session) => self.schedule.upsert(&session, now, chance()),
            Event::Gone(id) => self.schedule.remove(&id),
        }
        self.deps.syncer.updated(began.elapsed());
    }

    fn start_due(&mut self) {
        let now = self.deps.clock.now();
        while self.jobs.len() < self.parallel
            && let Some((id, task)) = self.schedule.take_due(now)
        {
            let deps = self.deps.clone();
            self.jobs.spawn(async move {
                // A session whose job panics must not stay marked as busy: it would never be looked at again.
                let job = AssertUnwindSafe(session::carry_out(deps, id.clone(), task));
                let outcome = job.catch_unwind().await.unwrap_or_else(|_| {
                    tracing::error!(
                        session_id = id,
                        ?task,
                        "a session refresh panicked; will try again"
                    );
                    Outcome::Retry
                });
                Finished { id, task, outcome }
            });
        }
    }

    fn finish(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        match finished {
            Ok(Finished { id, task, outcome }) => {
                self.schedule
                    .finished(&id, task, outcome, self.deps.clock.now(), chance());
            }
            Err(error) => tracing::error!(%error, "a session refresh was cut off"),
        }
    }

    fn time_to_next(&self) -> Duration {
        if self.jobs.len() >= self.parallel {
            return LONGEST_SLEEP;
        }
        let now: Timestamp = self.deps.clock.now();
        let wait = self
            .schedule
            .next_due()
            .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        wait.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }
}

/// A number between 0 and 1.
fn chance() -> f64 {
    f64::from(u16::from_be_bytes(random::bytes())) / f64::from(u16::MAX)
}
