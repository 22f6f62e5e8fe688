//! Sockets from the service manager: systemd's `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`.
//!
//! A socket says by its name (`FileDescriptorName=`) what it is for: `main`, `redirect`, `decision`, `health`,
//! `metrics`. One without such a name is matched by its port with the settings; a single one that matches nothing is the main
//! one.

use std::net::TcpListener;

use anyhow::{Context, bail};
use listenfd::ListenFd;
use pomerium_config::settings::Settings;

use super::{Sockets, Use};

/// The sockets with their names, if the service manager passed any. To be asked once, before there are other
/// threads: the variables are taken out of the environment.
#[derive(Debug, Default)]
pub struct Activated(Vec<(String, TcpListener)>);

impl Activated {
    /// Takes them over. Errors when one is no TCP socket.
    pub fn from_environment() -> anyhow::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let taken = passed.take_tcp_listener(number);
            let socket = taken.with_context(|| {
                format!("LISTEN_FDS: socket {number} ({name:?}) is no TCP socket; pass sockets of ListenStream= only")
            })?;
            sockets.extend(socket.map(|socket| (name, socket)));
        }
        Ok(Self(sockets))
    }

    /// Finds out what each is for. Errors when that cannot be told, or when the settings have no use for one:
    /// people would connect to it and wait for ever.
    pub fn assign(self, settings: &Settings) -> anyhow::Result<Sockets> {
        let mut sockets = Sockets::default();
        let alone = self.0.len() == 1;
        for (name, socket) in self.0 {
            let address = socket
                .local_addr()
                .context("LISTEN_FDS: a socket without an address")?;
            let what = by_name(&name).or_else(|| by_port(address.port(), settings));
            let Some(what) = what.or_else(|| alone.then_some(Use::Main)) else {
                bail!(
                    "LISTEN_FDS: the socket {name:?} on {address} is for no listener; name it by \
                     FileDescriptorName=main, redirect, decision, health or metrics"
                );
            };
            if setting(what, settings).is_none() {
                bail!("LISTEN_FDS: the socket {name:?} on {address} has no listener: its address is not set");
            }
            sockets.of(what).push(socket);
        }
        Ok(sockets)
    }
}

fn by_name(name: &str) -> Option<Use> {
    match name {
        "main" | "https" | "address" => Some(Use::Main),
        "redirect" | "http" | "http_redirect_addr" => Some(Use::Redirect),
        "decision" | "decision_listener" => Some(Use::Decision),
        "health" | "health_check_addr" => Some(Use::Health),
        "metrics" | "metrics_address" => Some(Use::Metrics),
        "grpc" | "grpc_address" => Some(Use::Grpc),
        _ => None,
    }
}

fn by_port(port: u16, settings: &Settings) -> Option<Use> {
    [
        Use::Main,
        Use::Redirect,
        Use::Decision,
        Use::Health,
        Use::Metrics,
        Use::Grpc,
    ]
    .into_iter()
    .find(|what| {
        let setting = setting(*what, settings);
        let wanted = setting.and_then(|setting| setting.rsplit_once(':'));
        wanted.is_some_and(|(_, wanted)| wanted.parse() == Ok(port))
    })
}

/// The address a use has in the settings.
pub(super) fn setting(what: Use, settings: &Settings) -> Option<&str> {
    match what {
        Use::Main => Some(&settings.listener.address),
        Use::Redirect => settings.listener.redirect_address.as_deref(),
        Use::Decision => settings
            .decision
            .as_ref()
            .map(|decision| decision.address.as_str()),
        Use::Health => Some(&settings.health_address),
        Use::Metrics => settings.metrics.as_ref().map(|metrics| metrics.address.as_str()),
        Use::Grpc => settings
            .internal
            .listener
            .as_ref()
            .map(|listener| listener.address.as_str()),
    }
}
