//! The open sockets of one listener: one or more per worker, opened and closed together.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::bind::bind;
use crate::worker::{Serving, Worker};

/// Sockets that are bound and listen, though nobody accepts yet.
#[derive(Debug)]
pub(crate) struct Bound {
    setting: String,
    addresses: Vec<SocketAddr>,
    /// One set for each worker.
    sets: Vec<Vec<TcpListener>>,
}

impl Bound {
    /// Binds `setting` for `workers`. Addresses in `own` may be shared: they are ours and about to go.
    ///
    /// Errors when an address cannot be bound.
    pub(crate) fn new(setting: &str, workers: usize, own: &[SocketAddr]) -> io::Result<Self> {
        let (addresses, sets) = bind(setting, workers, own)?;
        Ok(Self {
            setting: setting.to_owned(),
            addresses,
            sets,
        })
    }

    /// Takes sockets that are open already. Each worker gets at least one, and none is left without one: what
    /// waits in its queue would never be answered.
    ///
    /// Errors when a socket cannot be used or doubled.
    pub(crate) fn handed(setting: &str, workers: usize, sockets: &[TcpListener]) -> io::Result<Self> {
        let mut addresses = Vec::new();
        for socket in sockets {
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut sets: Vec<Vec<TcpListener>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
        let count = sets.len();
        for address in &addresses {
            let mut here = Vec::new();
            for socket in sockets {
                if socket.local_addr()? == *address {
                    here.push(socket.try_clone()?);
                }
            }
            for worker in here.len()..count {
                here.push(here[worker % here.len()].try_clone()?);
            }
            for (number, socket) in here.into_iter().enumerate() {
                sets[number % count].push(socket);
            }
        }
        Ok(Self {
            setting: setting.to_owned(),
            addresses,
            sets,
        })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Lets the workers accept.
    ///
    /// Errors when a socket cannot be watched; then nobody accepts.
    pub(crate) fn open(self, workers: &[Arc<Worker>], serving: Serving) -> io::Result<Group> {
        let closing = CancellationToken::new();
        let mut group = Group {
            setting: self.setting,
            addresses: self.addresses,
            sockets: Vec::new(),
            closing: closing.clone(),
        };
        for (worker, set) in workers.iter().zip(self.sets) {
            for socket in set {
                group.sockets.push(socket.try_clone()?);
                worker.listen(socket, serving, closing.clone())?;
            }
        }
        Ok(group)
    }
}

/// A listener at work. Dropping it closes its sockets; connections live on.
#[derive(Debug)]
pub(crate) struct Group {
    setting: String,
    addresses: Vec<SocketAddr>,
    /// A second handle on each socket, to be handed on.
    sockets: Vec<TcpListener>,
    closing: CancellationToken,
}

impl Group {
    /// The setting it was opened for.
    pub(crate) fn setting(&self) -> &str {
        &self.setting
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Handles on its sockets, for another process. Errors when they cannot be doubled.
    pub(crate) fn share(&self) -> io::Result<Vec<TcpListener>> {
        self.sockets.iter().map(TcpListener::try_clone).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(bound: &Bound) -> Vec<usize> {
        bound.sets.iter().map(Vec::len).collect()
    }

    #[test]
    fn every_worker_gets_a_socket_and_every_socket_a_worker() {
        let address = "127.0.0.1:0";
        let one = TcpListener::bind(address).unwrap();
        let bound = Bound::handed(address, 3, &[one]).unwrap();
        assert_eq!((sizes(&bound), bound.addresses.len()), (vec![1, 1, 1], 1));

        let (_, sets) = bind(address, 5, &[]).unwrap();
        let bound = Bound::handed(address, 2, &sets.into_iter().flatten().collect::<Vec<_>>()).unwrap();
        assert_eq!((sizes(&bound), bound.addresses.len()), (vec![3, 2], 1));

        let two = [
            TcpListener::bind(address).unwrap(),
            TcpListener::bind(address).unwrap(),
        ];
        let bound = Bound::handed(address, 2, &two).unwrap();
        assert_eq!((sizes(&bound), bound.addresses.len()), (vec![2, 2], 2));
    }
}
