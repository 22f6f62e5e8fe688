//! Names, ports and passwords of the demo.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use pomerium_crypto::kdf;

/// How many ports are tried above the wanted one.
const PORTS_TRIED: u16 = 100;

/// What the demo will run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Folder of the demo.
    pub dir: PathBuf,
    /// Port of the listener for people.
    pub port: u16,
    /// Port of the health listener.
    pub health_port: u16,
    /// Port of the sample application.
    pub sample_port: u16,
}

/// A user of the demo.
#[derive(Debug, Clone, Copy)]
pub struct DemoUser {
    /// Name to sign in with.
    pub email: &'static str,
    /// Display name.
    pub name: &'static str,
    /// Groups.
    pub groups: &'static [&'static str],
}

/// The users of the demo: one who may open everything and one who may not.
pub const USERS: [DemoUser; 2] = [
    DemoUser {
        email: "admin@example.com",
        name: "Administrator",
        groups: &["admins", "staff"],
    },
    DemoUser {
        email: "user@example.com",
        name: "User",
        groups: &["staff"],
    },
];

/// A route of the demo.
#[derive(Debug, Clone, Copy)]
pub struct DemoRoute {
    /// First label of the host.
    pub label: &'static str,
    /// Name in the portal.
    pub name: &'static str,
    /// Who may open it, for people.
    pub who: &'static str,
    /// Access part of the route, YAML lines indented by two blanks.
    pub access: &'static str,
}

/// The routes of the demo.
pub const ROUTES: [DemoRoute; 4] = [
    DemoRoute {
        label: "app",
        name: "Sample application",
        who: "anyone who signed in",
        access: "  allow_any_authenticated_user: true\n",
    },
    DemoRoute {
        label: "admin",
        name: "Administration",
        who: "the group `admins` only",
        access: "  policy:\n  - allow:\n      and:\n      - claim/groups: admins\n",
    },
    DemoRoute {
        label: "public",
        name: "Public page",
        who: "everyone, without signing in",
        access: "  allow_public_unauthenticated_access: true\n",
    },
    DemoRoute {
        label: "ws",
        name: "WebSocket",
        who: "anyone who signed in; a live connection through the proxy",
        access: "  allow_any_authenticated_user: true\n  allow_websockets: true\n",
    },
];

impl Plan {
    /// Hosts that the certificate must name: browsers distrust a wildcard right under `localhost`.
    pub fn hosts() -> Vec<String> {
        let labels = ROUTES.iter().map(|route| route.label).chain(["authenticate"]);
        labels
            .map(|label| format!("{label}.localhost"))
            .chain(["localhost".into(), "127.0.0.1".into()])
            .collect()
    }

    /// Origin of a host of the demo.
    pub fn url(&self, label: &str) -> String {
        format!("https://{label}.localhost:{}", self.port)
    }
}

/// The first port from `wanted` on that is free on the loopback address. Errors when a hundred in a row are taken.
pub fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let last = wanted.saturating_add(PORTS_TRIED);
    (wanted..=last)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| {
            anyhow::anyhow!("no port from {wanted} to {last} is free on 127.0.0.1; choose one with --port")
        })
}

/// The password of a demo user: the same at every start, and nowhere on the disk.
pub fn password(shared_secret: &[u8; 32], user: &DemoUser) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = kdf::derive(shared_secret, &format!("demo password of {}", user.email));
    let letters: String = bytes[..12]
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect();
    format!("{}-{}-{}", &letters[..4], &letters[4..8], &letters[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_stable_and_differ_between_users_and_installations() {
        let first = password(&[1; 32], &USERS[0]);
        assert_eq!(first, password(&[1; 32], &USERS[0]));
        assert_ne!(first, password(&[1; 32], &USERS[1]));
        assert_ne!(first, password(&[2; 32], &USERS[0]));
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(port).unwrap(), port);
    }

    #[test]
    fn every_host_has_a_name_of_its_own_in_the_certificate() {
        let hosts = Plan::hosts();
        assert!(
            hosts.contains(&"app.localhost".to_owned())
                && hosts.contains(&"authenticate.localhost".to_owned())
        );
        assert!(hosts.iter().all(|host| !host.contains('*')));
    }
}
