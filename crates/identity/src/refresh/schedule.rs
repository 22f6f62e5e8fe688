//! When what is to be done for which session. Pure: no clock, no I/O.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use pomerium_api::pb::session::Session;
use pomerium_api::records::from_proto_time;

use super::RefreshSettings;

/// First pause after a temporary failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Refreshes are brought forward by up to this, so that sessions begun together part ways.
const SPREAD: Duration = Duration::from_secs(20);

/// Something to do for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Its time is over.
    Expire,
    /// New tokens, then user info.
    Refresh,
    /// User info alone.
    UserInfo,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should.
    Done,
    /// It may work later.
    Retry,
    /// No use in trying again with the tokens there are.
    Pointless,
    /// The session is no more.
    Gone,
}

/// All sessions, by what is due next.
pub(super) struct Schedule {
    settings: RefreshSettings,
    sessions: HashMap<String, Plan>,
    queue: BTreeSet<(Timestamp, String)>,
}

struct Plan {
    facts: Facts,
    /// Between 0 and 1, different for each session.
    spread: f64,
    refreshed_at: Timestamp,
    userinfo_at: Timestamp,
    failures: u32,
    not_before: Timestamp,
    /// Whether the provider said that there is no more to ask with these tokens.
    pointless: bool,
    busy: bool,
    queued: Option<Timestamp>,
}

/// What the record says that matters here.
#[derive(PartialEq, Eq)]
struct Facts {
    expires_at: Option<Timestamp>,
    tokens_end: Option<Timestamp>,
    id_token_ends: Option<Timestamp>,
    access_token: String,
    can_refresh: bool,
    disabled: bool,
}

impl Facts {
    fn of(session: &Session) -> Self {
        let time = |at: Option<&prost_types::Timestamp>| {
            at.and_then(from_proto_time)
                .filter(|at| *at > Timestamp::UNIX_EPOCH)
        };
        let tokens = session.oauth_token.as_ref();
        Self {
            expires_at: time(session.expires_at.as_ref()),
            tokens_end: time(tokens.and_then(|tokens| tokens.expires_at.as_ref())),
            id_token_ends: time(
                session
                    .id_token
                    .as_ref()
                    .and_then(|token| token.expires_at.as_ref()),
            ),
            access_token: tokens
                .map(|tokens| tokens.access_token.clone())
                .unwrap_or_default(),
            can_refresh: tokens.is_some_and(|tokens| !tokens.refresh_token.is_empty()),
            disabled: session.refresh_disabled,
        }
    }
}

impl Plan {
    fn next(&self, settings: &RefreshSettings) -> Option<(Timestamp, Task)> {
        if self.busy {
            return None;
        }
        let expire = self.facts.expires_at.map(|at| (at, Task::Expire));
        let refresh = self.refresh_due(settings).map(|at| (at, Task::Refresh));
        let userinfo = self.userinfo_due(settings).map(|at| (at, Task::UserInfo));
        [expire, refresh, userinfo].into_iter().flatten().min()
    }

    fn refresh_due(&self, settings: &RefreshSettings) -> Option<Timestamp> {
        if self.facts.disabled || !self.facts.can_refresh || self.pointless {
            return None;
        }
        let id_token = self.facts.id_token_ends.filter(|_| settings.at_id_token_expiry);
        let end = [self.facts.tokens_end, id_token].into_iter().flatten().min()?;
        let early = settings.grace + SPREAD.mul_f64(self.spread);
        let earliest = plus(self.refreshed_at, settings.cool_off).max(self.not_before);
        Some(end.checked_sub(early).unwrap_or(end).max(earliest))
    }

    /// Not with an access token that is known to have ended.
    fn userinfo_due(&self, settings: &RefreshSettings) -> Option<Timestamp> {
        if self.facts.disabled || self.facts.access_token.is_empty() || self.pointless {
            return None;
        }
        let due = plus(self.userinfo_at, settings.userinfo_every).max(self.not_before);
        self.facts.tokens_end.is_none_or(|end| due < end).then_some(due)
    }
}

