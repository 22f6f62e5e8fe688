//! The clock of one request: when something last moved, and which limit runs out first (spec proxy.md 5).
//!
//! One timer per request, armed when it first has to wait and moved only when it fires: progress costs a
//! store, not a timer.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::response::Tail;

/// A client that does not read for this long is cut, whatever the route says.
pub const STALLED: Duration = Duration::from_secs(300);
/// What lasts longer than this is judged again when something changes. It ends within a second then, also when it began
/// just before.
pub const MOMENT: Duration = Duration::from_millis(500);

/// Which limit ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// `timeout_read`: the request was not received whole in time.
    Request,
    /// `timeout_write`: request and response took too long together.
    Total,
    /// Route `timeout`: the response took too long.
    Response,
    /// Route `idle_timeout`: nothing moved.
    Idle,
}

impl Expired {
    /// The response code details of the access log.
    pub fn details(self) -> &'static str {
        match self {
            Self::Request => "request_overall_timeout",
            Self::Total => "max_duration_timeout",
            Self::Response => "response_timeout",
            Self::Idle => "stream_idle_timeout",
        }
    }
}

/// The limits of one request; `None` is off.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// First byte of the request until it is there whole, or the response has begun.
    pub request: Option<Duration>,
    /// Request and response together.
    pub total: Option<Duration>,
    /// End of the request until the end of the response.
    pub response: Option<Duration>,
    /// No byte either way.
    pub idle: Option<Duration>,
}

/// When a request began and moved; shared by both of its bodies.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    /// Microseconds after `start` of the last byte either way.
    moved: AtomicU64,
    /// Microseconds after `start`, plus one, at which the request was there whole; 0 before.
    received: AtomicU64,
    /// A piece of the answer was handed out, and the next one was not asked for.
    unread: AtomicBool,
    limits: OnceLock<Limits>,
    answer: OnceLock<Weak<Mutex<Tail>>>,
}

impl Activity {
    /// Starts now. `received` says that the request has no body.
    pub fn start(now: Instant, received: bool) -> Arc<Self> {
        Arc::new(Self {
            start: now,
            moved: AtomicU64::new(0),
            received: AtomicU64::new(u64::from(received)),
            unread: AtomicBool::new(false),
            limits: OnceLock::new(),
            answer: OnceLock::new(),
        })
    }

    /// Notes whether the client's side has yet to ask for more of the answer.
    pub fn unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Whether more of the answer is there than the client takes.
    pub fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Watches a client that does not read: by the limits of the request, and no longer than [`STALLED`].
    pub fn watch_reader(self: &Arc<Self>) -> Watchdog {
        let limits = self.limits.get().copied().unwrap_or_default();
        let idle = limits.idle.map_or(STALLED, |idle| idle.min(STALLED));
        Watchdog {
            activity: self.clone(),
            limits: Limits {
                idle: Some(idle),
                ..limits
            },
            first_look: 0,
            responding: true,
            timer: None,
        }
    }

    /// Notes the answer, for whoever ends it from outside.
    pub fn answered_by(&self, answer: Weak<Mutex<Tail>>) {
        let _ = self.answer.set(answer);
    }

    /// The answer, while it is under way.
    pub fn answer(&self) -> Option<Arc<Mutex<Tail>>> {
        self.answer.get()?.upgrade()
    }

    /// When the request began.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// A byte moved. Returns the microseconds since the start.
    pub fn touch(&self) -> u64 {
        let now = self.elapsed();
        self.moved.store(now, Ordering::Relaxed);
        now
    }

    /// The request is there whole.
    pub fn request_received(&self) {
        self.received.store(self.elapsed() + 1, Ordering::Relaxed);
    }

    /// Whether the request is there whole.
    pub fn is_request_received(&self) -> bool {
        self.received.load(Ordering::Relaxed) != 0
    }

    fn elapsed(&self) -> u64 {
        micros(self.start.elapsed())
    }

    fn received_at(&self) -> Option<Instant> {
        let micros = self.received.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start + Duration::from_micros(micros))
    }

    fn moved_at(&self) -> Instant {
        self.start + Duration::from_micros(self.moved.load(Ordering::Relaxed))
    }
}

/// Watches the limits of one request.
#[derive(Debug)]
pub struct Watchdog {
    activity: Arc<Activity>,
    limits: Limits,
    /// Microseconds after the start before which nothing can be over that keeps moving.
    first_look: u64,
    responding: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// Watches `limits` over `activity`.
    pub fn new(activity: Arc<Activity>, limits: Limits) -> Self {
        let _ = activity.limits.set(limits);
        let first = [limits.total, limits.response].into_iter().flatten();
        Self {
            activity,
            limits,
            first_look: micros(first.fold(MOMENT, Duration::min)),
            responding: false,
            timer: None,
        }
    }

