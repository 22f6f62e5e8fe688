use std::sync::Weak;

use super::super::endpoint::test_endpoint;
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

fn host() -> Arc<Host> {
    Host::new(
        Arc::new(test_endpoint("192.0.2.1", 80)),
        super::super::host::Addresses::new(),
        1,
        (Weak::new(), false),
    )
}

/// A connection with room for so many requests.
struct Connection {
    host: usize,
    room: usize,
    running: usize,
    _open: Open,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// In the line, and about to take the last look.
    Entered,
    /// Called, and about to look.
    Answered,
    Asleep,
}

struct Waiter<'a> {
    host: usize,
    state: State,
    ticket: Ticket<'a>,
}

/// Requests, their connections and the line, without sockets: every step of a request is a step of its own, so that
/// whatever can come between two of them does.
struct Model<'a> {
    counts: &'a Arc<Counts>,
    hosts: Vec<Arc<Host>>,
    limit: u32,
    /// Requests on one connection.
    streams: usize,
    connections: Vec<Connection>,
    /// The hosts of those who have looked in vain and take a place next.
    arriving: Vec<usize>,
    waiters: Vec<Waiter<'a>>,
    random: u64,
}

impl<'a> Model<'a> {
    fn new(counts: &'a Arc<Counts>, seed: u64) -> Self {
        let mut model = Self {
            counts,
            hosts: Vec::new(),
            limit: 0,
            streams: 0,
            connections: Vec::new(),
            arriving: Vec::new(),
            waiters: Vec::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        model.hosts = (0..1 + model.draw(3)).map(|_| host()).collect();
        model.limit = u32::try_from(1 + model.draw(4)).unwrap();
        model.streams = [1, 1, 3][model.draw(3)];
        model
    }

    /// Any number below `bound`.
    fn draw(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % u64::try_from(bound).unwrap()).unwrap()
    }

    fn look(&mut self, host: usize, turn: bool) -> bool {
        let mut open = self.connections.iter_mut();
        if let Some(ready) = open.find(|open| open.host == host && open.running < open.room) {
            ready.running += 1;
            return true;
        }
        let Some(open) = self.counts.connection(self.limit, &self.hosts[host], turn) else {
            return false;
        };
        let destination = open.destination();
        self.connections.push(Connection {
            host,
            room: self.streams,
            running: 1,
            _open: open,
        });
        if self.streams > 1 {
            destination.has_room();
        }
        true
    }

    fn arrive(&mut self, host: usize) {
        let counts = self.counts;
        let in_line = counts.somebody_waits_for(&self.hosts[host]);
        let turn = !counts.somebody_waits_for_a_new_one();
        if in_line || !self.look(host, turn) {
            self.arriving.push(host);
        }
    }

    fn enter(&mut self, arriving: usize) {
        let host = self.arriving.swap_remove(arriving);
        self.waiters.push(Waiter {
            host,
            state: State::Entered,
            ticket: self.counts.queue(&self.hosts[host], self.limit),
        });
    }

    /// One step of somebody in the line, if there is one to take.
    fn go_on(&mut self, at: usize) -> bool {
        let Waiter { host, state, ticket } = &self.waiters[at];
        let host = *host;
        let found = match state {
            State::Asleep if ticket.answer() => {
                self.waiters[at].state = State::Answered;
                return true;
            }
            State::Asleep => return false,
            State::Answered => self.look(host, true),
            State::Entered => {
                let turn = ticket.is_first_for_a_new_one();
                ticket.is_first_of_host() && self.look(host, turn)
            }
        };
        if found {
            self.waiters.swap_remove(at);
        } else {
            self.waiters[at].state = State::Asleep;
        }
        true
    }

    fn finish(&mut self, at: usize) {
        let Some(ended) = self.connections.get_mut(at).filter(|open| open.running > 0) else {
            return;
        };
        ended.running -= 1;
        self.counts.room_at(self.hosts[ended.host].id);
    }

    fn step(&mut self) {
        match self.draw(10) {
            0..3 => {
                let host = self.draw(self.hosts.len());
                self.arrive(host);
            }
            3 if !self.arriving.is_empty() => {
                let arriving = self.draw(self.arriving.len());
                self.enter(arriving);
            }
            4..6 if !self.waiters.is_empty() => {
                let at = self.draw(self.waiters.len());
                self.go_on(at);
            }
            6 if !self.waiters.is_empty() => {
                let gone = self.draw(self.waiters.len());
                self.waiters.swap_remove(gone);
            }
            7 if !self.connections.is_empty() => {
                let closed = self.draw(self.connections.len());
                self.connections.swap_remove(closed);
            }
            8.. if !self.connections.is_empty() => {
                let at = self.draw(self.connections.len());
                self.finish(at);
            }
            _ => {}
        }
    }

    fn is_awake(&self, waiter: &Waiter<'_>) -> bool {
        let line = &self.counts.connecting.lock().line;
        waiter.state != State::Asleep || line.is_called(waiter.ticket.place)
    }

    /// Where something is free and somebody waits for it, somebody is about to look.
    fn check(&self) {
        let any_awake = |of: Option<usize>| {
            let concerned = || {
                self.waiters
                    .iter()
                    .filter(move |waiter| of.is_none_or(|of| waiter.host == of))
            };
            concerned().next().is_none() || concerned().any(|waiter| self.is_awake(waiter))
        };
        for (at, host) in self.hosts.iter().enumerate() {
            let mut its = self.connections.iter().filter(|open| open.host == at);
            let free = host.connections() == 0 || its.any(|open| open.running < open.room);
            assert!(!free || any_awake(Some(at)), "all sleep beside a free host");
        }
        let open = self.counts.connecting.lock().open;
        assert!(
            open >= self.limit || any_awake(None),
            "all sleep beside the limit"
        );
    }

    /// Everybody does what can be done.
    fn settle(&mut self) {
        while !self.arriving.is_empty() {
            self.enter(0);
        }
        while (0..self.waiters.len()).any(|at| self.go_on(at)) {}
    }
}

#[test]
fn nobody_sleeps_beside_something_free() {
    for seed in 0..2000 {
        let counts = Arc::new(Counts::default());
        let mut model = Model::new(&counts, seed);
        for _ in 0..300 {
            model.step();
            model.check();
        }
        model.settle();
        model.check();
        // Everybody is served when those before have finished.
        let mut turns = 0;
        while !model.waiters.is_empty() {
            let busy = model.connections.iter().position(|open| open.running > 0);
            model.finish(busy.unwrap());
            model.settle();
            turns += 1;
            assert!(turns < 10_000, "seed {seed}: somebody is never served");
        }
        drop(model);
        assert_eq!(counts.connecting.lock().open, 0);
        assert_eq!(counts.waiting.load(Ordering::SeqCst), 0);
    }
}
