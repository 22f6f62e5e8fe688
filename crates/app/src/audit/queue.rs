//! What waits to be written: bounded, numbered, with a mark where something was left out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use pomerium_authorize::audit::{Gap, Mark, stamped};

/// A queue between workers and one writer.
pub(super) struct Queue {
    stream: String,
    capacity: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Bytes of `lines` and of what the writer has taken and not yet acknowledged.
    bytes: usize,
    next_seq: u64,
    gap: Option<Gap>,
    dropped: u64,
    closed: Option<Instant>,
    asleep: bool,
}

/// What came of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Waits,
    /// It was left out, the first one of a gap.
    GapBegins,
    /// It was left out.
    Dropped,
}

/// What the writer got.
#[derive(Debug)]
pub(super) enum Taken {
    /// Lines, at least one.
    Lines(Vec<Vec<u8>>),
    /// Nothing came in the time.
    Nothing,
    /// The queue is closed and empty.
    Closed,
}

impl Queue {
    pub(super) fn new(stream: String, capacity: usize) -> Self {
        Self {
            stream,
            capacity,
            state: Mutex::new(State {
                next_seq: 1,
                ..State::default()
            }),
            wake: Condvar::new(),
        }
    }

    /// Puts a record (one JSON object, no line end) in line, or notes that it is missing. Never waits for the writer.
    pub(super) fn push(&self, record: &[u8], now: Timestamp) -> Pushed {
        let mut state = self.state.lock();
        let fits = state.bytes + record.len() <= self.capacity && state.closed.is_none();
        if !fits {
            return state.leave_out(now, "the queue was full");
        }
        state.add_gap(&self.stream, now);
        state.add(&self.stream, record);
        if std::mem::take(&mut state.asleep) {
            drop(state);
            self.wake.notify_all();
        }
        Pushed::Waits
    }

    /// A record about the stream, for which there is always room.
    pub(super) fn mark(&self, mark: &Mark<'_>, now: Timestamp) {
        let mut state = self.state.lock();
        state.add_gap(&self.stream, now);
        state.add(&self.stream, &mark.line(now));
        state.asleep = false;
        self.wake.notify_all();
    }

    /// Lines in order, at most `most` of them and `bytes` together (one at least). Waits `wait` for the first one and
    /// then `gather` for more; `now` is the time of a gap that stands last.
    pub(super) fn take(
        &self,
        (most, bytes): (usize, usize),
        (wait, gather): (Duration, Duration),
        now: impl Fn() -> Timestamp,
    ) -> Taken {
        let mut state = self.state.lock();
        let until = Instant::now() + wait;
        while state.lines.is_empty() && state.gap.is_none() {
            if state.closed.is_some() {
                return Taken::Closed;
            }
            state.asleep = true;
            if self.wake.wait_until(&mut state, until).timed_out()
                && state.lines.is_empty()
                && state.gap.is_none()
            {
                state.asleep = false;
                return Taken::Nothing;
            }
        }
        let until = Instant::now() + gather;
        while state.closed.is_none() && state.lines.len() < most && Instant::now() < until {
            self.wake.wait_until(&mut state, until);
        }
        if state.lines.is_empty() {
            state.add_gap(&self.stream, now());
        }
        let mut taken = Vec::new();
        let mut size = 0;
        while taken.len() < most
            && let Some(line) = state.lines.front()
            && (taken.is_empty() || size + line.len() <= bytes)
        {
            size += line.len();
            taken.extend(state.lines.pop_front());
        }
        Taken::Lines(taken)
    }

    /// Lines that were taken have arrived: their room is free.
    pub(super) fn arrived(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Lines that were taken will never arrive; a gap takes their place, behind what waits already.
    pub(super) fn lost(&self, lines: &[Vec<u8>], now: Timestamp, why: &'static str) {
        let mut state = self.state.lock();
        let bytes: usize = lines.iter().map(Vec::len).sum();
        state.bytes = state.bytes.saturating_sub(bytes);
        let count = lines.len() as u64;
        state.dropped += count;
        let first = lines.first().and_then(|line| seq_of(line)).unwrap_or_default();
        let last = lines.last().and_then(|line| seq_of(line)).unwrap_or_default();
        let gap = Gap {
            dropped: count,
            first_seq: first,
            last_seq: last,
            from: now,
            to: now,
            why,
        };
        state.add(&self.stream, &Mark::Gap(gap).line(now));
    }

    /// Nothing is taken in from now on.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed.get_or_insert_with(Instant::now);
        state.asleep = false;
        self.wake.notify_all();
    }

    /// How long ago it was closed.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        self.state.lock().closed.map(|at| at.elapsed())
    }

    /// Waits `time`, or less when the queue is closed meanwhile.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        let was_closed = state.closed.is_some();
        while state.closed.is_some() == was_closed && !self.wake.wait_until(&mut state, until).timed_out() {}
    }

    pub(super) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// What is left, and how many records that is.
    pub(super) fn abandon(&self) -> u64 {
        let mut state = self.state.lock();
        let left = state.lines.len() as u64;
        state.lines.clear();
        state.bytes = 0;
        state.dropped += left;
        left
    }
}

impl State {
    fn seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    fn add(&mut self, stream: &str, record: &[u8]) {
        let mut line = Vec::with_capacity(record.len() + stream.len() + 48);
        stamped(&mut line, stream, self.seq(), record);
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn leave_out(&mut self, now: Timestamp, why: &'static str) -> Pushed {
        let seq = self.seq();
        self.dropped += 1;
        if let Some(gap) = &mut self.gap {
            gap.dropped += 1;
            gap.last_seq = seq;
            gap.to = now;
            return Pushed::Dropped;
        }
        self.gap = Some(Gap {
            dropped: 1,
            first_seq: seq,
            last_seq: seq,
            from: now,
            to: now,
            why,
        });
        Pushed::GapBegins
    }

    fn add_gap(&mut self, stream: &str, now: Timestamp) {
        if let Some(gap) = self.gap.take() {
            tracing::warn!(
                records = gap.dropped,
                from = %gap.from,
                to = %gap.to,
                "audit: the stream goes on behind a gap"
            );
            self.add(stream, &Mark::Gap(gap).line(now));
        }
    }
}

/// The number that a line begins with.
fn seq_of(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Head {
        seq: u64,
    }
    serde_json::from_slice::<Head>(line).ok().map(|head| head.seq)
}
