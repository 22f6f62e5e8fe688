//! Evaluation seen from outside: combinators, criteria, the traps of the language.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "tests: short helpers that stop at the first surprise"
)]

use std::borrow::Cow;
use std::collections::HashMap;

use pomerium_policy::ppl::Policy;
use pomerium_policy::{
    Evaluation, HeaderLookup, HttpInput, Input, NoHeaders, Program, RouteRules, Subject, merge,
};
use serde_json::{Value, json};

struct Preflight;

impl HeaderLookup for Preflight {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "origin" => Some("https://app.example.com".into()),
            "access-control-request-method" => Some("POST".into()),
            _ => None,
        }
    }

    fn each(&self, show: &mut dyn FnMut(&str, &str)) {
        show("access-control-request-method", "POST");
        show("origin", "https://app.example.com");
    }
}

fn http<'a>() -> HttpInput<'a> {
    HttpInput {
        method: "GET",
        path: "/a b",
        raw_path: "/a%20b",
        query: "",
        host: "app.example.com",
        headers: &NoHeaders,
        client_ip: "203.0.113.7".parse().ok(),
        client_certificate: pomerium_policy::ClientCertificate::default(),
    }
}

fn subject() -> Subject {
    Subject {
        session_id: "s1".into(),
        user_id: "u1".into(),
        email: "user@example.com".into(),
        claims: HashMap::from([
            ("groups".into(), vec![json!("dev"), json!("admin")]),
            ("level".into(), vec![json!(3.0)]),
        ]),
        ..Subject::default()
    }
}

fn program(policy: Value) -> Program {
    Program::compile(&Policy::parse(&policy).unwrap()).unwrap()
}

fn run(policy: Value, subject: Option<&Subject>, http: HttpInput<'_>) -> Evaluation {
    let program = program(policy);
    let input = Input::new(subject, http, jiff::Timestamp::UNIX_EPOCH);
    let evaluation = program.evaluate(&input);
    let tree = program.explain(&input);
    assert_eq!(
        (tree.allow.value, tree.allow.reasons),
        (evaluation.allow.value, evaluation.allow.reasons)
    );
    assert_eq!(
        (tree.deny.value, tree.deny.reasons),
        (evaluation.deny.value, evaluation.deny.reasons)
    );
    evaluation
}

fn allow(group: Value) -> (bool, Vec<&'static str>) {
    let verdict = run(json!({ "allow": group }), Some(&subject()), http()).allow;
    (verdict.value, verdict.reasons.names())
}

fn holds(name: &str, data: Value) -> bool {
    allow(json!({"or": [{ name: data }]})).0
}

#[test]
fn combinators_keep_the_reasons_that_decided() {
    let (t, f) = (json!({"http_method": "GET"}), json!({"http_path": "/never"}));
    assert_eq!(
        allow(json!({"and": [t, f]})),
        (false, vec!["http-path-unauthorized"])
    );
    assert_eq!(allow(json!({"or": [t, f]})), (true, vec!["http-method-ok"]));
    assert_eq!(allow(json!({"not": [t, f]})), (false, vec!["http-method-ok"]));
    assert_eq!(
        allow(json!({"nor": [t, f]})),
        (true, vec!["http-path-unauthorized"])
    );
    assert_eq!(allow(json!({"not": [f]})), (true, vec!["http-path-unauthorized"]));
    assert_eq!(allow(json!({"nor": [t]})), (false, vec!["http-method-ok"]));
    assert_eq!(
        allow(json!({"and": [f], "or": [t]})),
        (true, vec!["http-method-ok"])
    );
}

#[test]
fn groups_without_criteria_are_not_there() {
    for body in [json!({}), json!({"and": []}), json!({"not": [], "nor": []})] {
        assert_eq!(allow(body), (false, vec![]));
    }
    let mut policy = Policy::parse(&json!({"allow": {"and": [{"accept": true}]}})).unwrap();
    policy.rules[0].groups[0].criteria.clear();
    let program = Program::compile(&policy).unwrap();
    let input = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    assert!(!program.evaluate(&input).allow.value);
}

