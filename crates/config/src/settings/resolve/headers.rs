//! Header maps: response headers with their defaults, claim headers (spec config.md 13).

use http::header::HOST;
use http::{HeaderName, HeaderValue};

use super::Cx;
use crate::diagnostic::Place;
use crate::settings::IdentityHeaderSettings;
use crate::spec::values::Values;

/// They frame a message and manage its connection; a value of one's own would make two readers see two messages.
const OF_THE_MESSAGE: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const HSTS: &str = "max-age=31536000; includeSubDomains; preload";

/// The response headers of a configuration that sets none.
pub(crate) fn defaults(values: &Values) -> Vec<(String, String)> {
    let mut headers = vec![
        ("X-Frame-Options".to_owned(), "SAMEORIGIN".to_owned()),
        ("X-XSS-Protection".to_owned(), "1; mode=block".to_owned()),
    ];
    let certificate_options = [
        "certificate",
        "certificate_key",
        "certificate_file",
        "certificate_key_file",
        "certificates_dir",
    ];
    let has_certificate = certificate_options
        .iter()
        .any(|name| values.some_text(name).is_some())
        || !values.objects("certificates").is_empty();
    if has_certificate && !values.on("autocert_use_staging") {
        headers.push(("Strict-Transport-Security".to_owned(), HSTS.to_owned()));
    }
    headers
}

/// Headers set on every response, sorted by name; `disable` means none.
pub(super) fn global(values: &Values, cx: &mut Cx<'_>) -> Vec<(String, String)> {
    let name = "set_response_headers";
    let given = values.pairs(name);
    if !disables(given) {
        check(given, values.place(name), name, cx);
    }
    unreported(values)
}

/// As [`global`], without telling of its mistakes again.
pub(super) fn unreported(values: &Values) -> Vec<(String, String)> {
    let name = "set_response_headers";
    let mut headers = match values.pairs(name) {
        _ if !values.is_set(name) => defaults(values),
        given if disables(given) => Vec::new(),
        given => {
            let settable =
                |(name, _): &&(String, String)| header_name(name).is_ok_and(|name| !is_of_the_message(&name));
            given.iter().filter(settable).cloned().collect()
        }
    };
    headers.sort();
    headers
}

fn disables(headers: &[(String, String)]) -> bool {
    headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("disable"))
}

/// The response headers of a route: its own over the global ones.
pub(super) fn of_route(
    global: &[(String, String)],
    route: &Values,
    cx: &mut Cx<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let name = "set_response_headers";
    let own = route.pairs(name);
    if disables(own) {
        return Vec::new();
    }
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in global {
        if let Ok(pair) = parse(name, value) {
            headers.push(pair);
        }
    }
    for (name, value) in own {
        match parse(name, value) {
            Ok((name, _)) if is_of_the_message(&name) => {
                warn_of_the_message(
                    &name,
                    route.place("set_response_headers"),
                    &route.key("set_response_headers"),
                    cx,
                );
            }
            Ok((name, value)) => {
                headers.retain(|(have, _)| have != name);
                headers.push((name, value));
            }
            Err(message) => {
                let key = route.key("set_response_headers");
                cx.sink
                    .error(route.place("set_response_headers"), key, message, "");
            }
        }
    }
    headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    headers
}

fn parse(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let value = header_value(name, value)?;
    Ok((header_name(name)?, value))
}

/// Nothing that would end the header, or that the other side reads in its own way.
pub(super) fn header_value(name: impl std::fmt::Display, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| format!("header {name}: the value is not valid"))
}

pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("\"{name}\" is no valid header name"))
}

fn check(headers: &[(String, String)], place: Place, key: &str, cx: &mut Cx<'_>) {
    for (name, value) in headers {
        match parse(name, value) {
            Ok((name, _)) if is_of_the_message(&name) => warn_of_the_message(&name, place, key, cx),
            Ok(_) => {}
            Err(message) => cx.sink.error(
                place,
                key,
                format!("config: failed to parse headers: {message}"),
                "",
            ),
        }
    }
}

/// Whether this header is the proxy's own to write.
pub(super) fn is_of_the_message(name: &HeaderName) -> bool {
    OF_THE_MESSAGE.contains(&name.as_str())
}

/// Says that the header is left out.
pub(super) fn warn_of_the_message(name: &HeaderName, place: Place, key: &str, cx: &mut Cx<'_>) {
    cx.sink.warn(
        place,
        key,
        format!("header {name} cannot be set, it is left out: the proxy frames every message itself"),
        "remove it",
    );
}

/// Claims that go to headers of their own.
pub(super) fn claims(values: &Values, cx: &mut Cx<'_>) -> IdentityHeaderSettings {
    let option = "jwt_claims_headers";
    let mut claims = Vec::new();
    for (header, claim) in values.pairs(option) {
        match header_name(header) {
            Ok(name) if name == HOST || is_of_the_message(&name) => {
                warn_of_the_message(&name, values.place(option), option, cx);
            }
            Ok(name) => claims.push((name, claim.clone())),
            Err(_) => {}
        }
    }
    IdentityHeaderSettings { claims }
}
