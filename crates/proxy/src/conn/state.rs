//! The clock of a connection: how many requests run, since when it is idle, since when a head is
//! arriving, since when the client does not read. Plain stores; only the driver looks at the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::frames::Heads;

/// Shared by the stream, the driver and the requests of a connection.
#[derive(Debug)]
pub(crate) struct ConnState {
    base: Instant,
    multiplexed: AtomicBool,
    running: AtomicUsize,
    served: AtomicBool,
    /// Milliseconds after `base`, plus one; 0 means "not so".
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
    width: Width,
    /// Wakes the driver when the process drains or stops.
    pub(super) driver: AtomicWaker,
}

/// Lines of a request head that the library parses without an allocation: 100 fields with the request line.
const NARROW_LINES: usize = 100;

/// How many lines the request heads of an HTTP/1.1 connection have.
#[derive(Debug, Default)]
struct Width {
    /// Of the head that is arriving.
    lines: AtomicUsize,
    /// The head is too wide for the parser in use: what came is held back until there is another.
    waits: AtomicBool,
    /// The parser in use takes every head.
    wide: AtomicBool,
}

/// Limits of a connection; `None` is off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnLimits {
    /// First byte of a head to its end.
    pub(crate) head: Option<Duration>,
    /// No request running.
    pub(crate) idle: Option<Duration>,
    /// The client does not read what was written.
    pub(crate) stalled: Option<Duration>,
}

/// What the clock says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again then.
    Wait(Instant),
    /// Nothing limits it now.
    Unlimited,
    /// Unused for too long: close in order.
    Idle,
    /// A head that does not end: cut.
    SlowHead,
    /// A client that does not read: cut.
    Cut,
}

