//! Random policies judged by the program and by a slow model written straight from the rules of the
//! language (spec policy.md 2), which must agree.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "tests: short helpers that stop at the first surprise"
)]

use std::collections::BTreeSet;

use pomerium_policy::ppl::Policy;
use pomerium_policy::{HttpInput, Input, NoHeaders, Program, Subject};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Criteria with their results for the fixed request: key, data, value, reason.
const CRITERIA: [(&str, &str, bool, &str); 6] = [
    ("accept", "true", true, "accept"),
    ("reject", "true", false, "reject"),
    ("http_method", "\"GET\"", true, "http-method-ok"),
    ("http_path", "\"/never\"", false, "http-path-unauthorized"),
    ("email", "{\"not\": \"x\"}", true, "email-ok"),
    ("domain", "\"other.example\"", false, "domain-unauthorized"),
];

type Rule = (bool, Vec<(usize, Vec<usize>)>);
type Judgement = (bool, BTreeSet<&'static str>);

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let group = (0..4_usize, prop::collection::vec(0..CRITERIA.len(), 0..4));
    prop::collection::vec((any::<bool>(), prop::collection::vec(group, 0..4)), 0..5)
}

fn operator(index: usize) -> &'static str {
    ["and", "or", "not", "nor"][index]
}

fn source(rules: &[Rule]) -> Value {
    let rule = |(deny, groups): &Rule| {
        let mut body = Map::new();
        for (op, criteria) in groups {
            let list = criteria.iter().map(|index| {
                let (key, data, ..) = CRITERIA[*index];
                json!({ key: serde_json::from_str::<Value>(data).unwrap() })
            });
            body.insert(operator(*op).into(), list.collect());
        }
        json!({ if *deny { "deny" } else { "allow" }: body })
    };
    rules.iter().map(rule).collect()
}

fn model_group(op: &str, criteria: &[usize]) -> Judgement {
    let results: Vec<(bool, &str)> = criteria
        .iter()
        .map(|index| {
            (
                CRITERIA[*index].2 != matches!(op, "not" | "nor"),
                CRITERIA[*index].3,
            )
        })
        .collect();
    let value = match op {
        "and" | "not" => results.iter().all(|(value, _)| *value),
        _ => results.iter().any(|(value, _)| *value),
    };
    (
        value,
        results
            .into_iter()
            .filter(|(one, _)| *one == value)
            .map(|(_, reason)| reason)
            .collect(),
    )
}

fn model(rules: &[Rule], deny: bool) -> Judgement {
    let mut results = Vec::new();
    for (_, groups) in rules.iter().filter(|(is_deny, _)| *is_deny == deny) {
        // Equal keys of one body: the last one counts.
        let body: std::collections::BTreeMap<_, _> = groups.iter().map(|(op, list)| (*op, list)).collect();
        results.extend(
            body.into_iter()
                .filter(|(_, list)| !list.is_empty())
                .map(|(op, list)| model_group(operator(op), list)),
        );
    }
    let value = results.iter().any(|(value, _)| *value);
    (
        value,
        results
            .into_iter()
            .filter(|(one, _)| *one == value)
            .flat_map(|(_, reasons)| reasons)
            .collect(),
    )
}

proptest! {
    #[test]
    fn the_program_agrees_with_the_model(rules in rules()) {
        let source = source(&rules);
        let policy = Policy::parse(&source).unwrap();
        let program = Program::compile(&policy).unwrap();
        let subject = Subject { session_id: "s1".into(), user_id: "u1".into(), email: "user@example.com".into(), ..Subject::default() };
        let http = HttpInput { method: "GET", path: "/", raw_path: "/", query: "", host: "h", headers: &NoHeaders, client_ip: None, client_certificate: pomerium_policy::ClientCertificate::default() };
        let input = Input::new(Some(&subject), http, jiff::Timestamp::UNIX_EPOCH);
        let evaluation = program.evaluate(&input);
        for (verdict, deny) in [(&evaluation.allow, false), (&evaluation.deny, true)] {
            let (value, reasons) = model(&rules, deny);
            prop_assert_eq!(verdict.value, value, "{}", source);
            prop_assert_eq!(verdict.reasons.names(), reasons.into_iter().collect::<Vec<_>>(), "{}", source);
        }
        let again = Policy::parse(&serde_json::to_value(&policy).unwrap()).unwrap();
        prop_assert_eq!(Program::compile(&again).unwrap().evaluate(&input), evaluation);
    }

    #[test]
    fn any_json_is_read_without_panic(text in "[\\[\\]{}a-z\":, 0-9/]{0,60}") {
        if let Ok(policy) = Policy::parse_json(&text) {
            let _ = Program::compile_all(&policy);
        }
    }
}
