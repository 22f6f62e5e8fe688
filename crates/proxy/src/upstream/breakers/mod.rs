//! Circuit breakers (spec proxy.md 6.7): how much of everything one cluster may have at a time, counted
//! for the whole process, and the line of those who wait for a connection.
//!
//! What is counted is counted by guards. A request that finds a limit reached is refused at once, except
//! that one more connection is waited for, in order, as long as not too many wait already. A host
//! without any connection may always open one: a limit shared by several hosts must not starve one.
//!
//! Nobody sleeps beside something free: whoever frees something calls the first who can use it, and whoever leaves
//! the line, served or not, calls the next, who may have relied on the one before to look.

mod line;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::host::Host;
use line::Line;

/// What a cluster has right now, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    requests: AtomicU32,
    pending: AtomicU32,
    retries: AtomicU32,
    /// Length of the line, so that nobody locks it for nothing.
    waiting: AtomicUsize,
    connecting: Mutex<Connecting>,
}

/// Connections, and those who wait for one.
#[derive(Debug, Default)]
struct Connecting {
    /// Over all hosts. How many each has stands in [`Host`], and changes under the same lock.
    open: u32,
    line: Line,
}

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

    /// Counts a connection to `host` in; `None` at the limit or out of `turn`, unless it is the host's only one.
    pub(super) fn connection(self: &Arc<Self>, limit: u32, host: &Arc<Host>, turn: bool) -> Option<Open> {
        let mut connecting = self.connecting.lock();
        let at_host = host.connection_counter();
        let only = at_host.load(Ordering::Relaxed) == 0;
        let allowed = only || (turn && connecting.open < limit);
        if !allowed {
            return None;
        }
        at_host.fetch_add(1, Ordering::Relaxed);
        connecting.open += 1;
        Some(Open {
            at_host: Arc::clone(at_host),
            place: Destination {
                counts: self.clone(),
                host: host.id,
            },
        })
    }

    /// Whether somebody waits for a connection, to any host.
    fn somebody_waits(&self) -> bool {
        // What was freed (or queued) just before must be seen by whoever queues (or frees) just after.
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Whether somebody waits for a connection to `host`.
    pub(super) fn somebody_waits_for(&self, host: &Host) -> bool {
        self.somebody_waits() && self.connecting.lock().line.waits_for(host.id)
    }

    /// Whether somebody waits who may have a new connection, to any host.
    pub(super) fn somebody_waits_for_a_new_one(&self) -> bool {
        self.somebody_waits() && {
            let connecting = self.connecting.lock();
            connecting.line.first_for_a_new_one(connecting.open).is_some()
        }
    }

    /// Takes the last place in the line, for a connection to `host`.
    pub(super) fn queue(&self, host: &Host, limit: u32) -> Ticket<'_> {
        let bell = Arc::<Notify>::default();
        let mut connecting = self.connecting.lock();
        let place = connecting.line.enter(host.id, limit, bell.clone());
        self.waiting.store(connecting.line.len(), Ordering::SeqCst);
        drop(connecting);
        fence(Ordering::SeqCst);
        Ticket {
            counts: self,
            host: host.id,
            place,
            bell,
        }
    }

    /// There is room on a connection to `host`.
    fn room_at(&self, host: u64) {
        if self.somebody_waits() {
            self.connecting.lock().line.call_of(host);
        }
    }
}

/// One of the hosts of a cluster, for those who have room there to give away.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    counts: Arc<Counts>,
    host: u64,
}

impl Destination {
    /// There is room on a connection to it.
    pub(super) fn has_room(&self) {
        self.counts.room_at(self.host);
    }
}

/// A request in flight, from before it has a connection until its response has ended.
#[derive(Debug)]
pub struct Running {
    counts: Arc<Counts>,
    /// Whose running requests are counted.
    host: Option<Arc<Host>>,
    /// Where its connection, which nobody shares with it, serves others when it ends.
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
        if let Some(host) = self.connected_to {
            self.counts.room_at(host);
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
    at_host: Arc<AtomicU32>,
    place: Destination,
}

impl Open {
    /// Where it leads.
    pub(super) fn destination(&self) -> Destination {
        self.place.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut connecting = self.place.counts.connecting.lock();
        connecting.open -= 1;
        let last = self.at_host.fetch_sub(1, Ordering::Relaxed) == 1;
        // The host may have one whatever the limit says; beyond that the first of all is the next.
        if !(last && connecting.line.call_of(self.place.host)) {
            let open = connecting.open;
            connecting.line.call_for_a_new_one(open);
        }
    }
}

/// A place in the line, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    counts: &'a Counts,
    host: u64,
    place: u64,
    bell: Arc<Notify>,
}

impl Ticket<'_> {
    /// Waits for a call, which is for one look at everything.
    pub(super) async fn called(&self) {
        while !self.answer() {
            self.bell.notified().await;
        }
    }

    /// Takes a call.
    fn answer(&self) -> bool {
        let called = self.counts.connecting.lock().line.answer(self.place);
        // What was freed before is seen by the look; what is freed after it calls again.
        fence(Ordering::SeqCst);
        called
    }

    /// Nobody has waited longer for a connection to the same host: room that was there before is this one's to find.
    pub(super) fn is_first_of_host(&self) -> bool {
        self.counts.connecting.lock().line.is_first_of_host(self.place)
    }

    /// The same for a new connection.
    pub(super) fn is_first_for_a_new_one(&self) -> bool {
        let connecting = self.counts.connecting.lock();
        connecting.line.first_for_a_new_one(connecting.open) == Some(self.place)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut connecting = self.counts.connecting.lock();
        let relied_on = connecting.line.leave(self.place);
        self.counts.waiting.store(connecting.line.len(), Ordering::SeqCst);
        if relied_on {
            connecting.line.call_of(self.host);
        }
        let open = connecting.open;
        connecting.line.call_for_a_new_one(open);
    }
}
