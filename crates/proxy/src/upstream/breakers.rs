//! Circuit breakers (spec proxy.md 6.7): how much of everything one cluster may have at a time, counted
//! for the whole process, and the queue of those who wait for a connection.
//!
//! What is counted is counted by guards. A request that finds a limit reached is refused at once, except
//! that one more connection is waited for, in order, as long as not too many wait already. A host
//! without any connection may always open one: a limit shared by several hosts must not starve one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::host::Host;

/// What a cluster has right now, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    requests: AtomicU32,
    pending: AtomicU32,
    connections: AtomicU32,
    retries: AtomicU32,
    /// Length of `queue`, so that nobody locks it for nothing.
    waiting: AtomicU32,
    queue: Mutex<VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    host: u64,
    wake: oneshot::Sender<Room>,
}

/// What a waiting request is woken for: room on a connection to this host, or (`None`) for a new one.
type Room = Option<u64>;

fn take(counter: &AtomicU32, limit: u32) -> bool {
    if counter.fetch_add(1, Ordering::AcqRel) < limit {
        return true;
    }
    counter.fetch_sub(1, Ordering::AcqRel);
    false
}

impl Counts {
    /// Counts a request in; `None` at the limit.
    pub(super) fn request(self: &Arc<Self>, limit: u32) -> Option<Running> {
        take(&self.requests, limit).then(|| Running {
            counts: self.clone(),
            host: None,
            connected_to: None,
        })
    }

    /// Counts a request that has no connection yet; `None` at the limit.
    pub(super) fn pending(&self, limit: u32) -> Option<Pending<'_>> {
        take(&self.pending, limit).then(|| Pending(&self.pending))
    }

    /// Counts a second attempt; `None` at the limit.
    pub(crate) fn retry(&self, limit: u32) -> Option<Pending<'_>> {
        take(&self.retries, limit).then(|| Pending(&self.retries))
    }

    /// Counts a connection to `host` in; `None` at the limit, unless it is the host's only one.
    pub(super) fn connection(self: &Arc<Self>, limit: u32, host: &Arc<Host>) -> Option<Open> {
        let only = host.connection_counter().fetch_add(1, Ordering::AcqRel) == 0;
        if !only && !take(&self.connections, limit) {
            host.connection_counter().fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        if only {
            self.connections.fetch_add(1, Ordering::AcqRel);
        }
        Some(Open {
            counts: self.clone(),
            at_host: Arc::clone(host.connection_counter()),
        })
    }

    /// Whether nobody but the caller is in the queue.
    pub(super) fn is_alone(&self) -> bool {
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) <= 1
    }

    /// Whether somebody waits for a connection.
    pub(super) fn somebody_waits(&self) -> bool {
        // What was freed (or queued) just before must be seen by whoever queues (or frees) just after.
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Takes a place in the queue: at its end, or at its front after having been woken in vain.
    pub(super) fn queue(&self, host: &Host, again: bool) -> Ticket<'_> {
        let (wake, woken) = oneshot::channel();
        let waiting = Waiting { host: host.id, wake };
        let mut queue = self.queue.lock();
        if again {
            queue.push_front(waiting);
        } else {
            queue.push_back(waiting);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Ticket { counts: self, woken }
    }

    /// Wakes the first who can use what was freed.
    fn freed(&self, room: Room) {
        if !self.somebody_waits() {
            return;
        }
        let mut queue = self.queue.lock();
        loop {
            let next = match room {
                None => (!queue.is_empty()).then_some(0),
                Some(host) => queue.iter().position(|waiting| waiting.host == host),
            };
            let Some(waiting) = next.and_then(|at| queue.remove(at)) else {
                return;
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if waiting.wake.send(room).is_ok() {
                return;
            }
        }
    }
}

/// A request in flight, from before it has a connection until its response has ended.
#[derive(Debug)]
pub struct Running {
    counts: Arc<Counts>,
    /// Whose running requests are counted.
    host: Option<Arc<Host>>,
    /// Where its connection has room again when it ends.
    connected_to: Option<u64>,
}

impl Running {
    /// Counts the request at its host as well.
    pub(super) fn at(&mut self, host: &Arc<Host>) {
        host.began();
        if let Some(before) = self.host.replace(host.clone()) {
            before.ended();
        }
    }

    pub(super) fn connected(&mut self, host: &Host) {
        self.connected_to = Some(host.id);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counts.requests.fetch_sub(1, Ordering::AcqRel);
        if let Some(host) = &self.host {
            host.ended();
        }
        if self.connected_to.is_some() {
            self.counts.freed(self.connected_to);
        }
    }
}

/// Something counted for as long as this is held.
#[derive(Debug)]
pub(crate) struct Pending<'a>(&'a AtomicU32);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An open connection. Dropped where the connection really ends.
#[derive(Debug)]
pub(super) struct Open {
    counts: Arc<Counts>,
    at_host: Arc<AtomicU32>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.at_host.fetch_sub(1, Ordering::AcqRel);
        self.counts.connections.fetch_sub(1, Ordering::AcqRel);
        self.counts.freed(None);
    }
}

/// A place in the queue. Dropped unused, what it was woken for goes to the next.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    counts: &'a Counts,
    woken: oneshot::Receiver<Room>,
}

impl Ticket<'_> {
    /// Waits for the turn.
    pub(super) async fn called(mut self) {
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.woken.close();
        match self.woken.try_recv() {
            // Woken, but gone: the next one gets what this was woken for.
            Ok(room) => self.counts.freed(room),
            Err(_) => self.counts.prune(),
        }
    }
}

impl Counts {
    /// Takes those out of the queue who have gone.
    fn prune(&self) {
        let mut queue = self.queue.lock();
        let before = queue.len();
        queue.retain(|waiting| !waiting.wake.is_closed());
        let gone = u32::try_from(before - queue.len()).unwrap_or(0);
        self.waiting.fetch_sub(gone, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_takes_no_place_away() {
        let counts = Arc::new(Counts::default());
        let held = [counts.pending(2), counts.pending(2)];
        assert!(held.iter().all(Option::is_some));
        for _ in 0..5 {
            assert!(counts.pending(2).is_none() && counts.retry(0).is_none() && counts.request(0).is_none());
        }
        drop(held);
        assert_eq!(counts.pending.load(Ordering::SeqCst), 0);
        assert_eq!(counts.retries.load(Ordering::SeqCst), 0);
        assert_eq!(counts.requests.load(Ordering::SeqCst), 0);
    }
}
