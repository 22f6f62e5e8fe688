//! The project's own case file, and that the runner does not let wrong cases pass.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::decision::Outcome;

/// Answers as the decision says. Which form a login takes for which client is the business of the room
/// that writes the answer.
struct PlainEdge;

impl Edge for PlainEdge {
    fn yaml(&self, text: &str) -> Result<Value, String> {
        // Bare `yes` and `on` are strings.
        let options = serde_saphyr::options! { strict_booleans: true };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
    }

    fn decoded_path(&self, raw_path: &str) -> String {
        raw_path.to_owned()
    }

    fn reply(&self, decision: &Decision, _: &Parts) -> Reply {
        match decision.outcome {
            Outcome::Allow => Reply {
                status: 200,
                upstream: true,
                redirect: None,
            },
            Outcome::Login => Reply {
                status: 302,
                upstream: false,
                redirect: Some("login"),
            },
            Outcome::Device | Outcome::StepUp => Reply {
                status: 401,
                upstream: false,
                redirect: None,
            },
            Outcome::Denied { status, .. } => Reply {
                status,
                upstream: false,
                redirect: None,
            },
        }
    }
}

/// Cases in which the login takes another form than a redirect.
const NEGOTIATED: [&str; 8] = [
    "http/bad-session-header-401",
    "http/grpc-401",
    "http/grpc-web-401",
    "http/json-client-401",
    "http/json-preferred-by-q",
    "http/plain-text-401",
    "http/robots-txt-denied-is-200",
    "http/session-query-401",
];

#[test]
fn every_case_passes_that_this_build_has_the_parts_for() {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/cases/ppl.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let results = run(&text, &PlainEdge).unwrap();
    let mut negotiated = BTreeSet::new();
    let mut missing = BTreeSet::new();
    let mut passed = 0;
    for result in &results {
        match &result.outcome {
            CaseOutcome::Pass => passed += 1,
            CaseOutcome::NotBuilt(what) => {
                missing.insert(what.as_str());
            }
            CaseOutcome::Fail(differences) => {
                let form_only =
                    |line: &String| line.starts_with("http_status") || line.starts_with("redirect");
                assert!(
                    differences.iter().all(form_only),
                    "{}: {differences:?}",
                    result.name
                );
                negotiated.insert(result.name.as_str());
            }
        }
    }
    assert_eq!(negotiated, BTreeSet::from(NEGOTIATED));
    let expected_missing: BTreeSet<String> = pomerium_policy::NOT_BUILT
        .iter()
        .map(|name| format!("criterion {name}"))
        .collect();
    let surprises: Vec<_> = missing
        .iter()
        .filter(|what| !expected_missing.contains(**what) && **what != "MCP routes")
        .collect();
    assert!(surprises.is_empty(), "{surprises:?}");
    let not_built = results
        .iter()
        .filter(|result| matches!(result.outcome, CaseOutcome::NotBuilt(_)))
        .count();
    assert_eq!((results.len(), passed, not_built), (228, 181, 39));
}

fn outcome(case: &Value) -> CaseOutcome {
    let text = json!({"format": {}, "cases": [case]}).to_string();
    run(&text, &PlainEdge).unwrap().remove(0).outcome
}

fn fails(case: &Value, why: &str) {
    match outcome(case) {
        CaseOutcome::Fail(lines) => assert!(lines.iter().any(|line| line.contains(why)), "{lines:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_case_says_must_be_understood() {
    let open = json!({"allow": {"or": [{"accept": true}]}});
    assert_eq!(
        outcome(&json!({"name": "n", "policy": open, "expect": {"allow": true}})),
        CaseOutcome::Pass
    );
    fails(
        &json!({"name": "n", "policy": open, "expect": {"alow": true}}),
        "alow",
    );
    fails(
        &json!({"name": "n", "policy": open, "input": {"sesion": {}}, "expect": {}}),
        "sesion",
    );
    fails(
        &json!({"name": "n", "policy": open, "input": {"http": {"verb": "GET"}}, "expect": {}}),
        "verb",
    );
    fails(
        &json!({"name": "n", "policy": open, "input": {"session": {"claim": {}}}, "expect": {}}),
        "claim",
    );
    fails(
        &json!({"name": "n", "policy": open, "route": {"allowed_user": []}, "expect": {}}),
        "allowed_user",
    );
    fails(
        &json!({"name": "n", "policy": open, "policy_yaml": "{}", "expect": {}}),
        "both",
    );
    fails(&json!({"name": "n", "policies": open, "expect": {}}), "policies");
    fails(&json!({"name": "n", "policy": open}), "expect");
}

#[test]
fn differences_are_told() {
    let open = json!({"allow": {"or": [{"accept": true}]}});
    fails(
        &json!({"name": "n", "policy": open, "expect": {"deny": true}}),
        "deny: expected true, found false",
    );
    fails(
        &json!({"name": "n", "policy": open, "expect": {"reasons": []}}),
        r#"found ["accept"]"#,
    );
    fails(
        &json!({"name": "n", "policy": open, "expect": {"error": "parse"}}),
        "the policy was accepted",
    );
    fails(
        &json!({"name": "n", "policy": {"allow": 1}, "expect": {"error": "generate"}}),
        "refused with",
    );
    fails(
        &json!({"name": "n", "policy": {"allow": {"or": [{"nope": 1}]}}, "expect": {"error": "parse"}}),
        "nope",
    );
    fails(
        &json!({"name": "n", "policy": {"allow": 1}, "expect": {"allow": false}}),
        "refused with",
    );
    let login = json!({"allow": {"or": [{"authenticated_user": true}]}});
    fails(
        &json!({"name": "n", "policy": login, "expect": {"http_status": 302}}),
        "redirect: expected null",
    );
}

#[test]
fn a_missing_part_is_no_pass() {
    let groups = json!({"allow": {"or": [{"groups": "g1"}]}});
    let expected = CaseOutcome::NotBuilt("criterion groups".into());
    assert_eq!(
        outcome(&json!({"name": "n", "policy": groups, "expect": {"error": "generate"}})),
        expected
    );
    let mcp = json!({"allow": {"or": [{"accept": true}]}});
    let mcp = json!({"name": "n", "policy": mcp, "input": {"mcp": {}}, "expect": {"allow": true}});
    assert_eq!(outcome(&mcp), CaseOutcome::NotBuilt("MCP routes".into()));
}
