//! Compares what happened with what a case expects.

use serde_json::Value;

use super::case::{Case, ExpectResponse, ExpectUpstream};
use super::stage::Seen;
use crate::{RawReply, Recorded};

/// Every difference, one text each.
pub(super) fn differences(case: &Case, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(route) = &case.expect.route {
        found.extend(route_difference(route, seen));
    }
    match (&case.expect.upstream, &seen.upstream) {
        (Some(wanted), Some((_, request))) => upstream(wanted, request, &mut found),
        (Some(_), None) => found.push(format!(
            "no request reached the upstream; the client got {}: {}",
            seen.reply.status,
            shortened(&seen.reply.text())
        )),
        (None, _) => {}
    }
    if let Some(wanted) = &case.expect.response {
        response(wanted, seen, &mut found);
    }
    found
}

fn route_difference(wanted: &Value, seen: &Seen) -> Option<String> {
    let logged = seen.log["upstream-cluster"].as_str().unwrap_or_default();
    let logged = logged
        .strip_prefix("route-")
        .and_then(|rest| rest.split('-').next())
        .and_then(|n| n.parse().ok());
    let actual: Option<usize> = seen.upstream.as_ref().map(|(index, _)| *index).or(logged);
    let fits = match wanted {
        Value::Number(index) => actual.is_none_or(|actual| Some(actual as u64) == index.as_u64()),
        _ => actual.is_none(),
    };
    (!fits).then(|| {
        format!(
            "route: expected {wanted}, got {}",
            actual.map_or("none".into(), |n| n.to_string())
        )
    })
}

fn upstream(wanted: &ExpectUpstream, request: &Recorded, found: &mut Vec<String>) {
    compare("upstream path", &wanted.path, &request.target, found);
    if let Some(host) = &wanted.host {
        compare("upstream host", host, &request.host, found);
    }
    for (name, value) in &wanted.headers {
        let values = request.headers_named(name);
        let actual = if values.is_empty() {
            None
        } else {
            Some(values.join(","))
        };
        compare_header("upstream", name, value, actual.as_deref(), found);
    }
    for name in &wanted.absent {
        if let Some(value) = request.header(name) {
            found.push(format!("upstream header {name}: expected none, got {value:?}"));
        }
    }
}

fn response(wanted: &ExpectResponse, seen: &Seen, found: &mut Vec<String>) {
    let reply = &seen.reply;
    compare(
        "status",
        &wanted.status.to_string(),
        &reply.status.to_string(),
        found,
    );
    if let Some(details) = &wanted.details {
        compare(
            "details",
            details,
            seen.log["response-code-details"].as_str().unwrap_or_default(),
            found,
        );
    }
    for (name, value) in &wanted.headers {
        compare_header("response", name, value, reply.header(name), found);
    }
    for name in &wanted.absent {
        if let Some(value) = reply.header(name) {
            found.push(format!("response header {name}: expected none, got {value:?}"));
        }
    }
    for name in &wanted.header_present {
        if reply.header(name).is_none() {
            found.push(format!("response header {name}: expected one, got none"));
        }
    }
    for (name, value) in &wanted.header_not {
        if reply.header(name) == Some(value) {
            found.push(format!("response header {name}: expected anything but {value:?}"));
        }
    }
    body(wanted, reply, found);
}

fn body(wanted: &ExpectResponse, reply: &RawReply, found: &mut Vec<String>) {
    let text = reply.text();
    if let Some(body) = &wanted.body {
        compare("body", body, &text, found);
    }
    for part in &wanted.body_contains {
        if !text.contains(part) {
            found.push(format!("body: {part:?} is not in it: {}", shortened(&text)));
        }
    }
    if let Some(json) = &wanted.body_json {
        compare_json("body", json, &text, found);
    }
    if let Some(json) = &wanted.grpc_message_json {
        let message = reply.header("grpc-message").unwrap_or_default();
        let message = percent_encoding::percent_decode_str(message)
            .decode_utf8_lossy()
            .into_owned();
        compare_json("grpc-message", json, &message, found);
    }
}

fn compare(what: &str, wanted: &str, actual: &str, found: &mut Vec<String>) {
    if wanted != actual {
        found.push(format!(
            "{what}: expected {wanted:?}, got {}",
            shortened(&format!("{actual:?}"))
        ));
    }
}

fn compare_header(side: &str, name: &str, wanted: &str, actual: Option<&str>, found: &mut Vec<String>) {
    match actual {
        Some(actual) => compare(&format!("{side} header {name}"), wanted, actual, found),
        None => found.push(format!("{side} header {name}: expected {wanted:?}, got none")),
    }
}

fn compare_json(what: &str, wanted: &Value, actual: &str, found: &mut Vec<String>) {
    match serde_json::from_str::<Value>(actual) {
        Ok(actual) if contains(&actual, wanted) => {}
        Ok(actual) => found.push(format!(
            "{what}: {wanted} is not in {}",
            shortened(&actual.to_string())
        )),
        Err(_) => found.push(format!("{what}: expected JSON, got {}", shortened(actual))),
    }
}

/// Objects may hold more than is wanted; everything else must be equal.
fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| actual.get(name).is_some_and(|actual| contains(actual, wanted))),
        _ => actual == wanted,
    }
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(300).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(expect: &Value, seen: &Seen) -> Vec<String> {
        let case = json!({
            "name": "n", "routes": [], "request": { "method": "GET", "url": "https://a/" }, "expect": expect,
        });
        differences(&serde_json::from_value(case).unwrap(), seen)
    }

    fn seen() -> Seen {
        Seen {
            upstream: Some((
                1,
                Recorded {
                    method: "GET".into(),
                    target: "/x".into(),
                    version: "HTTP/1.1".into(),
                    host: "up".into(),
                    headers: vec![("x-a".into(), "1".into())],
                    body: Vec::new(),
                },
            )),
            reply: RawReply {
                status: 200,
                headers: vec![("Content-Type".into(), "application/json".into())],
                body: br#"{"a":{"b":1,"c":2}}"#.to_vec(),
            },
            log: json!({ "upstream-cluster": "route-1-abc", "response-code-details": "via_upstream" }),
        }
    }

    #[test]
    fn what_fits_makes_no_difference() {
        let expect = json!({
            "route": 1,
            "upstream": { "path": "/x", "host": "up", "headers": { "x-a": "1" }, "absent": ["x-b"] },
            "response": {
                "status": 200, "details": "via_upstream", "headers": { "content-type": "application/json" },
                "body_json": { "a": { "b": 1 } }, "header_not": { "x-request-id": "mine" },
            },
        });
        assert_eq!(judged(&expect, &seen()), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let expect = json!({
            "route": 0,
            "upstream": { "path": "/y", "host": "other", "headers": { "x-a": "2", "x-z": "" }, "absent": ["x-a"] },
            "response": {
                "status": 404, "details": "route_not_found", "headers": { "x": "" }, "absent": ["content-type"],
                "header_present": ["x-request-id"], "header_not": { "content-type": "application/json" },
                "body": "", "body_contains": ["zz"], "body_json": { "a": { "b": 2 } }, "grpc_message_json": {},
            },
        });
        let found = judged(&expect, &seen());
        assert_eq!(found.len(), 16, "{found:#?}");
    }

    #[test]
    fn a_request_where_none_should_be_is_a_difference() {
        assert_eq!(
            judged(&json!({ "route": null }), &seen()),
            ["route: expected null, got 1"]
        );
        assert_eq!(judged(&json!({ "route": "internal" }), &seen()).len(), 1);
    }
}
