//! Random policies, printed as Rego: both languages have to give the same answers with the same reasons.

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::input::{Device, Group as KnownGroup, McpInput, SshInput};

/// Criteria in pairs of key and data; what they are compared with comes from [`Facts`].
const CRITERIA: &[(&str, &str)] = &[
    ("accept", "true"),
    ("reject", "true"),
    ("authenticated_user", "true"),
    ("user", r#""u1""#),
    ("user", r#"{"not_in": ["u1", 5], "starts_with": "u"}"#),
    ("user", r#"{"not": "u2"}"#),
    ("email", r#""user@example.com""#),
    ("email", r#"{"not": "user@example.com"}"#),
    ("email", r#"{"ends_with": "example.com", "contains": "@"}"#),
    ("email", "{}"),
    ("email", r#"{"in": ["user@example.com", null]}"#),
    ("domain", r#""example.com""#),
    ("domain", r#"{"not": "example.com"}"#),
    ("domain", "{}"),
    ("claim/role", r#""admin""#),
    ("claim/role", r#"{"exclude": "admin"}"#),
    ("claim/role", r#"{"is": "admin"}"#),
    ("claim/level", "3"),
    ("claim/level", r#"{"has": 3.0, "exclude": "3"}"#),
    ("claim/a.b", r#"{"has": {"x": [1, null]}}"#),
    ("claim", "{}"),
    ("http_method", r#"{"in": ["GET", "HEAD"]}"#),
    ("http_method", r#"{"not_in": ["GET"]}"#),
    ("http_path", r#"{"starts_with": "/a"}"#),
    ("http_path", r#""/a \"q\" \\ ü\n""#),
    ("source_ip", r#"["10.0.0.0/8", "2001:db8::/32"]"#),
    ("source_ip", r#""203.0.113.7""#),
    ("source_ip", "[]"),
    ("source_ip", r#""::ffff:10.1.0.0/112""#),
    ("cors_preflight", "true"),
    ("invalid_client_certificate", "true"),
    ("groups", r#""g1""#),
    ("groups", r#"{"exclude": "g1"}"#),
    ("groups/name", r#""Operators""#),
    ("device", "{}"),
    ("device", r#"{"approved": true}"#),
    ("device", r#"{"approved": false, "type": "enclave_only"}"#),
    ("device", r#"{"is": "d1", "type": "any"}"#),
    ("mcp_tool", r#"{"in": ["search", ""]}"#),
    ("ssh_username", r#""user""#),
    ("ssh_username_matches_email", "true"),
    ("ssh_username_matches_claim", r#""role""#),
];

type Group = (usize, Vec<usize>);

/// Groups of criteria for both actions.
fn policies() -> impl Strategy<Value = Vec<(bool, Group)>> {
    let group = (0..4_usize, prop::collection::vec(0..CRITERIA.len(), 1..4));
    prop::collection::vec((any::<bool>(), group), 0..4)
}

fn source(rules: &[(bool, Group)]) -> Json {
    let rule = |(deny, (operator, criteria)): &(bool, Group)| {
        let list: Vec<Json> = criteria
            .iter()
            .map(|index| {
                let (key, data) = CRITERIA[*index];
                json!({ key: serde_json::from_str::<Json>(data).unwrap() })
            })
            .collect();
        let operator = ["and", "or", "not", "nor"][*operator];
        json!({ if *deny { "deny" } else { "allow" }: { operator: list } })
    };
    rules.iter().map(rule).collect()
}

/// What a request is like.
#[derive(Debug, Clone)]
struct Facts {
    person: Option<Subject>,
    method: &'static str,
    path: &'static str,
    address: Option<IpAddr>,
    preflight: bool,
    certificate: ClientCertificate<'static>,
    ssh: Option<&'static str>,
    tool: Option<Option<&'static str>>,
}

fn people() -> impl Strategy<Value = Option<Subject>> {
    let email = prop::sample::select(vec![
        "",
        "user@example.com",
        "user@other.example",
        "a@b@example.com",
        "nobody",
    ]);
    let role = prop::sample::select(vec![
        json!([]),
        json!(["admin"]),
        json!(["user", "admin"]),
        json!(["user"]),
    ]);
    let level = prop::sample::select(vec![json!([3]), json!(["3"]), json!([3.5]), json!([])]);
    let device = prop::sample::select(vec![
        (None, None),
        (Some("d1"), None),
        (Some("d1"), Some("")),
        (Some("d2"), Some("admin")),
    ]);
    let more = (
        prop::sample::select(vec!["", "u1", "u2"]),
        0..4_u8,
        prop::sample::select(vec!["any", "enclave_only"]),
    );
    let person = (email, role, level, device, more);
    prop::option::weighted(
        0.8,
        person.prop_map(
            |(email, role, level, (credential, approved), (user, groups, kind))| {
                let values = |value: &Json| value.as_array().cloned().unwrap_or_default();
                let mut claims: crate::Claims = [
                    ("role".to_owned(), values(&role)),
                    ("level".to_owned(), values(&level)),
                ]
                .into();
                claims.insert("a.b".into(), vec![json!({"x": [1, null]})]);
                let group = |id: &str, name: &str| KnownGroup {
                    id: id.into(),
                    name: name.into(),
                    email: String::new(),
                };
                let (source, all) = match groups {
                    0 => (GroupSource::Unknown, vec![]),
                    1 => (GroupSource::Directory, vec![]),
                    2 => (
                        GroupSource::Directory,
                        vec![group("g2", "Staff"), group("g1", "Operators")],
                    ),
                    _ => {
                        claims.insert("groups".into(), vec![json!("g1")]);
                        (GroupSource::Claim, vec![group("g1", "")])
                    }
                };
                let device = credential.map(|id| Device {
                    type_id: kind.into(),
                    credential_id: Some(id.into()),
                    approved_by: approved.map(Into::into),
                });
                let source = if user.is_empty() && source == GroupSource::Directory {
                    GroupSource::Unknown
                } else {
                    source
                };
                let all = if source == GroupSource::Unknown {
                    vec![]
                } else {
                    all
                };
                Subject {
                    session_id: "s1".into(),
                    user_id: user.into(),
                    email: if user.is_empty() {
                        String::new()
                    } else {
                        email.into()
                    },
                    claims,
                    groups: Groups { source, all },
                    devices: device.into_iter().collect(),
                    ..Subject::default()
                }
            },
        ),
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let address = prop::sample::select(vec![
        "",
        "10.1.2.3",
        "::ffff:10.1.0.9",
        "203.0.113.7",
        "2001:db8::5",
    ]);
    let path = prop::sample::select(vec!["/", "/a/b", "/a \"q\" \\ ü\n", ""]);
    let trust = prop::sample::select(vec![
        crate::CertificateTrust::NoAuthority,
        crate::CertificateTrust::Rejected,
        crate::CertificateTrust::Verified,
    ]);
    let request = (
        prop::sample::select(vec!["GET", "POST", "OPTIONS"]),
        path,
        address,
        any::<bool>(),
    );
    let other = (
        trust,
        any::<bool>(),
        prop::option::of(prop::sample::select(vec!["user", "admin", ""])),
        prop::option::of(prop::option::of(prop::sample::select(vec!["search", "other"]))),
    );
    (people(), request, other).prop_map(
        |(person, (method, path, address, preflight), (trust, presented, ssh, tool))| Facts {
            person,
            method,
            path,
            address: address.parse().ok(),
            preflight,
            certificate: ClientCertificate {
                presented,
                leaf: None,
                trust,
            },
            ssh,
            tool,
        },
    )
}

struct Preflight;

impl HeaderLookup for Preflight {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        ["origin", "access-control-request-method"]
            .contains(&name)
            .then_some(Cow::Borrowed("x"))
    }

    fn each(&self, show: &mut dyn FnMut(&str, &str)) {
        show("origin", "x");
        show("access-control-request-method", "x");
    }
}

fn compare(policy: &Policy, script: &Script, facts: &Facts) {
    let http = HttpInput {
        method: facts.method,
        path: facts.path,
        headers: if facts.preflight { &Preflight } else { &NoHeaders },
        client_ip: facts.address,
        client_certificate: facts.certificate,
        ..http()
    };
    let input = Input {
        ssh: facts.ssh.map(|username| SshInput {
            username,
            public_key: &[],
        }),
        mcp: facts.tool.map(|tool| McpInput {
            method: if tool.is_some() {
                "tools/call"
            } else {
                "tools/list"
            },
            tool,
        }),
        ..Input::new(facts.person.as_ref(), http, jiff::Timestamp::UNIX_EPOCH)
    };
    let rules = Program::compile(policy).unwrap().evaluate(&input);
    let outcome = script.run(&input).unwrap();
    for (rules, script) in [(&rules.allow, &outcome.allow), (&rules.deny, &outcome.deny)] {
        assert_eq!(
            (rules.value, rules.names()),
            (script.value, script.names()),
            "{facts:?}\n{}",
            print(policy).unwrap()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_printed_policy_judges_the_same(rules in policies(), requests in prop::collection::vec(facts(), 12)) {
        let policy = Policy::parse(&source(&rules)).unwrap();
        let text = print(&policy).unwrap();
        let script = script(&text);
        for facts in &requests {
            compare(&policy, &script, facts);
        }
    }
}

#[test]
fn what_scripts_do_not_see_is_not_printed() {
    let policy =
        Policy::parse(&json!({"allow": {"or": [{"client_certificate": {"fingerprint": "x"}}]}})).unwrap();
    let error = print(&policy).unwrap_err();
    assert_eq!(
        (error.place.as_str(), error.criterion.as_str()),
        ("policy.allow.or[0]", "client_certificate")
    );
}

#[test]
fn no_rules_let_nobody_in() {
    let script = script(&print(&Policy::default()).unwrap());
    let input = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(script.run(&input).unwrap(), Outcome::default());
}