impl Schedule {
    pub(super) fn new(settings: RefreshSettings) -> Self {
        Self {
            settings,
            sessions: HashMap::new(),
            queue: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Takes note of a session as it is now. `spread` is a random number between 0 and 1.
    pub(super) fn upsert(&mut self, session: &Session, now: Timestamp, spread: f64) {
        let facts = Facts::of(session);
        match self.sessions.get_mut(&session.id) {
            Some(plan) => {
                plan.pointless &= plan.facts.access_token == facts.access_token;
                plan.facts = facts;
            }
            None => {
                let plan = Plan {
                    facts,
                    spread,
                    refreshed_at: now,
                    userinfo_at: now,
                    failures: 0,
                    not_before: Timestamp::UNIX_EPOCH,
                    pointless: false,
                    busy: false,
                    queued: None,
                };
                self.sessions.insert(session.id.clone(), plan);
            }
        }
        self.requeue(&session.id);
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(Plan { queued: Some(at), .. }) = self.sessions.remove(id) {
            self.queue.remove(&(at, id.to_owned()));
        }
    }

    /// Forgets all but these.
    pub(super) fn keep_only(&mut self, ids: &HashSet<&str>) {
        let gone: Vec<_> = self
            .sessions
            .keys()
            .filter(|id| !ids.contains(id.as_str()))
            .cloned()
            .collect();
        gone.iter().for_each(|id| self.remove(id));
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Hands out a task that is due. There is no other for that session until [`Self::finished`].
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<(String, Task)> {
        let (at, id) = self.queue.first()?.clone();
        if at > now {
            return None;
        }
        self.queue.pop_first();
        let plan = self.sessions.get_mut(&id)?;
        plan.queued = None;
        let (_, task) = plan.next(&self.settings)?;
        plan.busy = true;
        Some((id, task))
    }

    /// Takes note of how a task went. `jitter` is a random number between 0 and 1.
    pub(super) fn finished(&mut self, id: &str, task: Task, outcome: Outcome, now: Timestamp, jitter: f64) {
        let Some(plan) = self.sessions.get_mut(id) else {
            return;
        };
        plan.busy = false;
        match outcome {
            Outcome::Done => {
                plan.failures = 0;
                plan.userinfo_at = now;
                if task == Task::Refresh {
                    plan.refreshed_at = now;
                }
            }
            Outcome::Retry => {
                plan.failures = plan.failures.saturating_add(1);
                plan.not_before = plus(now, pause(plan.failures, jitter));
                // An expired session is in the way of nobody, but must not be tried without end.
                if task == Task::Expire {
                    plan.facts.expires_at = Some(plan.not_before);
                }
            }
            Outcome::Pointless => plan.pointless = true,
            Outcome::Gone => return self.remove(id),
        }
        self.requeue(id);
    }

    fn requeue(&mut self, id: &str) {
        let Some(plan) = self.sessions.get_mut(id) else {
            return;
        };
        if let Some(at) = plan.queued.take() {
            self.queue.remove(&(at, id.to_owned()));
        }
        if let Some((at, _)) = plan.next(&self.settings) {
            plan.queued = Some(at);
            self.queue.insert((at, id.to_owned()));
        }
    }
}

/// 10 s, 20 s, 40 s … 10 min, of which the last half is left to chance.
fn pause(failures: u32, jitter: f64) -> Duration {
    let full = FIRST_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE);
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

fn plus(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use pomerium_api::pb::session::{IdToken, OAuthToken};
    use pomerium_api::records::to_proto_time;

    use super::*;

    const SETTINGS: RefreshSettings = RefreshSettings::DEFAULT;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn session(id: &str, tokens_end: Option<i64>, refresh_token: &str) -> Session {
        let proto = |seconds| to_proto_time(at(seconds));
        Session {
            id: id.into(),
            expires_at: Some(proto(50_000)),
            oauth_token: Some(OAuthToken {
                access_token: "access".into(),
                expires_at: tokens_end.map(proto),
                refresh_token: refresh_token.into(),
                ..OAuthToken::default()
            }),
            ..Session::default()
        }
    }

    fn schedule(sessions: &[Session]) -> Schedule {
        let mut schedule = Schedule::new(SETTINGS);
        sessions
            .iter()
            .for_each(|session| schedule.upsert(session, at(0), 0.0));
        schedule
    }

    fn take(schedule: &mut Schedule, now: i64) -> Option<Task> {
        schedule.take_due(at(now)).map(|(_, task)| task)
    }

    #[test]
    fn refreshes_a_minute_before_the_tokens_end() {
        let mut schedule = schedule(&[session("a", Some(300), "refresh")]);
        assert_eq!(schedule.next_due(), Some(at(240)));
        assert_eq!(take(&mut schedule, 239), None);
        assert_eq!(take(&mut schedule, 240), Some(Task::Refresh));
        assert_eq!(take(&mut schedule, 1000), None, "one at a time");
        schedule.upsert(&session("a", Some(300), "other"), at(1000), 0.0);
        assert_eq!(take(&mut schedule, 1000), None, "even if it changes meanwhile");
    }

    #[test]
    fn the_end_of_the_id_token_counts_only_if_wanted() {
        let mut early = session("a", Some(500), "refresh");
        early.id_token = Some(IdToken {
            expires_at: Some(to_proto_time(at(200))),
            ..IdToken::default()
        });
        assert_eq!(schedule(std::slice::from_ref(&early)).next_due(), Some(at(140)));
        let mut without = Schedule::new(RefreshSettings {
            at_id_token_expiry: false,
            ..SETTINGS
        });
        without.upsert(&early, at(0), 0.0);
        assert_eq!(without.next_due(), Some(at(440)));
    }

    #[test]
    fn cools_off_between_refreshes() {
        let mut schedule = schedule(&[session("a", Some(30), "refresh")]);
        assert_eq!(schedule.next_due(), Some(at(10)));
        assert_eq!(take(&mut schedule, 10), Some(Task::Refresh));
        schedule.upsert(&session("a", Some(45), "refresh"), at(11), 0.0);
        schedule.finished("a", Task::Refresh, Outcome::Done, at(11), 0.0);
        assert_eq!(schedule.next_due(), Some(at(21)));
    }

    #[test]
    fn sessions_begun_together_part_ways() {
        let mut schedule = Schedule::new(SETTINGS);
        schedule.upsert(&session("a", Some(300), "refresh"), at(0), 1.0);
        assert_eq!(schedule.next_due(), Some(at(220)));
    }

    #[test]
    fn without_a_refresh_token_only_our_own_end_counts() {
        let mut schedule = schedule(&[session("a", None, "")]);
        assert_eq!(take(&mut schedule, 599), None);
        assert_eq!(take(&mut schedule, 600), Some(Task::UserInfo));
        schedule.finished("a", Task::UserInfo, Outcome::Pointless, at(600), 0.0);
        assert_eq!(schedule.next_due(), Some(at(50_000)));
        assert_eq!(take(&mut schedule, 50_000), Some(Task::Expire));
        schedule.finished("a", Task::Expire, Outcome::Gone, at(50_000), 0.0);
        assert_eq!((schedule.len(), schedule.next_due()), (0, None));
    }

    #[test]
    fn a_session_with_refresh_disabled_is_left_alone_until_it_expires() {
        let disabled = Session {
            refresh_disabled: true,
            ..session("a", Some(300), "refresh")
        };
        assert_eq!(schedule(&[disabled]).next_due(), Some(at(50_000)));
    }

    #[test]
    fn failures_wait_longer_each_time_and_success_forgets_them() {
        let mut schedule = schedule(&[session("a", Some(300), "refresh")]);
        let mut now = 240;
        for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert_eq!(take(&mut schedule, now), Some(Task::Refresh), "{now}");
            schedule.finished("a", Task::Refresh, Outcome::Retry, at(now), 1.0);
            assert_eq!(schedule.next_due(), Some(at(now + pause)));
            now += pause;
        }
        assert_eq!(take(&mut schedule, now), Some(Task::Refresh));
        schedule.upsert(&session("a", Some(now + 300), "refresh"), at(now), 0.0);
        schedule.finished("a", Task::Refresh, Outcome::Done, at(now), 1.0);
        assert_eq!(schedule.next_due(), Some(at(now + 240)));
        assert_eq!(take(&mut schedule, now + 240), Some(Task::Refresh));
        schedule.finished("a", Task::Refresh, Outcome::Retry, at(now + 240), 0.0);
        assert_eq!(
            schedule.next_due(),
            Some(at(now + 245)),
            "the first pause again, half of it by chance"
        );
    }

    #[test]
    fn user_info_is_asked_for_between_refreshes() {
        let mut schedule = schedule(&[session("a", Some(3600), "refresh")]);
        assert_eq!(take(&mut schedule, 600), Some(Task::UserInfo));
        schedule.finished("a", Task::UserInfo, Outcome::Done, at(601), 0.0);
        assert_eq!(schedule.next_due(), Some(at(1201)));
    }

    #[test]
    fn new_tokens_are_a_new_chance() {
        let mut schedule = schedule(&[session("a", None, "")]);
        assert_eq!(take(&mut schedule, 600), Some(Task::UserInfo));
        schedule.finished("a", Task::UserInfo, Outcome::Pointless, at(600), 0.0);
        let mut renewed = session("a", None, "");
        renewed.oauth_token.as_mut().unwrap().access_token = "other".into();
        schedule.upsert(&renewed, at(700), 0.0);
        assert_eq!(take(&mut schedule, 1200), Some(Task::UserInfo));
    }

    #[test]
    fn removed_sessions_are_forgotten_even_in_the_middle_of_a_task() {
        let mut schedule = schedule(&[session("a", Some(300), "r"), session("b", Some(400), "r")]);
        assert_eq!(take(&mut schedule, 240), Some(Task::Refresh));
        schedule.remove("a");
        schedule.finished("a", Task::Refresh, Outcome::Done, at(241), 0.0);
        assert_eq!(schedule.next_due(), Some(at(340)));
        schedule.keep_only(&HashSet::new());
        assert_eq!((schedule.len(), schedule.next_due()), (0, None));
    }

    #[test]
    fn an_expired_session_that_cannot_be_deleted_is_tried_again_later() {
        let mut schedule = schedule(&[session("a", None, "")]);
        let due = std::iter::from_fn(|| schedule.take_due(at(60_000))).next();
        assert_eq!(due, Some(("a".into(), Task::UserInfo)));
        schedule.finished("a", Task::UserInfo, Outcome::Done, at(60_000), 1.0);
        assert_eq!(take(&mut schedule, 60_000), Some(Task::Expire));
        schedule.finished("a", Task::Expire, Outcome::Retry, at(60_000), 1.0);
        assert_eq!(take(&mut schedule, 60_009), None);
        assert_eq!(take(&mut schedule, 60_010), Some(Task::Expire));
    }
}
