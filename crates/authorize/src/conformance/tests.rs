//! The project's own case file, and that the runner does not let wrong cases pass.

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

    fn reply(&self, decision: &Decision, _: &Parts, _: bool) -> Reply {
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

/// Which status and which redirect a client gets is for the room that writes the answer; the rest is decided here.
#[test]
fn every_case_is_judged_as_expected() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/cases");
    for (file, least) in [("ppl.json", 228), ("ppl-more.json", 240)] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let results = run(&text, &PlainEdge).unwrap();
        assert!(results.len() >= least, "{file}: {} cases", results.len());
        for result in results {
            let CaseOutcome::Fail(differences) = result.outcome else {
                continue;
            };
            let form = |line: &String| {
                ["http_status", "redirect"]
                    .iter()
                    .any(|form| line.starts_with(form))
            };
            assert!(differences.iter().all(form), "{}: {differences:?}", result.name);
        }
    }
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