#[test]
fn criteria_about_identity_never_hold_without_a_session() {
    for criterion in [
        json!({"authenticated_user": true}),
        json!({"user": {"not": "x"}}),
        json!({"user": {}}),
        json!({"email": {"not": "x"}}),
        json!({"email": {"not_in": []}}),
        json!({"email": {"contains": ""}}),
        json!({"email": ""}),
        json!({"email": {}}),
        json!({"domain": {"not": "x"}}),
        json!({"claim/x": {"exclude": "y"}}),
        json!({"claim/x": {}}),
    ] {
        let verdict = run(json!({"allow": {"or": [criterion]}}), None, http()).allow;
        assert_eq!(
            (verdict.value, verdict.reasons.names()),
            (false, vec!["user-unauthenticated"]),
            "{criterion}"
        );
    }
}

#[test]
fn an_undefined_left_side_fails_every_operator() {
    let nobody = Subject {
        session_id: "s1".into(),
        ..Subject::default()
    };
    for criterion in [
        json!({"user": {"not": "x"}}),
        json!({"user": {}}),
        json!({"domain": {"not_in": ["x"]}}),
        json!({"domain": {}}),
    ] {
        assert!(
            !run(json!({"allow": {"or": [criterion]}}), Some(&nobody), http())
                .allow
                .value,
            "{criterion}"
        );
    }
    // An empty e-mail and an absent claim are defined.
    for criterion in [
        json!({"email": {"not": "x"}}),
        json!({"claim/x": {"exclude": "y"}}),
    ] {
        assert!(
            run(json!({"allow": {"or": [criterion]}}), Some(&nobody), http())
                .allow
                .value,
            "{criterion}"
        );
    }
}

#[test]
fn an_address_with_two_ats_is_in_no_domain() {
    let odd = Subject {
        email: "user@example.com@evil.example".into(),
        ..subject()
    };
    for domain in ["example.com", "evil.example", "example.com@evil.example"] {
        let policy = json!({"allow": {"or": [{ "domain": domain }]}});
        assert!(!run(policy, Some(&odd), http()).allow.value, "{domain}");
    }
}

#[test]
fn matchers_compare_typed_and_case_sensitive() {
    assert!(holds(
        "email",
        json!({"starts_with": "user@", "ends_with": ".com"})
    ));
    assert!(!holds(
        "email",
        json!({"starts_with": "user@", "ends_with": ".org"})
    ));
    assert!(!holds("email", json!("User@example.com")));
    assert!(!holds("email", json!({"is": 5})));
    assert!(holds("email", json!({"not": 5})));
    assert!(holds("email", json!({"in": [5, "user@example.com"]})));
    assert!(!holds("email", json!({"in": []})));
    assert!(holds("email", json!({"not_in": []})));
    assert!(holds("claim/groups", json!("admin")));
    assert!(!holds("claim/groups", json!(["dev", "admin"])));
    assert!(!holds("claim/groups", json!({"is": "dev"})));
    assert!(holds("claim/level", json!(3)));
    assert!(!holds("claim/level", json!("3")));
    assert!(!holds("claim/groups", json!({"has": "dev", "exclude": "admin"})));
    assert!(holds("http_path", json!("/a b")));
    assert!(!holds("http_method", json!("get")));
    assert!(holds("source_ip", json!(["192.0.2.0/24", "203.0.113.0/24"])));
    assert!(!holds("source_ip", json!([])));
}

#[test]
fn an_unknown_client_address_is_in_no_network() {
    let unknown = HttpInput {
        client_ip: None,
        client_certificate: pomerium_policy::ClientCertificate::default(),
        ..http()
    };
    assert!(
        !run(
            json!({"allow": {"or": [{"source_ip": "0.0.0.0/0"}]}}),
            None,
            unknown
        )
        .allow
        .value
    );
}

#[test]
fn a_preflight_needs_method_and_both_headers() {
    let policy = json!({"allow": {"or": [{"cors_preflight": true}]}});
    let preflight = HttpInput {
        method: "OPTIONS",
        headers: &Preflight,
        ..http()
    };
    assert!(run(policy.clone(), None, preflight).allow.value);
    assert!(
        !run(
            policy.clone(),
            None,
            HttpInput {
                method: "GET",
                ..preflight
            }
        )
        .allow
        .value
    );
    assert!(
        !run(
            policy,
            None,
            HttpInput {
                headers: &NoHeaders,
                ..preflight
            }
        )
        .allow
        .value
    );
}

