//! `sub_policies` of a route: their rules count with the others, and mistakes in them are told at their place.

use pomerium_policy::{ClientCertificate, HttpInput, Input, NoHeaders, Subject};

use super::*;

fn closed(lines: &str) -> String {
    routed(lines).replace(
        "allow_public_unauthenticated_access: true\n",
        "show_error_details: true\n",
    )
}

const THREE: &str = "\
sub_policies:
- id: staff
  name: Staff
  allowed_domains: [example.com]
  allowed_users: [u7]
  allowed_idp_claims: {role: [admin]}
  explanation: Staff only
- id: night
  source_ppl: |
    deny:
      or:
      - http_path: {starts_with: /night}
  remediation: Come back by day
- name: Script
  rego: [\"allow { input.session.user_id == \\\"u8\\\" }\"]
  source_ppl: \"not read: [\"";

/// Whether somebody may open a path: `allow` and `deny` of the route.
fn judged(found: &Found, user: &str, email: &str, path: &str) -> (bool, bool) {
    let subject = Subject {
        session_id: "s1".into(),
        user_id: user.into(),
        email: email.into(),
        ..Subject::default()
    };
    let http = HttpInput {
        method: "GET",
        path,
        raw_path: path,
        query: "",
        host: "app.example.com",
        headers: &NoHeaders,
        client_ip: None,
        client_certificate: ClientCertificate::default(),
    };
    let input = Input::new(Some(&subject), http, jiff::Timestamp::UNIX_EPOCH);
    let evaluation = found.route().policy.evaluate(&input);
    (evaluation.allow.value, evaluation.deny.value)
}

#[test]
fn the_rules_of_all_count() {
    let found = load(&closed(THREE));
    assert!(found.errors.is_empty(), "{:?}", found.errors);
    for (user, email, path, expected) in [
        ("u1", "a@example.com", "/", (true, false)),
        ("u7", "", "/", (true, false)),
        ("u8", "", "/", (true, false)),
        ("u9", "a@elsewhere.example", "/", (false, false)),
        ("u1", "a@example.com", "/night/x", (true, true)),
    ] {
        assert_eq!(judged(&found, user, email, path), expected, "{user} {path}");
    }
    let told = found.route().told_policies.as_deref().unwrap_or_default();
    let ids: Vec<&str> = told.iter().map(|part| part.id.as_str()).collect();
    assert_eq!(ids, ["staff", "night", ""]);
    assert_eq!(told[0].explanation, "Staff only");
    assert_eq!(told[1].remediation, "Come back by day");
}

#[test]
fn routes_that_tell_nobody_keep_nothing_to_tell() {
    let found = load(&closed(THREE).replace("show_error_details: true\n", "allow_websockets: false\n"));
    assert!(found.route().told_policies.is_none());
    assert_eq!(judged(&found, "u8", "", "/"), (true, false));
}

#[test]
fn mistakes_are_told_at_their_place() {
    for (policies, key, said) in [
        (
            "- source_ppl: \"allow: [\"",
            "routes[0].sub_policies[0].source_ppl",
            "policy text",
        ),
        (
            "- source_ppl: \"allow: {or: [nonsense: 1]}\"",
            "routes[0].sub_policies[0].source_ppl",
            "unknown criterion `nonsense`",
        ),
        (
            "- id: a\n- name: X\n  rego: [\"allow { startwith(1, 2) }\"]",
            "routes[0].sub_policies[1].rego[0]",
            "policy X: line 1, column 9 of the script: there is no function `startwith`",
        ),
    ] {
        let found = load(&closed(&format!("sub_policies:\n{policies}")));
        let told = |problem: &Diagnostic| problem.key.starts_with(key) && problem.to_string().contains(said);
        let all = found.errors.iter().chain(&found.warnings);
        assert!(
            all.clone().any(told),
            "{policies}: {:#?}",
            all.collect::<Vec<_>>()
        );
    }
    let long = format!("sub_policies:\n- explanation: \"{}\"", "x".repeat(20_000));
    assert!(load(&closed(&long)).problem().contains("the limit is 16384"));
}