impl ConnState {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            multiplexed: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            width: Width::default(),
            driver: AtomicWaker::new(),
        })
    }

    pub(super) fn is_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Bytes of HTTP/1.1 came in: with no request running, they begin a head.
    pub(super) fn received(&self) {
        if self.is_quiet() {
            self.head_begins();
        }
    }

    /// Bytes of HTTP/2 came in, with these heads.
    pub(super) fn followed(&self, heads: Heads) {
        if heads.ended {
            self.head_since.store(0, Ordering::Relaxed);
        }
        if heads.inside {
            self.head_begins();
        }
    }

    fn head_begins(&self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    pub(super) fn write_blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        }
    }

    pub(super) fn write_moved(&self) {
        if self.blocked_since.load(Ordering::Relaxed) != 0 {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
    }

    /// A request begins; the guard ends it.
    pub(crate) fn request(self: &Arc<Self>) -> Guard {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        // Of HTTP/2 it may be another head that is under way.
        if !self.multiplexed.load(Ordering::Relaxed) {
            self.head_since.store(0, Ordering::Relaxed);
        }
        self.width.lines.store(0, Ordering::Relaxed);
        Guard(self.clone())
    }

    /// An HTTP/1.1 connection over which nothing has come yet. The library does not count it as idle.
    pub(super) fn is_fresh(&self) -> bool {
        !self.served.load(Ordering::Relaxed)
            && self.head_since.load(Ordering::Relaxed) == 0
            && !self.multiplexed.load(Ordering::Relaxed)
    }

    /// Whether a head has more lines with these bytes than the parser in use has room for. From then on the
    /// connection waits for another parser.
    pub(super) fn is_too_wide(&self, received: &[u8]) -> bool {
        let counts = self.running.load(Ordering::Relaxed) == 0
            && !self.multiplexed.load(Ordering::Relaxed)
            && !self.width.wide.load(Ordering::Relaxed);
        if !counts {
            return false;
        }
        let more = memchr::memchr_iter(b'\n', received).count();
        let lines = self.width.lines.load(Ordering::Relaxed) + more;
        self.width.lines.store(lines, Ordering::Relaxed);
        let too_wide = lines > NARROW_LINES;
        self.width.waits.store(too_wide, Ordering::Relaxed);
        too_wide
    }

    /// Whether the connection waits for a parser of wide heads.
    pub(super) fn waits_for_wide(&self) -> bool {
        self.width.waits.load(Ordering::Relaxed)
    }

    /// Whether everything that was written has left, as far as is known.
    pub(super) fn is_flushed(&self) -> bool {
        self.blocked_since() == 0
    }

    /// Since when the client takes nothing: another value after each byte that it has taken. 0: it does not keep us
    /// waiting.
    pub(super) fn blocked_since(&self) -> u64 {
        self.blocked_since.load(Ordering::Relaxed)
    }

    /// Whether no request runs.
    pub(super) fn is_quiet(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// The parser in use takes heads of every allowed size.
    pub(super) fn is_wide(&self) {
        self.width.wide.store(true, Ordering::Relaxed);
        self.width.waits.store(false, Ordering::Relaxed);
    }

    pub(crate) fn wake(&self) {
        self.driver.wake();
    }

    pub(super) fn verdict(&self, limits: &ConnLimits) -> Verdict {
        let deadline = |since: u64, limit: Option<Duration>| {
            let since = since.checked_sub(1)?;
            Some(self.base + Duration::from_millis(since) + limit?)
        };
        let head = deadline(self.head_since.load(Ordering::Relaxed), limits.head);
        let stalled = deadline(self.blocked_since(), limits.stalled);
        let idle_since = if self.running.load(Ordering::Relaxed) == 0 {
            self.idle_since.load(Ordering::Relaxed)
        } else {
            0
        };
        let idle = deadline(idle_since, limits.idle);
        let now = Instant::now();
        for (limit, verdict) in [
            (stalled, Verdict::Cut),
            (head, Verdict::SlowHead),
            (idle, Verdict::Idle),
        ] {
            if limit.is_some_and(|at| at <= now) {
                return verdict;
            }
        }
        // A limit that is not running yet may begin right after this look: look again no later than that.
        let shortest = [limits.head, limits.idle, limits.stalled]
            .into_iter()
            .flatten()
            .min()
            .map(|limit| now + limit);
        [head, stalled, idle, shortest]
            .into_iter()
            .flatten()
            .min()
            .map_or(Verdict::Unlimited, Verdict::Wait)
    }
}

/// One running request.
#[derive(Debug)]
pub(crate) struct Guard(Arc<ConnState>);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnLimits = ConnLimits {
        head: Some(Duration::from_secs(30)),
        idle: Some(Duration::from_secs(300)),
        stalled: Some(Duration::from_secs(300)),
    };

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_connection_is_closed_and_a_used_one_is_not() {
        let state = ConnState::new();
        let request = state.request();
        after(1000).await;
        assert!(matches!(state.verdict(&LIMITS), Verdict::Wait(_)));
        drop(request);
        after(299).await;
        assert!(matches!(state.verdict(&LIMITS), Verdict::Wait(_)));
        after(2).await;
        assert_eq!(state.verdict(&LIMITS), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_cut() {
        let state = ConnState::new();
        state.received();
        after(31).await;
        assert_eq!(state.verdict(&LIMITS), Verdict::SlowHead);
        let state = ConnState::new();
        state.received();
        let _running = state.request();
        after(31).await;
        assert!(matches!(state.verdict(&LIMITS), Verdict::Wait(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_of_http2_is_cut_beside_others_and_a_busy_connection_is_not() {
        let (begins, next) = (
            Heads {
                ended: false,
                inside: true,
            },
            Heads {
                ended: true,
                inside: true,
            },
        );
        let state = ConnState::new();
        state.is_multiplexed();
        state.followed(begins);
        for _ in 0..10 {
            after(20).await;
            state.followed(next);
            assert!(matches!(state.verdict(&LIMITS), Verdict::Wait(_)));
        }
        let _running = state.request();
        after(31).await;
        assert_eq!(state.verdict(&LIMITS), Verdict::SlowHead);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut() {
        let state = ConnState::new();
        let _running = state.request();
        state.write_blocked();
        after(299).await;
        state.write_blocked();
        after(2).await;
        assert_eq!(state.verdict(&LIMITS), Verdict::Cut);
        state.write_moved();
        assert!(matches!(state.verdict(&LIMITS), Verdict::Wait(_)));
    }
}