    /// What is watched.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The response has begun: the request may take its time from here.
    pub fn response_began(&mut self) {
        self.responding = true;
    }

    /// Whether it is time to look whether an answer that keeps moving may go on. `age` is in microseconds.
    pub fn is_time(&self, age: u64) -> bool {
        age >= self.first_look
    }

    /// The limit that has run out at this age, of those that run although everything moves.
    pub fn overdue(&self, age: u64) -> Option<Expired> {
        let over = |age: u64, limit: Option<Duration>| limit.is_some_and(|limit| age >= micros(limit));
        if over(age, self.limits.total) {
            return Some(Expired::Total);
        }
        let received = self.activity.received.load(Ordering::Relaxed).checked_sub(1)?;
        over(age.saturating_sub(received), self.limits.response).then_some(Expired::Response)
    }

    /// Ready when a limit has run out. To be asked when there is nothing else to do.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let Some((deadline, expired)) = self.next() else {
                return Poll::Pending;
            };
            let timer = match &mut self.timer {
                Some(timer) => timer,
                None => self.timer.insert(Box::pin(sleep_until(deadline))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= deadline && expired.is_some() {
                return Poll::Ready(expired.unwrap_or(Expired::Idle));
            }
            // Something moved meanwhile, or the limit began later than thought.
            timer
                .as_mut()
                .reset(deadline.max(Instant::now() + Duration::from_millis(1)));
        }
    }

    /// The limit that runs out first, and when. `None` in the pair: look again then, nothing has run out.
    fn next(&self) -> Option<(Instant, Option<Expired>)> {
        let mut first: Option<(Instant, Option<Expired>)> = None;
        let mut consider = |deadline: Instant, expired: Option<Expired>| {
            if first.is_none_or(|(at, _)| deadline < at) {
                first = Some((deadline, expired));
            }
        };
        let start = self.activity.start;
        let received = self.activity.received_at();
        if self.activity.elapsed() < micros(MOMENT) {
            consider(start + MOMENT, None);
        }
        if let Some(limit) = self.limits.total {
            consider(start + limit, Some(Expired::Total));
        }
        if let (Some(limit), false, None) = (self.limits.request, self.responding, received) {
            consider(start + limit, Some(Expired::Request));
        }
        match (self.limits.response, received) {
            (Some(limit), Some(received)) => consider(received + limit, Some(Expired::Response)),
            // The end of the request wakes nobody here: look again after the shortest time it could take.
            (Some(limit), None) => consider(Instant::now() + limit, None),
            (None, _) => {}
        }
        if let Some(limit) = self.limits.idle {
            consider(self.activity.moved_at() + limit, Some(Expired::Idle));
        }
        first
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(idle: u64, response: u64) -> Limits {
        let seconds = |value: u64| (value > 0).then(|| Duration::from_secs(value));
        Limits {
            request: seconds(30),
            total: None,
            response: seconds(response),
            idle: seconds(idle),
        }
    }

    async fn expiry(watchdog: &mut Watchdog) -> Expired {
        std::future::poll_fn(|cx| watchdog.poll_expired(cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn progress_moves_the_idle_limit() {
        let activity = Activity::start(Instant::now(), true);
        let mut watchdog = Watchdog::new(activity.clone(), limits(10, 0));
        let start = Instant::now();
        let early = tokio::time::timeout(Duration::from_secs(8), expiry(&mut watchdog)).await;
        assert!(early.is_err());
        activity.touch();
        assert_eq!(expiry(&mut watchdog).await, Expired::Idle);
        assert_eq!(start.elapsed().as_secs(), 18);
    }

    #[tokio::test(start_paused = true)]
    async fn the_response_limit_begins_when_the_request_is_whole() {
        let activity = Activity::start(Instant::now(), false);
        let mut watchdog = Watchdog::new(activity.clone(), limits(0, 20));
        let start = Instant::now();
        let early = tokio::time::timeout(Duration::from_secs(15), expiry(&mut watchdog)).await;
        assert!(early.is_err());
        activity.request_received();
        assert_eq!(expiry(&mut watchdog).await, Expired::Response);
        assert_eq!(start.elapsed().as_secs(), 35);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_runs_out_unless_the_response_has_begun() {
        let mut watchdog = Watchdog::new(Activity::start(Instant::now(), false), limits(0, 0));
        assert_eq!(expiry(&mut watchdog).await, Expired::Request);
        let mut watchdog = Watchdog::new(Activity::start(Instant::now(), false), limits(0, 0));
        watchdog.response_began();
        let never = tokio::time::timeout(Duration::from_secs(3600), expiry(&mut watchdog)).await;
        assert!(never.is_err());
    }
}
