//! Path matcher, path and host rewriting, request headers (proxy.md 4.4 to 4.8).

use http::HeaderName;
use http::header::HOST;

use super::super::Cx;
use super::super::headers::{header_name, header_value, is_of_the_message, warn_of_the_message};
use crate::diagnostic::Stage;
use crate::settings::{Action, HostRewrite, PathMatch, PathRewrite, RewriteResponseHeader, UpstreamScheme};
use crate::spec::re2;
use crate::spec::values::Values;

/// Exactly one matcher counts: regex, else path, else prefix.
pub(super) fn matcher(route: &Values, cx: &mut Cx<'_>) -> PathMatch {
    let given: Vec<_> = ["regex", "path", "prefix"]
        .into_iter()
        .filter(|name| route.some_text(name).is_some())
        .collect();
    if let [used, ignored, ..] = given.as_slice() {
        let message = format!("`{ignored}` has no effect: `{used}` is used");
        cx.sink.warn(
            route.place(ignored),
            route.key(ignored),
            message,
            "keep one of them",
        );
    }
    if let Some(regex) = checked_regex(route, "regex", cx) {
        return PathMatch::Regex(regex.into());
    }
    for name in ["path", "prefix"] {
        if let Some(text) = route.some_text(name).filter(|text| !text.starts_with('/')) {
            let help = format!("write `{name}: /{text}`");
            let message = "no path begins without a slash: this route never matches";
            cx.sink.warn(route.place(name), route.key(name), message, help);
        }
    }
    if let Some(path) = route.some_text("path") {
        return PathMatch::Exact(path.into());
    }
    route
        .some_text("prefix")
        .map_or(PathMatch::Any, |prefix| PathMatch::Prefix(prefix.into()))
}

/// Reported at the stage where the route table is built, as in the original; here with its line.
///
/// Returns the pattern for the engine here, if there is one.
fn checked_regex(route: &Values, name: &str, cx: &mut Cx<'_>) -> Option<String> {
    let pattern = route.some_text(name)?;
    let translated = re2::translate(pattern).into_owned();
    if let Err(error) = re2::compile(&translated) {
        let text = error.to_string();
        let reason = text
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        let message = format!("\"{pattern}\" is no regular expression: {reason}");
        cx.sink.error_at(
            Stage::DataPlane,
            route.place(name),
            route.key(name),
            message,
            "RE2 syntax is expected",
        );
    }
    Some(translated)
}

/// `prefix_rewrite`, else the regex pair, else the path of the first upstream.
pub(super) fn path(route: &Values, action: &Action, cx: &mut Cx<'_>) -> Option<PathRewrite> {
    let prefix = route.some_text("prefix_rewrite");
    let pattern = checked_regex(route, "regex_rewrite_pattern", cx);
    if prefix.is_some() && pattern.is_some() {
        let message = "config: only prefix_rewrite or regex_rewrite_pattern can be specified, but not both";
        let (place, key) = (route.place("prefix_rewrite"), route.key("prefix_rewrite"));
        cx.sink.error(place, key, message, "keep one of them");
    }
    if let Some(prefix) = prefix {
        return Some(PathRewrite::Prefix(prefix.to_owned()));
    }
    if let Some(pattern) = pattern {
        let substitution = route.text("regex_rewrite_substitution").to_owned();
        return Some(PathRewrite::Regex {
            pattern,
            substitution,
        });
    }
    match action {
        Action::Forward(destinations) => destinations
            .first()
            .filter(|first| !matches!(first.scheme, UpstreamScheme::Unix | UpstreamScheme::HttpsUnix))
            .filter(|first| !first.path.is_empty())
            .map(|first| PathRewrite::Prefix(first.path.to_string())),
        _ => None,
    }
}

/// Host to the upstream, first that is set.
pub(super) fn host(route: &Values, cx: &mut Cx<'_>) -> HostRewrite {
    if let Some(host) = route.some_text("host_rewrite") {
        if host.contains(|c: char| c == '/' || c.is_whitespace()) {
            let message = format!("\"{host}\" is no host");
            let help = "write a name, with a port where one is needed: no scheme, no path, no blanks";
            cx.sink.error(
                route.place("host_rewrite"),
                route.key("host_rewrite"),
                message,
                help,
            );
        }
        return HostRewrite::Literal(host.to_owned());
    }
    if let Some(name) = route.some_text("host_rewrite_header") {
        match header_name(name) {
            Ok(name) => return HostRewrite::Header(name),
            Err(message) => {
                let (place, key) = (
                    route.place("host_rewrite_header"),
                    route.key("host_rewrite_header"),
                );
                cx.sink.error(place, key, message, "");
            }
        }
    }
    if let Some(pattern) = checked_regex(route, "host_path_regex_rewrite_pattern", cx) {
        let substitution = route.text("host_path_regex_rewrite_substitution").to_owned();
        return HostRewrite::PathRegex {
            pattern,
            substitution,
        };
    }
    if route.on("preserve_host_header") {
        HostRewrite::Preserve
    } else {
        HostRewrite::Upstream
    }
}

pub(super) fn set_request_headers(route: &Values, cx: &mut Cx<'_>) -> Vec<(HeaderName, String)> {
    let option = "set_request_headers";
    let mut headers = Vec::new();
    for (name, value) in route.pairs(option) {
        match header_name(name) {
            Ok(name) if is_of_the_message(&name) => {
                warn_of_the_message(&name, route.place(option), &route.key(option), cx);
            }
            Ok(name) if name == HOST => cx.sink.warn(
                route.place(option),
                route.key(option),
                "header host cannot be set, it is left out",
                "use host_rewrite or preserve_host_header",
            ),
            Ok(name) => {
                if let Err(message) = header_value(&name, value) {
                    let help = "write the value on one line, without control characters";
                    cx.sink
                        .error(route.place(option), route.key(option), message, help);
                }
                headers.push((name, value.clone()));
            }
            Err(message) => cx.sink.error(route.place(option), route.key(option), message, ""),
        }
    }
    headers
}

pub(super) fn remove_request_headers(route: &Values, cx: &mut Cx<'_>) -> Vec<HeaderName> {
    let option = "remove_request_headers";
    let mut headers = Vec::new();
    for name in route.texts(option) {
        match header_name(name.trim()) {
            Ok(name) => headers.push(name),
            Err(message) => cx.sink.error(route.place(option), route.key(option), message, ""),
        }
    }
    headers
}

pub(super) fn response_prefixes(route: &Values, cx: &mut Cx<'_>) -> Vec<RewriteResponseHeader> {
    let mut rewrites = Vec::new();
    for item in route.objects("rewrite_response_headers") {
        match header_name(item.text("header")) {
            Ok(header) if is_of_the_message(&header) => {
                warn_of_the_message(&header, item.place("header"), &item.key("header"), cx);
            }
            Ok(header) => rewrites.push(RewriteResponseHeader {
                header,
                prefix: item.text("prefix").to_owned(),
                value: item.text("value").to_owned(),
            }),
            Err(message) => cx
                .sink
                .error(item.place("header"), item.key("header"), message, ""),
        }
    }
    rewrites
}
