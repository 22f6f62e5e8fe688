//! Header maps: response headers with their defaults, claim headers (spec config.md 13).

use http::{HeaderName, HeaderValue};

use super::Cx;
use crate::diagnostic::Place;
use crate::settings::IdentityHeaderSettings;
use crate::spec::values::Values;

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
    let mut headers = if values.is_set(name) {
        let given = values.pairs(name);
        if disables(given) {
            return Vec::new();
        }
        check(given, values.place(name), name, cx);
        given.to_vec()
    } else {
        defaults(values)
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
    let value = HeaderValue::from_str(value).map_err(|_| format!("header {name}: the value is not valid"))?;
    Ok((header_name(name)?, value))
}

pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("\"{name}\" is no valid header name"))
}

fn check(headers: &[(String, String)], place: Place, key: &str, cx: &mut Cx<'_>) {
    for (name, value) in headers {
        if let Err(message) = parse(name, value) {
            cx.sink.error(
                place,
                key,
                format!("config: failed to parse headers: {message}"),
                "",
            );
        }
    }
}

/// Claims that go to headers of their own.
pub(super) fn claims(values: &Values) -> IdentityHeaderSettings {
    let claims = values
        .pairs("jwt_claims_headers")
        .iter()
        .filter_map(|(header, claim)| Some((header_name(header).ok()?, claim.clone())))
        .collect();
    IdentityHeaderSettings { claims }
}
