//! Compares what was observed with what a case expects.

use serde_json::Value;

use super::case::{Observed, ROUTE_NAME, known_only};

pub(super) fn expectations(expect: &Value, observed: &Observed) -> Result<(), String> {
    known_only(expect, &["route", "upstream", "response"], "expect")?;
    if let Some(route) = expect.get("route") {
        self::route(route, observed)?;
    }
    if let Some(wanted) = expect.get("upstream") {
        upstream(wanted, observed)?;
    }
    match expect.get("response") {
        Some(wanted) => response(wanted, observed),
        None => Ok(()),
    }
}

fn route(wanted: &Value, observed: &Observed) -> Result<(), String> {
    let matched = observed.line["cluster-stat-name"].as_str();
    let details = observed.line["response-code-details"]
        .as_str()
        .unwrap_or_default();
    let missing = details == "route_not_found";
    let holds = match wanted {
        Value::Null => {
            matched.is_none() && observed.upstream.is_none() && (missing || observed.answer.status == 404)
        }
        Value::String(internal) if internal == "internal" => observed.upstream.is_none() && !missing,
        Value::Number(number) => matched == Some(format!("{ROUTE_NAME}{number}").as_str()),
        _ => return Err(format!("route: cannot read {wanted}")),
    };
    if let (Some(number), Some((at, _))) = (wanted.as_u64(), &observed.upstream)
        && number != *at as u64
    {
        return Err(format!("route: wanted {number}, the upstream of {at} was asked"));
    }
    if holds {
        Ok(())
    } else {
        Err(format!("route: wanted {wanted}, matched {matched:?} ({details})"))
    }
}

fn upstream(wanted: &Value, observed: &Observed) -> Result<(), String> {
    known_only(wanted, &["path", "host", "headers", "absent"], "upstream")?;
    let status = observed.answer.status;
    let (_, head) = observed
        .upstream
        .as_ref()
        .ok_or(format!("upstream: nothing arrived (status {status})"))?;
    let mut lines = head.split("\r\n");
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or_default();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    equal("upstream path", wanted.get("path"), Some(path))?;
    equal("upstream host", wanted.get("host"), find(&headers, "host"))?;
    exact_headers("upstream", wanted, &headers)
}

fn response(wanted: &Value, observed: &Observed) -> Result<(), String> {
    let known = [
        "status",
        "headers",
        "header_present",
        "header_not",
        "absent",
        "body",
        "body_json",
        "body_contains",
        "details",
        "grpc_message_json",
    ];
    known_only(wanted, &known, "response")?;
    let answer = &observed.answer;
    if wanted
        .get("status")
        .is_some_and(|status| *status != answer.status)
    {
        return Err(format!(
            "status: wanted {}, got {}",
            wanted["status"], answer.status
        ));
    }
    exact_headers("response", wanted, &answer.headers)?;
    for name in wanted["header_present"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        find(&answer.headers, name).ok_or(format!("response header {name}: missing"))?;
    }
    for (name, not) in wanted["header_not"].as_object().into_iter().flatten() {
        if find(&answer.headers, name) == not.as_str() {
            return Err(format!("response header {name}: must not be {not}"));
        }
    }
    equal("body", wanted.get("body"), Some(&answer.body))?;
    equal(
        "details",
        wanted.get("details"),
        observed.line["response-code-details"].as_str(),
    )?;
    for part in wanted["body_contains"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !answer.body.contains(part) {
            return Err(format!("body: {part:?} is not in it"));
        }
    }
    if let Some(json) = wanted.get("body_json") {
        subset("body_json", json, &answer.body)?;
    }
    match wanted.get("grpc_message_json") {
        Some(json) => {
            let message = find(&answer.headers, "grpc-message").unwrap_or_default();
            let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
            subset("grpc_message_json", json, &message)
        }
        None => Ok(()),
    }
}

fn exact_headers(what: &str, wanted: &Value, headers: &[(String, String)]) -> Result<(), String> {
    for (name, value) in wanted["headers"].as_object().into_iter().flatten() {
        let found = find(headers, name);
        if found != value.as_str() {
            return Err(format!("{what} header {name}: wanted {value}, got {found:?}"));
        }
    }
    for name in wanted["absent"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if let Some(found) = find(headers, name) {
            return Err(format!("{what} header {name}: must be absent, is {found:?}"));
        }
    }
    Ok(())
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn equal(what: &str, wanted: Option<&Value>, got: Option<&str>) -> Result<(), String> {
    match wanted {
        Some(wanted) if wanted.as_str() != got => Err(format!("{what}: wanted {wanted}, got {got:?}")),
        _ => Ok(()),
    }
}

/// Every field that is wanted, with its value; more may be there.
fn subset(what: &str, wanted: &Value, text: &str) -> Result<(), String> {
    let got: Value = serde_json::from_str(text).map_err(|_| format!("{what}: no JSON: {text:?}"))?;
    for (name, value) in wanted.as_object().into_iter().flatten() {
        if got.get(name) != Some(value) {
            return Err(format!("{what}: {name}: wanted {value}, got {:?}", got.get(name)));
        }
    }
    Ok(())
}
