//! What happens to an allowed request: forward, redirect or a fixed answer (spec config.md 9.2, 9.5).

use super::super::Cx;
use crate::diagnostic::Stage;
use crate::settings::{Action, Destination, Redirect, UpstreamScheme};
use crate::spec::upstream::Upstream;
use crate::spec::values::Values;

/// Largest body of a fixed answer, bytes (proxy.md 4.7).
const MAX_BODY: usize = 4096;

pub(super) fn resolve(route: &Values, cx: &mut Cx<'_>) -> Option<Action> {
    let names = ["to", "redirect", "response"];
    if names.iter().all(|name| !route.is_set(name)) {
        if names.iter().all(|name| !route.is_failed(name)) {
            let message = "policy should have either `to` or `redirect` or `response` defined";
            let help = "add for instance `to: http://127.0.0.1:8080`";
            cx.sink.error(route.place, route.path.clone(), message, help);
        }
        return None;
    }
    let destinations = destinations(route, cx);
    if let Some(values) = route.object("redirect") {
        return Some(Action::Redirect(Box::new(redirect(values, cx))));
    }
    if let Some(response) = route.object("response") {
        return Some(respond(response, cx));
    }
    destinations.map(|destinations| Action::Forward(destinations.into()))
}

fn redirect(values: &Values, cx: &mut Cx<'_>) -> Redirect {
    let status = values.int("response_code").unwrap_or(301);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let message = format!("unsupported redirect response code {status}");
        let help = "one of 301, 302, 303, 307, 308";
        cx.sink.error(
            values.place("response_code"),
            values.key("response_code"),
            message,
            help,
        );
    }
    parts(values, cx);
    let text = |name: &str| values.some_text(name).map(str::to_owned);
    let port = values
        .int("port_redirect")
        .and_then(|port| u16::try_from(port).ok());
    Redirect {
        https: values.bool("https_redirect"),
        scheme: text("scheme_redirect"),
        host: text("host_redirect"),
        port: port.filter(|port| *port != 0),
        path: text("path_redirect"),
        prefix_rewrite: values.some_text("prefix_rewrite").map(str::to_owned),
        status: u16::try_from(status).unwrap_or(301),
        strip_query: values.on("strip_query"),
    }
}

/// Whether a text is what it is meant to be.
type Check<'a> = &'a dyn Fn(&str) -> bool;

/// The parts of the new location, each by itself: what is none would make an address that leads somewhere else.
fn parts(values: &Values, cx: &mut Cx<'_>) {
    let in_host = |c: char| c.is_whitespace() || c.is_control() || "/\\?#@".contains(c);
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let scheme =
        |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(in_scheme);
    let checks: [(&str, Check<'_>, &str, &str); 3] = [
        (
            "path_redirect",
            &|text| text.starts_with('/'),
            "path",
            "a path begins with a slash",
        ),
        (
            "scheme_redirect",
            &scheme,
            "scheme",
            "write for instance https, without ://",
        ),
        (
            "host_redirect",
            &|text| !text.contains(in_host),
            "host",
            "write for instance www.example.com",
        ),
    ];
    for (name, fits, what, help) in checks {
        if let Some(text) = values.some_text(name).filter(|text| !fits(text)) {
            let message = format!("\"{text}\" is no {what}");
            cx.sink.error(values.place(name), values.key(name), message, help);
        }
    }
}

fn respond(values: &Values, cx: &mut Cx<'_>) -> Action {
    let status = u16::try_from(values.int("status").unwrap_or(0)).unwrap_or(0);
    if !(200..600).contains(&status) {
        let message = format!("status {status} cannot be answered");
        let key = values.key("status");
        cx.sink.error_at(
            Stage::DataPlane,
            values.place("status"),
            key,
            message,
            "a status from 200 to 599",
        );
    }
    let body = values.text("body").to_owned();
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        let message = format!("an answer with status {status} has no body: it is left out");
        let help = "remove `body`, or choose another status";
        cx.sink
            .warn(values.place("body"), values.key("body"), message, help);
    }
    if body.len() > MAX_BODY {
        let message = format!(
            "the body has {} bytes, at most {MAX_BODY} are possible",
            body.len()
        );
        let help = "serve longer texts from an upstream";
        cx.sink.error_at(
            Stage::DataPlane,
            values.place("body"),
            values.key("body"),
            message,
            help,
        );
    }
    Action::Respond {
        status,
        body: body.into(),
    }
}

fn destinations(route: &Values, cx: &mut Cx<'_>) -> Option<Vec<Destination>> {
    let upstreams = route.upstreams("to");
    let mut list = Vec::with_capacity(upstreams.len());
    for upstream in upstreams {
        match destination(upstream) {
            Ok(destination) => list.push(destination),
            Err((message, help)) => cx.sink.error(upstream.place, route.key("to"), message, help),
        }
    }
    let share = |is: fn(UpstreamScheme) -> bool| {
        let count = list.iter().filter(|destination| is(destination.scheme)).count();
        count != 0 && count != list.len()
    };
    let sockets = |scheme: UpstreamScheme| list.iter().any(|destination| destination.scheme == scheme);
    let both_sockets = sockets(UpstreamScheme::Unix) && sockets(UpstreamScheme::HttpsUnix);
    let mixed = [
        ("tcp", share(|scheme| scheme == UpstreamScheme::Tcp)),
        ("udp", share(|scheme| scheme == UpstreamScheme::Udp)),
        (
            "unix",
            both_sockets || share(|s| matches!(s, UpstreamScheme::Unix | UpstreamScheme::HttpsUnix)),
        ),
    ];
    for (name, _) in mixed.iter().filter(|(_, mixed)| *mixed) {
        let message = format!("config: cannot mix {name} and non-{name} To URLs");
        cx.sink.error(
            route.place("to"),
            route.key("to"),
            message,
            "make a route for each kind",
        );
    }
    (!list.is_empty()).then_some(list)
}

fn destination(upstream: &Upstream) -> Result<Destination, (String, &'static str)> {
    let url = &upstream.url;
    let (scheme, default_port) = match url.scheme.as_str() {
        "http" => (UpstreamScheme::Http, 80),
        "https" => (UpstreamScheme::Https, 443),
        "h2c" => (UpstreamScheme::H2c, 80),
        "tcp" => (UpstreamScheme::Tcp, 80),
        "udp" => (UpstreamScheme::Udp, 80),
        "ssh" => (UpstreamScheme::Ssh, 22),
        "unix" => (UpstreamScheme::Unix, 0),
        "https+unix" => (UpstreamScheme::HttpsUnix, 0),
        other => {
            let help = "one of http, https, h2c, tcp, udp, ssh, unix, https+unix";
            return Err((format!("\"{other}\" is no scheme of an upstream"), help));
        }
    };
    let port = match url.port() {
        "" => default_port,
        port => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| (format!("\"{port}\" is no port"), "a port from 1 to 65535"))?,
    };
    Ok(Destination {
        scheme,
        port,
        weight: upstream.weight.unwrap_or(1),
        authority: url.host.as_str().into(),
        path: match scheme {
            // A file name is not escaped.
            UpstreamScheme::Unix | UpstreamScheme::HttpsUnix => url.path.as_str().into(),
            _ => url.written_path.as_str().into(),
        },
    })
}
