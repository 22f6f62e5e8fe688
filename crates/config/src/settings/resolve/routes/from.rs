//! `from`: what kind of route, and which authorities it answers to (spec config.md 9.1, proxy.md 4.2).

use super::super::Cx;
use crate::settings::{Domains, HostMatch, RouteKind};
use crate::spec::go_url::{self, GoUrl};
use crate::spec::values::Values;

pub(super) struct From {
    pub kind: RouteKind,
    pub hosts: HostMatch,
}

pub(super) fn resolve(route: &Values, any_port: bool, insecure: bool, cx: &mut Cx<'_>) -> Option<From> {
    let text = route.text("from");
    let url = match go_url::require(text) {
        Ok(url) => url,
        Err(message) => {
            if !route.is_failed("from") {
                let message = format!("config: policy bad source url: {message}");
                let help = "write scheme and host, for instance https://app.example.com";
                cx.sink
                    .error(route.place("from"), route.key("from"), message, help);
            }
            return None;
        }
    };
    let kind = kind(text);
    if matches!(url.scheme.as_str(), "http" | "https") && !matches!(url.path.as_str(), "" | "/") {
        let message = format!(
            "config: policy source url ({text}) contains a path, but it should be set using the path field instead"
        );
        let help = format!(
            "write `from: {}://{}` and `prefix: {}`",
            url.scheme, url.host, url.path
        );
        cx.sink
            .error(route.place("from"), route.key("from"), message, help);
    }
    if url.scheme == "http" && !insecure {
        let message = "http is read as https: this listener serves https only";
        cx.sink.warn(
            route.place("from"),
            route.key("from"),
            message,
            "write https, or set insecure_server",
        );
    }
    Some(From {
        kind,
        hosts: hosts(&url, kind, any_port),
    })
}

/// Says that nobody can sign in at the hosts of a route that asks who it is.
pub(super) fn warn_of_open_end(route: &Values, from: &From, cx: &mut Cx<'_>) {
    if from.kind == RouteKind::Http && from.hosts.is_open_ended() {
        let message = "people cannot sign in at these hosts: anybody can register names that fit";
        let help =
            "let the pattern end in a domain of yours, for instance https://*.example.com, or list the hosts";
        cx.sink
            .warn(route.place("from"), route.key("from"), message, help);
    }
}

fn kind(text: &str) -> RouteKind {
    match text {
        text if text.starts_with("tcp") => RouteKind::Tcp,
        text if text.starts_with("udp") => RouteKind::Udp,
        text if text.starts_with("ssh://") => RouteKind::Ssh,
        _ => RouteKind::Http,
    }
}

fn hosts(url: &GoUrl, kind: RouteKind, any_port: bool) -> HostMatch {
    let given = url.host.to_lowercase();
    let (host, port) = bracketed(&given);
    // The root of all names at the end changes nothing.
    let name = host
        .strip_suffix('.')
        .filter(|name| !name.is_empty())
        .unwrap_or(&host);
    let authority = format!("{name}{}", &given[host.len()..]);
    let host = name.to_owned();
    let default_port = if url.scheme == "http" { 80 } else { 443 };
    if host.contains('*') {
        return wildcard(&authority, &host, port, (default_port, any_port));
    }
    if kind != RouteKind::Http {
        return HostMatch::Exact {
            domains: listed(match_hosts(url)),
            any_port: false,
        };
    }
    if port.is_empty() || port == default_port.to_string() {
        return HostMatch::Exact {
            domains: Domains::Host(host.into(), default_port),
            any_port,
        };
    }
    HostMatch::Exact {
        domains: listed(vec![authority]),
        any_port: false,
    }
}

fn listed(domains: Vec<String>) -> Domains {
    Domains::Listed(domains.into_iter().map(Into::into).collect())
}

/// Host as it stands in an authority (an IPv6 address keeps its brackets), and port.
fn bracketed(authority: &str) -> (String, &str) {
    let (_, port) = go_url::split_host_port(authority);
    let host = if port.is_empty() {
        authority.trim_end_matches(':')
    } else {
        &authority[..authority.len() - port.len() - 1]
    };
    (host.to_owned(), port)
}