#[test]
fn what_cannot_be_judged_denies_everybody() {
    let program = Program::deny_all();
    let somebody = subject();
    let input = Input::new(Some(&somebody), http(), jiff::Timestamp::UNIX_EPOCH);
    let evaluation = program.evaluate(&input);
    assert!(!evaluation.allow.value && evaluation.deny.value);
    assert_eq!(evaluation.deny.reasons.names(), ["reject"]);
    assert_eq!(program.denial(&input).rule, "every request is denied");
}

#[test]
fn a_denial_names_the_rule_and_the_criteria() {
    let rules = RouteRules {
        allowed_users: vec!["u2".into()],
        ..RouteRules::default()
    };
    let policy = Policy::parse(&json!([
        {"allow": {"and": [{"domain": "example.com"}, {"claim/groups": "ops"}]}},
        {"deny": {"not": [{"http_method": "POST"}]}}
    ]))
    .unwrap();
    let program = Program::compile(&merge(&rules, Some(&policy))).unwrap();
    let subject = subject();
    let input = Input::new(Some(&subject), http(), jiff::Timestamp::UNIX_EPOCH);
    let denial = program.denial(&input);
    assert_eq!(denial.rule, "policy[1].deny.not");
    assert_eq!(denial.criteria, ["policy[1].deny.not[0] http_method"]);

    let posted = Input {
        http: HttpInput {
            method: "POST",
            ..http()
        },
        ..input
    };
    let denial = program.denial(&posted);
    assert_eq!(denial.rule, "route settings, policy[0].allow.and");
    assert_eq!(
        denial.criteria,
        [
            "allowed_users[0] user",
            "allowed_users[0] email",
            "policy[0].allow.and[1] claim/groups"
        ]
    );
    let nothing = Program::compile(&Policy::default()).unwrap();
    assert_eq!(nothing.denial(&input).rule, "no allow rule");
}

#[test]
fn an_explanation_tells_what_each_criterion_saw() {
    let program =
        program(json!({"allow": {"and": [{"claim/groups": "ops"}, {"domain": {"is": "example.com"}}]}}));
    let subject = subject();
    let input = Input::new(Some(&subject), http(), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(
        serde_json::to_value(program.explain(&input)).unwrap(),
        json!({
            "allow": {"value": false, "reasons": ["claim-unauthorized"], "groups": [{
                "place": "policy.allow.and", "operator": "and", "meaning": "all of these hold",
                "value": false, "reasons": ["claim-unauthorized"],
                "criteria": [
                    {"place": "policy.allow.and[0]", "criterion": "claim/groups", "wants": "ops",
                     "found": ["dev", "admin"], "holds": false, "reason": "claim-unauthorized"},
                    {"place": "policy.allow.and[1]", "criterion": "domain", "wants": {"is": "example.com"},
                     "found": "example.com", "holds": true, "reason": "domain-ok"}
                ]
            }]},
            "deny": {"value": false, "reasons": [], "groups": []}
        })
    );
}

#[test]
fn only_a_policy_that_asks_who_needs_people_to_sign_in() {
    let needs = |policy: Value| program(policy).needs_identity();
    assert!(!needs(json!({"allow": {"and": [
        {"accept": true}, {"source_ip": "10.0.0.0/8"}, {"http_method": {"is": "GET"}},
        {"http_path": {"starts_with": "/a"}}, {"cors_preflight": true}, {"reject": true}
    ]}})));
    for who in [
        json!({"authenticated_user": true}),
        json!({"user": {"is": "u1"}}),
        json!({"email": {"is": "user@example.com"}}),
        json!({"domain": {"is": "example.com"}}),
        json!({"claim/groups": "dev"}),
    ] {
        assert!(
            needs(json!({"allow": {"or": [{"source_ip": "10.0.0.0/8"}, who.clone()]}})),
            "{who}"
        );
        assert!(needs(
            json!([{"allow": {"or": [{"accept": true}]}}, {"deny": {"or": [who]}}])
        ));
    }
}

#[test]
fn a_policy_without_any_rule_is_told_from_one_that_denies() {
    assert!(
        Program::compile(&merge(&RouteRules::default(), None))
            .unwrap()
            .is_empty()
    );
    assert!(!program(json!({"deny": {"or": [{"reject": true}]}})).is_empty());
    assert!(!Program::deny_all().is_empty());
}
