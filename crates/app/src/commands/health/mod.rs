//! `pomerium health`: asks the health listener (spec databroker.md 16.4). [`watch`] follows one over gRPC instead.

mod watch;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::print;
use crate::cli::{HealthArgs, HealthCommand};

/// Longest wait for the listener.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes.
const LIMIT: u64 = 1 << 20;

/// Runs the command; fails when a check that counts is not running.
pub fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    if let Some(HealthCommand::Watch(args)) = &args.command {
        return watch::run(args);
    }
    let answer = fetch(&args.health_addr).with_context(|| {
        format!(
            "no answer from the health listener at {}; is Pomerium running?",
            args.health_addr
        )
    })?;
    let lines = judge(&answer, &args.exclude);
    for (name, problem) in &lines {
        match problem {
            Some(problem) => print(&format!("{name}: {problem}")),
            None if args.verbose => print(&format!("{name}: running")),
            None => {}
        }
    }
    let healthy = lines.iter().all(|(_, problem)| problem.is_none());
    if healthy {
        print("healthy");
    }
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn fetch(address: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.take(LIMIT).read_to_string(&mut text)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("the answer is not HTTP")
    };
    if !head.starts_with("HTTP/1.1 200") {
        bail!("the answer is `{}`", head.lines().next().unwrap_or_default());
    }
    Ok(serde_json::from_str(body)?)
}

/// Each check that was reported or is required, with its problem if it has one.
fn judge(status: &Value, excluded: &[String]) -> Vec<(String, Option<String>)> {
    let empty = serde_json::Map::new();
    let statuses = status["statuses"].as_object().unwrap_or(&empty);
    let required = status["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let mut names: Vec<&str> = required.chain(statuses.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| !excluded.iter().any(|other| other == name))
        .map(|name| (name.to_owned(), problem(statuses.get(name))))
        .collect()
}

fn problem(check: Option<&Value>) -> Option<String> {
    let Some(check) = check else {
        return Some("never reported".to_owned());
    };
    if let Some(error) = check["error"].as_str() {
        return Some(error.to_owned());
    }
    let status = check["status"].as_str().unwrap_or("UNKNOWN");
    (status != "RUNNING").then(|| status.to_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_required_check_that_never_reported_is_a_problem_unless_excluded() {
        let status = json!({"statuses": {"a": {"status": "RUNNING"}}, "checks": ["a", "b"]});
        let lines = judge(&status, &[]);
        assert_eq!(lines[0], ("a".into(), None));
        assert_eq!(lines[1], ("b".into(), Some("never reported".into())));
        assert_eq!(judge(&status, &["b".into()]).len(), 1);
    }

    #[test]
    fn an_error_counts_even_while_running() {
        let status = json!({"statuses": {"a": {"status": "RUNNING", "error": "disk full"}}, "checks": []});
        assert_eq!(judge(&status, &[])[0].1.as_deref(), Some("disk full"));
    }
}
