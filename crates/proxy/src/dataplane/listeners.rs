//! The listeners of a data plane: bound at the start, exchanged by a reload, handed to the next process.

use std::io;
use std::net::SocketAddr;

use super::{Dataplane, Options, StartError};
use crate::listener::Handed;
use crate::listener::group::{Bound, Group};
use crate::worker::Serving;

/// The listeners that are open; none once the data plane drains.
#[derive(Default)]
pub(super) struct Listening {
    pub(super) main: Option<Group>,
    pub(super) redirect: Option<Group>,
    pub(super) decision: Option<Group>,
}

/// Listeners for changed addresses, bound and waiting for [`Dataplane::listen`]. Dropping it closes them.
pub struct Relisten {
    main: Option<Bound>,
    redirect: Option<Option<Bound>>,
    decision: Option<Option<Bound>>,
}

impl Dataplane {
    /// Binds those addresses of `options` that are not the ones listened on. Nothing changes before
    /// [`Self::listen`]. A redirect address that cannot be bound is logged, and the old one stays.
    ///
    /// Errors when the main address cannot be bound.
    pub fn bind(&self, options: &Options) -> Result<Relisten, StartError> {
        let listening = self.listening.lock();
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
        Ok(Relisten {
            main,
            redirect,
            decision,
        })
    }

    /// Accepts on the sockets of `next`, then stops to accept on those they replace. Connections live on.
    ///
    /// Errors when a socket cannot be watched; the old ones stay then.
    pub fn listen(&self, next: Relisten) -> Result<(), StartError> {
        let mut listening = self.listening.lock();
        if let Some(main) = next.main {
            let main = main.open(&self.workers, Serving::Main)?;
            let settled = self
                .http3
                .settle(&self.snapshot(), main.addresses(), &self.workers);
            listening.main = Some(main);
            settled?;
        }
        if let Some(redirect) = next.redirect {
            listening.redirect = redirect
                .map(|redirect| redirect.open(&self.workers, Serving::Redirect))
                .transpose()?;
        }
        if let Some(decision) = next.decision {
            listening.decision = decision
                .map(|decision| decision.open(&self.workers, Serving::Decision))
                .transpose()?;
        }
        Ok(())
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
