//! Policies of ten criteria, judged and compiled. No request, no network: what a decision adds to one.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pomerium_policy::ppl::Policy;
use pomerium_policy::{
    Authentication, ClientCertificate, Group, GroupSource, Groups, HttpInput, Input, NoHeaders, Program,
    Script, ScriptData, Subject,
};
use serde_json::{Value, json};

use crate::statistics::median;

/// Decisions of one run.
const DECISIONS: usize = 100_000;
/// Decisions timed as one: a clock cannot see a single one.
const BATCH: usize = 10;
/// Policies that are compiled, and rules of each.
const POLICIES: usize = 1_000;
const RULES: usize = 20;

/// The figures as text.
pub fn run(runs: usize) -> Result<String> {
    let program = Program::compile(&Policy::parse(&ten_criteria())?)?;
    let subject = subject();
    let input = Input::new(
        Some(&subject),
        http(),
        jiff::Timestamp::constant(1_785_974_400, 0),
    );
    anyhow::ensure!(
        program.evaluate(&input).allow.value,
        "the measured request is let in"
    );
    let mut runs: Vec<(f64, f64)> = (0..runs.max(1)).map(|_| decisions(&program, &input)).collect();
    runs.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (middle, late) = runs[runs.len() / 2];
    let compiled = median((0..5).map(|_| compile()).collect::<Result<_>>()?);
    let mut scripted: Vec<(f64, f64)> = (0..runs.len()).map(|_| rego(&subject)).collect::<Result<_>>()?;
    scripted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (rego_middle, rego_late) = scripted[scripted.len() / 2];
    let mut text = String::from("### Policies\n\n");
    let _ = writeln!(
        text,
        "- a decision of 10 criteria with session and groups: median {middle:.2} µs (goal: below 2), 99th percentile {late:.2} µs (goal: below 5), in batches of {BATCH}"
    );
    let _ = writeln!(
        text,
        "- a decision of a ten-line Rego policy: median {rego_middle:.1} µs (goal: below 50), 99th percentile {rego_late:.1} µs"
    );
    let _ = writeln!(
        text,
        "- {POLICIES} policies of {RULES} rules, from JSON text to compiled: {compiled:.0} ms (goal: below 200)\n"
    );
    Ok(text)
}

/// Median and 99th percentile of one decision, in microseconds.
fn decisions(program: &Program, input: &Input<'_>) -> (f64, f64) {
    let mut times: Vec<f64> = (0..DECISIONS / BATCH)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..BATCH {
                black_box(program.evaluate(black_box(input)));
            }
            micros(begin.elapsed()) / BATCH as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Ten lines, as people write them: who, what, from where.
const SCRIPT: &str = r#"
default allow = [false, ["user-unauthenticated"]]
allow = [true, ["engineer"]] {
    input.session.user_id != ""
    input.http.method == ["GET", "HEAD"][_]
    startswith(input.http.path, "/api/")
    not startswith(input.http.path, "/api/admin")
    net.cidr_contains("203.0.113.0/24", input.http.ip)
    user := get_databroker_record("type.googleapis.com/user.User", input.session.user_id)
    endswith(user.email, "@example.com")
}
"#;

/// Decisions of one run of the script: each is long enough for a clock to see.
const SCRIPTED: usize = 10_000;

/// Median and 99th percentile of one decision by the script, in microseconds.
fn rego(subject: &Subject) -> Result<(f64, f64)> {
    let script = Script::compile("bench", SCRIPT, &ScriptData::default())?;
    let program = Program::compile(&Policy::default())?.with_scripts(vec![script]);
    let input = Input::new(Some(subject), http(), jiff::Timestamp::constant(1_785_974_400, 0));
    anyhow::ensure!(
        program.evaluate(&input).allow.value,
        "the script lets the measured request in"
    );
    let mut times: Vec<f64> = (0..SCRIPTED)
        .map(|_| {
            let begin = Instant::now();
            black_box(program.evaluate(black_box(&input)));
            micros(begin.elapsed())
        })
        .collect();
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

/// Milliseconds.
fn compile() -> Result<f64> {
    let rules: Vec<Value> = (0..RULES)
        .map(|rule| json!({"allow": {"and": [{"groups": format!("group-{rule}")}, {"http_path": {"starts_with": "/api"}}]}}))
        .collect();
    let text = serde_json::to_string(&rules)?;
    let begin = Instant::now();
    for _ in 0..POLICIES {
        black_box(Program::compile(&Policy::parse_json(&text)?).context("the measured policy compiles")?);
    }
    Ok(micros(begin.elapsed()) / 1_000.0)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn ten_criteria() -> Value {
    json!({
        "allow": {"and": [
            {"authenticated_user": true},
            {"domain": "example.com"},
            {"email": {"ends_with": "@example.com"}},
            {"groups": "group-39"},
            {"groups/name": {"exclude": "Contractors"}},
            {"claim/department": "engineering"},
            {"http_method": {"in": ["GET", "HEAD"]}},
            {"source_ip": ["10.0.0.0/8", "203.0.113.0/24"]},
            {"authentication": {"max_age": "8h"}}
        ]},
        "deny": {"or": [{"http_path": {"starts_with": "/admin"}}]}
    })
}

/// Somebody in forty groups.
fn subject() -> Subject {
    let group = |number: usize| Group {
        id: format!("group-{number}"),
        name: format!("Group {number}"),
        ..Group::default()
    };
    Subject {
        session_id: "session".into(),
        user_id: "user".into(),
        email: "user@example.com".into(),
        claims: [("department".to_owned(), vec![json!("engineering")])].into(),
        groups: Groups {
            source: GroupSource::Directory,
            all: (0..40).map(group).collect(),
        },
        authentication: Authentication {
            at: Some(jiff::Timestamp::constant(1_785_970_800, 0)),
            ..Authentication::default()
        },
        ..Subject::default()
    }
}

fn http() -> HttpInput<'static> {
    HttpInput {
        method: "GET",
        path: "/api/items",
        raw_path: "/api/items",
        query: "",
        host: "app.example.com",
        headers: &NoHeaders,
        client_ip: Some([203, 0, 113, 7].into()),
        client_certificate: ClientCertificate::default(),
    }
}
