//! What holds for random policies over every criterion, and what no input can break.

#![allow(
    clippy::unwrap_used,
    reason = "tests: short helpers that stop at the first surprise"
)]

mod support;

use std::collections::BTreeSet;

use pomerium_policy::explain::{ActionTree, GroupTree};
use pomerium_policy::ppl::{Operator, Policy};
use pomerium_policy::{CRITERIA as NAMES, Program, Verdict};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use support::{CRITERIA, Facts};

#[test]
fn every_criterion_is_among_the_samples() {
    let names: BTreeSet<String> = CRITERIA
        .iter()
        .flat_map(|criterion| {
            criterion()
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        })
        .map(|key| key.split('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, NAMES.into_iter().map(str::to_owned).collect());
}

/// The result of a group, from nothing but what its criteria say about themselves.
fn of_criteria(group: &GroupTree) -> (bool, BTreeSet<&'static str>) {
    let inverted = matches!(group.operator, Operator::Not | Operator::Nor);
    let results: Vec<(bool, &str)> = group
        .criteria
        .iter()
        .map(|criterion| (criterion.holds != inverted, criterion.reason.as_str()))
        .collect();
    let value = match group.operator {
        Operator::And | Operator::Not => results.iter().all(|(value, _)| *value),
        Operator::Or | Operator::Nor => results.iter().any(|(value, _)| *value),
    };
    let kept = results.into_iter().filter(|(one, _)| *one == value);
    (value, kept.map(|(_, reason)| reason).collect())
}

fn agrees(tree: &ActionTree, verdict: &Verdict) -> Result<(), TestCaseError> {
    let mut groups = Vec::new();
    for group in &tree.groups {
        let (value, reasons) = of_criteria(group);
        prop_assert_eq!(group.value, value);
        groups.push((value, reasons));
    }
    let value = groups.iter().any(|(value, _)| *value);
    let reasons: BTreeSet<&str> = groups
        .into_iter()
        .filter(|(one, _)| *one == value)
        .flat_map(|(_, reasons)| reasons)
        .collect();
    prop_assert_eq!((tree.value, verdict.value), (value, value));
    prop_assert_eq!(verdict.names(), reasons.into_iter().collect::<Vec<_>>());
    Ok(())
}

fn policies() -> impl Strategy<Value = Value> {
    let criteria = prop::collection::vec(0..CRITERIA.len(), 1..5);
    let group = (0..4_usize, criteria);
    let rule = (any::<bool>(), prop::collection::vec(group, 0..4));
    prop::collection::vec(rule, 0..4).prop_map(|rules| {
        let rule = |(deny, groups): (bool, Vec<(usize, Vec<usize>)>)| {
            let body: Map<String, Value> = groups
                .into_iter()
                .map(|(operator, criteria)| {
                    let list = criteria.into_iter().map(|index| CRITERIA[index]()).collect();
                    (["and", "or", "not", "nor"][operator].to_owned(), list)
                })
                .collect();
            json!({ if deny { "deny" } else { "allow" }: body })
        };
        rules.into_iter().map(rule).collect()
    })
}

proptest! {
    #[test]
    fn an_explanation_tells_what_was_decided(policy in policies(), anonymous: bool) {
        let program = Program::compile(&Policy::parse(&policy).unwrap()).unwrap();
        let mut facts = Facts::rich();
        if anonymous {
            facts.subject = None;
        }
        let input = facts.input();
        let (evaluation, tree) = (program.evaluate(&input), program.explain(&input));
        agrees(&tree.allow, &evaluation.allow)?;
        agrees(&tree.deny, &evaluation.deny)?;
        prop_assert!(!program.device_type(&input).is_empty());
    }

    /// Data of every type under every name: an error or a program, never a panic.
    #[test]
    fn no_data_breaks_a_criterion(name in 0..NAMES.len(), data in any_json(), path in "[a-z/.]{0,6}") {
        let key = if path.is_empty() { NAMES[name].to_owned() } else { format!("{}/{path}", NAMES[name]) };
        let policy = Policy::parse(&json!({"allow": {"or": [{key: data}]}})).unwrap();
        if let Ok(program) = Program::compile(&policy) {
            let facts = Facts::rich();
            program.explain(&facts.input());
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:,./@\" -]{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "(is|not|in|has|type|field|by|after|before|timezone|exists|<|>=|approved|max_age|acr|fingerprint)",
        "[a-z]{0,4}",
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn large_policies_are_read_and_judged() {
    let many: Vec<String> = (0..50_000)
        .map(|number| format!("user{number}@example.com"))
        .collect();
    let policy = json!({"allow": {"or": [{"email": {"in": many}}, {"email": "x".repeat(1 << 20)}]}});
    let program = Program::compile(&Policy::parse(&policy).unwrap()).unwrap();
    let mut facts = Facts::rich();
    facts.subject.as_mut().unwrap().email = "user49999@example.com".into();
    assert!(program.evaluate(&facts.input()).allow.value);
    let groups: Vec<Value> = (0..20_000)
        .map(|number| json!({"groups": format!("g-{number}")}))
        .collect();
    let program = Program::compile(&Policy::parse(&json!({"allow": {"or": groups}})).unwrap()).unwrap();
    assert!(!program.evaluate(&facts.input()).allow.value);
}

#[test]
fn deep_text_is_an_error_and_no_overflow() {
    for (open, close) in [("[", "]"), ("{\"allow\":", "}")] {
        let text = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
        assert!(Policy::parse_json(&text).is_err());
    }
}