fn wildcard(authority: &str, host: &str, port: &str, (default_port, any_port): (u16, bool)) -> HostMatch {
    let quoted = |text: &str| {
        text.split('*')
            .map(regex::escape)
            .collect::<Vec<_>>()
            .join("(.*)")
    };
    let regex = if port.is_empty() || port == default_port.to_string() {
        let tail = match any_port {
            true => "(:(.+))?".to_owned(),
            false => format!("(:{default_port})?"),
        };
        format!("^{}{tail}$", quoted(host))
    } else {
        format!("^{}$", quoted(authority))
    };
    HostMatch::Wildcard {
        pattern: authority.into(),
        regex: regex.into(),
    }
}

/// Authorities of a tunnel route: each path segment, or the host where there is no path.
pub(crate) fn match_hosts(url: &GoUrl) -> Vec<String> {
    let segments: Vec<String> = url
        .path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(str::to_lowercase)
        .collect();
    if segments.is_empty() {
        vec![url.host.to_lowercase()]
    } else {
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(from: &str, any_port: bool) -> HostMatch {
        hosts(&GoUrl::parse(from).unwrap(), kind(from), any_port)
    }

    fn of(from: &str, any_port: bool) -> (Vec<String>, bool) {
        match matched(from, any_port) {
            HostMatch::Exact { domains, any_port } => (domains.iter().map(Into::into).collect(), any_port),
            HostMatch::Wildcard { .. } => panic!("{from} is exact"),
        }
    }

    fn exact(domains: &[&str], any_port: bool) -> (Vec<String>, bool) {
        (domains.iter().map(|d| (*d).to_owned()).collect(), any_port)
    }

    #[test]
    fn domains() {
        assert_eq!(
            of("https://H.example.com", true),
            exact(&["h.example.com", "h.example.com:443"], true)
        );
        assert_eq!(of("https://h:443", false), exact(&["h", "h:443"], false));
        assert_eq!(of("https://dot.test.", true), of("https://dot.test", true));
        assert_eq!(
            of("https://dot.test.:8443", true),
            of("https://dot.test:8443", true)
        );
        assert_eq!(of("http://h", true), exact(&["h", "h:80"], true));
        assert_eq!(of("https://h:8443", true), exact(&["h:8443"], false));
        assert_eq!(of("https://h:80", true), exact(&["h:80"], false));
        assert_eq!(of("https://[::1]:8443", true), exact(&["[::1]:8443"], false));
        assert_eq!(of("https://[::1]", true), exact(&["[::1]", "[::1]:443"], true));
        assert_eq!(of("tcp+https://h:22", true), exact(&["h:22"], false));
        assert_eq!(
            of("tcp+https://p:8443/a:22/b:23", true),
            exact(&["a:22", "b:23"], false)
        );
    }

    #[test]
    fn wildcards() {
        let HostMatch::Wildcard { regex, .. } = matched("https://*.Example.com", true) else {
            panic!()
        };
        let regex = regex::Regex::new(&regex).unwrap();
        assert!(regex.is_match("a.b.example.com") && regex.is_match("a.example.com:8443"));
        assert!(!regex.is_match("example.com") && !regex.is_match("a.example.com.evil.test"));
        assert!(!regex.is_match("axexample.com"));
    }

    #[test]
    fn patterns_that_fit_names_of_strangers_are_open_ended() {
        for (from, open) in [
            ("https://app.example.com", false),
            ("https://*.example.com", false),
            ("https://*.example.com:8443", false),
            ("https://app-*.example.co.uk", false),
            ("https://a.*.example.com", false),
            ("https://*.lan", false),
            ("https://*.home.arpa", false),
            ("https://*.svc.cluster.local", false),
            ("https://*", true),
            ("https://*:8443", true),
            ("https://app.*", true),
            ("https://*.com", true),
            ("https://*.co.uk", true),
            ("https://*example.com", true),
            ("https://app.*.com", true),
            ("https://app*", true),
        ] {
            assert_eq!(matched(from, true).is_open_ended(), open, "{from}");
        }
    }
}
