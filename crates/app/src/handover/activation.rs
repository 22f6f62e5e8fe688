//! Sockets from the service manager: systemd's `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`.
//!
//! A socket says by its name (`FileDescriptorName=`) what it is for: `main`, `redirect`, `decision`, `health`,
//! `metrics`, `grpc`. One without such a name is matched by its port with the settings; a single one that matches nothing is the
//! main one. A UDP socket is for HTTP/3.

use std::net::{TcpListener, UdpSocket};

use anyhow::{Context, bail};
use listenfd::ListenFd;
use pomerium_config::settings::{Codec, Settings};

use super::{Sockets, Use};

/// The sockets with their names, if the service manager passed any. To be asked once, before there are other
/// threads: the variables are taken out of the environment.
#[derive(Debug, Default)]
pub struct Activated {
    tcp: Vec<(String, TcpListener)>,
    udp: Vec<UdpSocket>,
}

impl Activated {
    /// Takes them over. Errors when one is neither a TCP nor a UDP socket.
    pub fn from_environment() -> anyhow::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut all = Self::default();
        for number in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            if let Ok(socket) = passed.take_udp_socket(number) {
                all.udp.extend(socket);
                continue;
            }
            let taken = passed.take_tcp_listener(number);
            let socket = taken.with_context(|| {
                format!(
                    "LISTEN_FDS: socket {number} ({name:?}) is neither TCP nor UDP; pass addresses of \
                     ListenStream= and ListenDatagram= only"
                )
            })?;
            all.tcp.extend(socket.map(|socket| (name, socket)));
        }
        Ok(all)
    }

    /// Finds out what each is for. Errors when that cannot be told, or when the settings have no use for one:
    /// people would connect to it and wait for ever.
    pub fn assign(self, settings: &Settings) -> anyhow::Result<Sockets> {
        let mut sockets = Sockets {
            udp: for_http3(self.udp, settings)?,
            ..Sockets::default()
        };
        let alone = self.tcp.len() == 1;
        for (name, socket) in self.tcp {
            let address = socket
                .local_addr()
                .context("LISTEN_FDS: a socket without an address")?;
            let what = by_name(&name).or_else(|| by_port(address.port(), settings));
            let Some(what) = what.or_else(|| alone.then_some(Use::Main)) else {
                bail!(
                    "LISTEN_FDS: the socket {name:?} on {address} is for no listener; name it by \
                     FileDescriptorName=main, redirect, decision, health, metrics or grpc"
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

/// The one that HTTP/3 is served on. Errors when nobody would read a socket.
fn for_http3(mut sockets: Vec<UdpSocket>, settings: &Settings) -> anyhow::Result<Option<UdpSocket>> {
    let listener = &settings.listener;
    let udp = sockets.pop();
    if udp.is_some() && (listener.codec != Codec::Http3 || listener.insecure) {
        bail!(
            "LISTEN_FDS: a UDP socket is for HTTP/3, which is not served; set codec_type to http3, with TLS"
        );
    }
    if !sockets.is_empty() {
        bail!("LISTEN_FDS: HTTP/3 is served on one UDP socket; pass one address of ListenDatagram=");
    }
    Ok(udp)
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
