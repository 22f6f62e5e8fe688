//! Addresses of listeners, `host:port`.

use std::net::{IpAddr, SocketAddr};

use super::Cx;
use crate::diagnostic::Stage;
use crate::spec::values::Values;

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Problem {
    /// In the words of the original, where it has any.
    pub text: &'static str,
    /// When it shows: the original loads ports there are none of, and fails when it listens.
    pub stage: Stage,
}

impl Problem {
    const fn of_form(text: &'static str) -> Self {
        let stage = Stage::Load;
        Self { text, stage }
    }
}

/// Checks the form (spec config.md 7).
pub(super) fn check(address: &str) -> Result<(), Problem> {
    let no_form = Err(Problem::of_form("expected host:port"));
    let Some((host, port)) = address.rsplit_once(':') else {
        return no_form;
    };
    let is_bare = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if is_bare || port.is_empty() {
        return no_form;
    }
    let Ok(port) = port.parse::<i64>() else {
        return Err(Problem::of_form("port must be a number"));
    };
    match port {
        ..=0 => Err(Problem::of_form("expected positive port number")),
        1..=65535 => Ok(()),
        _ => Err(Problem {
            text: "port must be at most 65535",
            stage: Stage::ServiceStart,
        }),
    }
}

/// An address option, checked.
pub(super) fn checked(values: &Values, name: &str, prefix: &str, cx: &mut Cx<'_>) -> String {
    let address = values.text(name).to_owned();
    if let Err(problem) = check(&address) {
        let help = "write host:port; an empty host means every address, for instance `:9090`";
        let message = format!("{prefix} {}", problem.text);
        cx.sink
            .error_at(problem.stage, values.place(name), name, message, help);
    }
    address
}

/// Adds the port where it is missing.
pub(super) fn with_port(address: &str, default_port: u16) -> String {
    let has_port = match address.rfind(':') {
        Some(at) => {
            !address[at..].contains(']') && (address.starts_with('[') || !address[..at].contains(':'))
        }
        None => false,
    };
    if has_port {
        return address.to_owned();
    }
    if address.contains(':') && !address.starts_with('[') {
        return format!("[{address}]:{default_port}");
    }
    format!("{address}:{default_port}")
}

/// Whether only this machine can connect. A name counts when it is `localhost`.
pub(super) fn is_loopback(address: &str) -> bool {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return address.ip().to_canonical().is_loopback();
    }
    if let Some(host) = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback());
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine() {
        for address in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "localhost:1",
            "[::ffff:127.0.0.1]:1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "127.0.0.1",
            "localhost",
        ] {
            assert!(is_loopback(address), "{address}");
        }
        for address in [
            ":1",
            "0.0.0.0:1",
            "[::]:1",
            "[::]",
            "[2001:db8::1]",
            "[localhost]",
            "10.0.0.1:1",
            "localhost.example.com:1",
        ] {
            assert!(!is_loopback(address), "{address}");
        }
    }

    #[test]
    fn forms() {
        for (address, problem) in [
            ("", "expected host:port"),
            ("localhost", "expected host:port"),
            ("127.0.0.1:", "expected host:port"),
            (":", "expected host:port"),
            ("localhost:http", "port must be a number"),
            (":0", "expected positive port number"),
        ] {
            assert_eq!(check(address), Err(Problem::of_form(problem)), "{address}");
        }
        assert_eq!(check("[::1]:80"), Ok(()));
        assert_eq!(check("127.0.0.1:65535"), Ok(()));
    }

    #[test]
    fn ports_there_are_none_of_load_and_do_not_start() {
        let problem = check("127.0.0.1:65536").unwrap_err();
        assert_eq!(problem.text, "port must be at most 65535");
        assert_eq!(problem.stage, Stage::ServiceStart);
    }

    #[test]
    fn missing_ports_are_added() {
        assert_eq!(with_port(":8443", 443), ":8443");
        assert_eq!(with_port("localhost", 443), "localhost:443");
        assert_eq!(with_port("", 80), ":80");
        assert_eq!(with_port("[::1]", 443), "[::1]:443");
        assert_eq!(with_port("::1", 443), "[::1]:443");
    }
}
