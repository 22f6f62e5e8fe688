//! The id of a route: XXH3-64 over what it matches and where it goes (spec config.md 9.3). Name, access rules
//! and headers do not count, so that they can change without a new id.

use crate::spec::go_url::GoUrl;
use crate::spec::values::Values;

/// 16 hex digits.
pub(super) fn route_id(route: &Values) -> String {
    let mut bytes = Vec::new();
    for name in ["from", "prefix", "path", "regex"] {
        text(&mut bytes, route.text(name));
    }
    let upstreams = route.upstreams("to");
    if !upstreams.is_empty() {
        bytes.push(1);
        number(&mut bytes, upstreams.len());
        for upstream in upstreams {
            url(&mut bytes, &upstream.url);
            bytes.extend_from_slice(&upstream.weight.unwrap_or(0).to_le_bytes());
        }
    } else if let Some(redirect) = route.object("redirect") {
        bytes.push(2);
        self::redirect(&mut bytes, redirect);
    } else if let Some(response) = route.object("response") {
        bytes.push(3);
        let status = response.int("status").unwrap_or(0);
        bytes.extend_from_slice(&i32::try_from(status).unwrap_or(0).to_le_bytes());
        text(&mut bytes, response.text("body"));
    }
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes))
}

fn text(out: &mut Vec<u8>, value: &str) {
    number(out, value.len());
    out.extend_from_slice(value.as_bytes());
}

fn number(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&i32::try_from(value).unwrap_or(i32::MAX).to_le_bytes());
}

fn url(out: &mut Vec<u8>, url: &GoUrl) {
    text(out, &url.scheme);
    text(out, &url.opaque);
    match &url.user {
        None => out.push(0),
        Some((name, password)) => {
            out.push(1);
            text(out, name);
            text(out, password.as_deref().unwrap_or(""));
        }
    }
    text(out, &url.host);
    text(out, &url.path);
    text(out, &url.raw_path);
    out.push(u8::from(url.omit_host));
    out.push(u8::from(url.force_query));
    text(out, &url.fragment);
    text(out, &url.raw_fragment);
}

fn redirect(out: &mut Vec<u8>, redirect: &Values) {
    let optional_text = |out: &mut Vec<u8>, name: &str| match redirect.is_set(name) {
        false => out.push(0),
        true => {
            out.push(1);
            text(out, redirect.text(name));
        }
    };
    let optional_number = |out: &mut Vec<u8>, name: &str| match redirect.int(name) {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            out.extend_from_slice(&u32::try_from(value).unwrap_or(0).to_le_bytes());
        }
    };
    let optional_bool = |out: &mut Vec<u8>, name: &str| match redirect.bool(name) {
        None => out.push(0),
        Some(value) => out.extend_from_slice(&[1, u8::from(value)]),
    };
    optional_bool(out, "https_redirect");
    optional_text(out, "scheme_redirect");
    optional_text(out, "host_redirect");
    optional_number(out, "port_redirect");
    optional_text(out, "path_redirect");
    optional_text(out, "prefix_rewrite");
    optional_number(out, "response_code");
    optional_bool(out, "strip_query");
}
