//! The listeners of a data plane: bound at the start, exchanged by a reload, handed to the next process.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::{Dataplane, Options, StartError};
use crate::listener::Handed;
use crate::listener::group::{Bound, Group};
use crate::snapshot::Snapshot;
use crate::worker::{Serving, Worker};

/// The listeners that are open; none once the data plane drains.
#[derive(Default)]
pub(super) struct Listening {
    pub(super) main: Option<Group>,
    pub(super) redirect: Option<Group>,
    pub(super) decision: Option<Group>,
    /// It drains: nothing is opened any more.
    closed: bool,
}

/// Listeners for changed addresses, bound and waiting for [`Dataplane::reload_with`]. Dropping it closes them.
#[derive(Default)]
pub struct Relisten {
    main: Option<Bound>,
    redirect: Option<Option<Bound>>,
    decision: Option<Option<Bound>>,
    udp: Option<UdpSocket>,
}

/// The same at work beside those they are to replace.
pub(super) struct Opened {
    main: Option<Group>,
    redirect: Option<Option<Group>>,
    decision: Option<Option<Group>>,
    pub(super) udp: Option<UdpSocket>,
}

impl Relisten {
    /// Accepts on all of them, or on none.
    ///
    /// Errors when a socket cannot be watched.
    pub(super) fn open(self, workers: &[Arc<Worker>]) -> io::Result<Opened> {
        let beside = |bound: Option<Option<Bound>>, serving| {
            bound
                .map(|bound| bound.map(|bound| bound.open(workers, serving)).transpose())
                .transpose()
        };
        Ok(Opened {
            main: self
                .main
                .map(|main| main.open(workers, Serving::Main))
                .transpose()?,
            redirect: beside(self.redirect, Serving::Redirect)?,
            decision: beside(self.decision, Serving::Decision)?,
            udp: self.udp,
        })
    }
}

impl Opened {
    /// Where the main listener will be: elsewhere, if there is one here.
    pub(super) fn main(&self) -> Option<&[SocketAddr]> {
        self.main.as_ref().map(Group::addresses)
    }
}

impl Listening {
    pub(super) fn new(main: Option<Group>, redirect: Option<Group>, decision: Option<Group>) -> Self {
        Self {
            main,
            redirect,
            decision,
            closed: false,
        }
    }

    pub(super) fn closed() -> Self {
        Self {
            closed: true,
            ..Self::default()
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Stops to accept on what `opened` replaces. Connections live on.
    pub(super) fn replace(&mut self, opened: Opened) {
        if opened.main.is_some() {
            self.main = opened.main;
        }
        if let Some(redirect) = opened.redirect {
            self.redirect = redirect;
        }
        if let Some(decision) = opened.decision {
            self.decision = decision;
        }
    }
}

impl Dataplane {
    /// Binds those addresses of `options` that are not the ones listened on, and the one of HTTP/3 if `next` begins to
    /// serve that. Nothing changes before [`Self::reload_with`]. A redirect address that cannot be bound is logged, and the old
    /// one stays.
    ///
    /// Errors when another address cannot be bound.
    pub fn bind(&self, options: &Options, next: &Snapshot) -> Result<Relisten, StartError> {
        let listening = self.listening.lock();
        if listening.is_closed() {
            return Ok(Relisten::default());
        }
        let changed = |group: &Option<Group>, setting: &str| {
            group.as_ref().is_none_or(|group| group.setting() != setting)
        };
        let bind = |group: &Option<Group>, setting: &str| {
            let own = group.as_ref().map_or(&[][..], Group::addresses);
            Bound::new(setting, self.workers.len(), own)
        };
        let main = options
            .address
            .as_ref()
            .filter(|address| changed(&listening.main, address))
            .map(|address| bind(&listening.main, address))
            .transpose()?;
        let redirect = match &options.redirect_address {
            None => listening.redirect.is_some().then_some(None),
            Some(address) if changed(&listening.redirect, address) => {
                match bind(&listening.redirect, address) {
                    Ok(bound) => Some(Some(bound)),
                    Err(error) => {
                        tracing::error!(%error, "http_redirect_addr: it stays as it was");
                        None
                    }
                }
            }
            Some(_) => None,
        };
        let decision = match &options.decision_address {
            None => listening.decision.is_some().then_some(None),
            Some(address) if changed(&listening.decision, address) => {
                let bound = bind(&listening.decision, address);
                Some(Some(bound.map_err(|error| decision_error(address, error))?))
            }
            Some(_) => None,
        };
        let current = || listening.main.as_ref().map_or(&[][..], Group::addresses);
        let udp = match &main {
            _ if !next.http3 => None,
            Some(main) => self.http3.bind(main.addresses())?,
            None if !self.snapshot().http3 => self.http3.bind(current())?,
            None => None,
        };
        Ok(Relisten {
            main,
            redirect,
            decision,
            udp,
        })
    }

    /// Handles on all listening sockets, to be handed to the process that takes over.
    ///
    /// Errors when they cannot be doubled.
    pub fn share_sockets(&self) -> io::Result<Handed> {
        let listening = self.listening.lock();
        let share = |group: &Option<Group>| group.as_ref().map_or(Ok(Vec::new()), Group::share);
        Ok(Handed {
            main: share(&listening.main)?,
            redirect: share(&listening.redirect)?,
            decision: share(&listening.decision)?,
            // The connections of this process live on it.
            udp: None,
        })
    }

    /// Addresses of the main listener.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let listening = self.listening.lock();
        listening
            .main
            .as_ref()
            .map_or(Vec::new(), |group| group.addresses().to_vec())
    }

    /// Addresses of the redirect listener.
    pub fn redirect_addrs(&self) -> Vec<SocketAddr> {
        let listening = self.listening.lock();
        listening
            .redirect
            .as_ref()
            .map_or(Vec::new(), |group| group.addresses().to_vec())
    }

    /// Addresses of the listener for other proxies.
    pub fn decision_addrs(&self) -> Vec<SocketAddr> {
        let listening = self.listening.lock();
        listening
            .decision
            .as_ref()
            .map_or(Vec::new(), |group| group.addresses().to_vec())
    }
}

pub(super) fn decision_error(address: &str, error: io::Error) -> StartError {
    StartError::Decision {
        address: address.to_owned(),
        error,
    }
}
