//! Records: what is in them, what never is, and that they can be judged again.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use pomerium_api::pb::session::{IdToken, OAuthToken, Session};
use pomerium_api::synced::{Confirmed, Parts, ServiceAccountEntry, SessionEntry, UserEntry};
use pomerium_policy::ppl::Policy;
use pomerium_policy::{
    CertificateFacts, CertificateTrust, ClientCertificate, HttpInput, Input, Program, RecordLookup, Subject,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::read::{self, Line, Lines};
use super::replay::{Replayed, judge};
use super::{Gap, Mark, stamped};
use crate::decision::check;
use crate::decision_log::{AuthorizeRecord, RouteFacts};
use crate::headers::Headers;
use crate::principal::Principal;
use crate::session::Records;

struct NoRecords;

impl Records for NoRecords {
    fn session(&self, _: &str) -> Option<Arc<SessionEntry>> {
        None
    }
    fn user(&self, _: &str) -> Option<Arc<UserEntry>> {
        None
    }
    fn service_account(&self, _: &str) -> Option<Arc<ServiceAccountEntry>> {
        None
    }
}

/// Outside data: one list of networks.
struct Outside;

impl RecordLookup for Outside {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        (kind == "example.com/staff" && id == "u1").then(|| Arc::new(json!({"id": "u1", "site": "north"})))
    }
    fn has_networks(&self, kind: &str) -> bool {
        kind == "example.com/country"
    }
    fn by_address(&self, kind: &str, _: std::net::IpAddr) -> Option<Arc<Value>> {
        (kind == "example.com/country").then(|| Arc::new(json!({"country": "NO"})))
    }
    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(Outside)
    }
}

/// A request to judge.
#[derive(Debug, Clone)]
struct Request {
    subject: Option<Subject>,
    method: String,
    path: String,
    ip: Option<std::net::IpAddr>,
    origin: Option<String>,
    trust: CertificateTrust,
    now: jiff::Timestamp,
}

fn plain() -> Request {
    Request {
        subject: None,
        method: "GET".into(),
        path: "/a".into(),
        ip: "203.0.113.7".parse().ok(),
        origin: None,
        trust: CertificateTrust::NoAuthority,
        now: "2026-03-01T12:00:00.123456789Z".parse().unwrap(),
    }
}

fn program(policy: &Value) -> Program {
    Program::compile(&Policy::parse(policy).unwrap()).unwrap()
}

/// The line of a decision by `program`.
fn logged(program: &Program, request: &Request, principal: Option<&Principal>, inputs: bool) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    headers.insert("cookie", HeaderValue::from_static("_pomerium=COOKIE-SECRET"));
    headers.insert("authorization", HeaderValue::from_static("Bearer HEADER-SECRET"));
    headers.insert("access-control-request-method", HeaderValue::from_static("PUT"));
    if let Some(origin) = &request.origin {
        headers.insert("origin", HeaderValue::from_bytes(origin.as_bytes()).unwrap());
    }
    let leaf = CertificateFacts {
        fingerprint: "ab".repeat(32),
        ..CertificateFacts::default()
    };
    let http = HttpInput {
        method: &request.method,
        path: &request.path,
        raw_path: &request.path,
        query: "pomerium_session=QUERY-SECRET",
        host: "app.example.com",
        headers: &Headers(&headers),
        client_ip: request.ip,
        client_certificate: ClientCertificate {
            presented: request.trust != CertificateTrust::NoAuthority,
            leaf: (request.trust != CertificateTrust::NoAuthority).then_some(&leaf),
            trust: request.trust,
        },
    };
    let mut input = Input::new(request.subject.as_ref(), http, request.now);
    input.records = &Outside;
    let decision = check(program, &input);
    let record = AuthorizeRecord {
        now: request.now,
        request_id: "q1",
        input: &input,
        headers: &headers,
        principal,
        anonymous: None,
        route: Some(RouteFacts {
            id: "r1",
            checksum: Some(u64::MAX),
            cluster: "wiki",
            groups_filter: &None,
        }),
        program: Some(program),
        certificate_problem: None,
        decision: &decision,
    };
    let mut out = Vec::new();
    super::decision(&mut out, &record, inputs);
    let mut line = Vec::new();
    stamped(&mut line, "s", 7, &out);
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    line.pop();
    line
}

fn read_back(line: &[u8]) -> Box<read::Decision> {
    match read::line(line) {
        Line::Decision(decision) => decision,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(line)),
    }
}

fn session_with_tokens() -> Principal {
    let session = Session {
        id: "s1".into(),
        user_id: "u1".into(),
        id_token: Some(IdToken {
            raw: "ID-TOKEN-SECRET".into(),
            ..IdToken::default()
        }),
        oauth_token: Some(OAuthToken {
            access_token: "ACCESS-SECRET".into(),
            refresh_token: "REFRESH-SECRET".into(),
            ..OAuthToken::default()
        }),
        ..Session::default()
    };
    let entry = SessionEntry {
        version: 1,
        server_version: 1,
        session,
        confirmed: Confirmed::default(),
        left_out: Parts::NONE,
    };
    Principal::of_session(&NoRecords, Arc::new(entry), &"groups".into()).unwrap()
}

#[test]
fn a_record_says_who_what_and_why() {
    let program = program(&json!({"allow": {"and": [{"user": "u1"}, {"claim/role": "admin"}]}}));
    let principal = session_with_tokens();
    let request = Request {
        subject: Some(principal.subject.clone()),
        ..plain()
    };
    let line = logged(&program, &request, Some(&principal), true);
    let value: Value = serde_json::from_slice(&line).unwrap();
    for (pointer, expected) in [
        ("/stream", json!("s")),
        ("/seq", json!(7)),
        ("/kind", json!("decision")),
        ("/version", json!(1)),
        ("/time", json!("2026-03-01T12:00:00.123456789Z")),
        ("/request_id", json!("q1")),
        ("/outcome", json!("denied")),
        ("/status", json!(403)),
        ("/method", json!("GET")),
        ("/host", json!("app.example.com")),
        ("/path", json!("/a")),
        ("/source_ip", json!("203.0.113.7")),
        (
            "/route",
            json!({"id": "r1", "name": "wiki", "checksum": "18446744073709551615"}),
        ),
        ("/session", json!({"id": "s1", "kind": "session"})),
        ("/user", json!({"id": "u1", "email": ""})),
        ("/rule", json!("policy.allow.and")),
        ("/criteria", json!(["policy.allow.and[1] claim/role"])),
        ("/allow/reasons", json!(["claim-unauthorized"])),
        ("/allow/groups/0/criteria/1/found", json!([])),
        ("/inputs/subject/claims", json!({"role": []})),
        ("/inputs/subject/groups/source", json!("unknown")),
    ] {
        assert_eq!(value.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(value.pointer("/inputs/certificate"), None, "nobody looked at it");
}

#[test]
fn no_secret_of_a_request_or_session_is_in_a_record() {
    let program =
        program(&json!({"allow": {"or": [{"user": "u2"}, {"claim/x": 1}, {"cors_preflight": true}]}}));
    let principal = session_with_tokens();
    let request = Request {
        subject: Some(principal.subject.clone()),
        ..plain()
    };
    for inputs in [true, false] {
        let line = logged(&program, &request, Some(&principal), inputs);
        let text = String::from_utf8(line).unwrap();
        assert!(!text.contains("SECRET"), "{text}");
        assert_eq!(text.contains("\"inputs\":"), inputs);
        assert_eq!(text.contains("\"groups\":"), inputs);
        assert!(text.contains("\"rule\":\"policy.allow.or\""));
    }
}

#[test]
fn what_was_not_logged_cannot_be_judged() {
    let old = program(&json!({"allow": {"or": [{"claim/a": 1}, {"user": "u1"}]}}));
    let subject = Subject {
        user_id: "u1".into(),
        claims: [("a".to_owned(), vec![json!(2)])].into(),
        ..Subject::default()
    };
    let request = Request {
        subject: Some(subject),
        ..plain()
    };
    let record = read_back(&logged(&old, &request, None, true));
    let missing = |policy: &Value| match judge(&record, Some(&program(policy))) {
        Replayed::CannotJudge(missing) => missing,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        missing(&json!({"allow": {"or": [{"claim/b": 1}]}})),
        ["the claim b"]
    );
    assert_eq!(
        missing(
            &json!({"allow": {"or": [{"user": "u1"}]}, "deny": {"or": [{"invalid_client_certificate": true}]}})
        ),
        ["the client certificate"]
    );
    let judged = judge(
        &record,
        Some(&program(&json!({"allow": {"or": [{"claim/a": 1}]}}))),
    );
    let Replayed::Differs { decision, grounds } = judged else {
        panic!("{judged:?}")
    };
    assert_eq!(super::replay::came_to(&decision), "denied 403");
    assert_eq!(grounds.criteria, ["policy.allow.or[0] claim/a"]);
    assert!(matches!(judge(&record, None), Replayed::Differs { .. }));
    let without = read_back(&logged(&old, &request, None, false));
    assert!(matches!(judge(&without, Some(&old)), Replayed::CannotJudge(_)));
}

#[test]
fn nobody_has_no_claims_to_miss() {
    let old = program(&json!({"allow": {"or": [{"accept": true}]}}));
    let record = read_back(&logged(&old, &plain(), None, true));
    let new = program(&json!({"allow": {"or": [{"claim/b": 1}]}}));
    let judged = judge(&record, Some(&new));
    assert!(
        matches!(&judged, Replayed::Differs { decision, .. } if super::replay::came_to(decision) == "login"),
        "{judged:?}"
    );
}

#[test]
fn every_criterion_of_the_language_is_known_to_replay() {
    use super::needs::{Need, of};
    for name in pomerium_policy::CRITERIA {
        assert_ne!(of(name, Some("a")), Need::Unknown, "{name}");
    }
    assert_eq!(of("nothing", None), Need::Unknown);
}

#[test]
fn lines_of_others_are_passed_over_and_broken_records_are_named() {
    let program = program(&json!({"allow": {"or": [{"accept": true}]}}));
    let good = logged(&program, &plain(), None, true);
    let mut log = b"not json\n{\"level\":\"info\",\"message\":\"http-request\"}\n\n".to_vec();
    log.extend_from_slice(&good);
    log.push(b'\n');
    log.extend_from_slice(&good[..good.len() / 2]);
    log.push(b'\n');
    log.extend_from_slice(b"{\"kind\":\"decision\",\"version\":99}\n{\"kind\":\"decision\",\"version\":1}\n");
    log.extend_from_slice(&vec![b'x'; read::LONGEST + 1]);
    log.push(b'\n');
    let gap = Gap {
        dropped: 3,
        first_seq: 1,
        last_seq: 3,
        from: plain().now,
        to: plain().now,
        why: "full",
    };
    stamped(&mut log, "s", 9, &Mark::Gap(gap).line(plain().now));
    log.pop();
    // A reader that gives few bytes at a time.
    let mut lines = Lines::new(std::io::BufReader::with_capacity(7, log.as_slice()));
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next_line().unwrap() {
        found.push(match line {
            Line::Decision(_) => format!("{number} decision"),
            Line::Gap(dropped) => format!("{number} gap {dropped}"),
            Line::Mark => format!("{number} mark"),
            Line::Other => format!("{number} other"),
            Line::Broken(_) => format!("{number} broken"),
        });
    }
    assert_eq!(
        found,
        [
            "1 other",
            "2 other",
            "3 other",
            "4 decision",
            "5 broken",
            "6 broken",
            "7 broken",
            "8 broken",
            "9 gap 3"
        ]
    );
}

/// Criteria to make policies of; those that this build cannot judge are left out by the compiler.
fn criteria() -> Vec<Value> {
    vec![
        json!({"accept": true}),
        json!({"reject": true}),
        json!({"authenticated_user": true}),
        json!({"user": "u1"}),
        json!({"email": {"ends_with": "@example.com"}}),
        json!({"domain": {"not": "example.com"}}),
        json!({"claim/role": "admin"}),
        json!({"claim/level": {"is": 3}}),
        json!({"claim/a.b": {"exclude": "x"}}),
        json!({"groups": {"has": "g1"}}),
        json!({"device": {"approved": true}}),
        json!({"http_method": {"in": ["GET", "POST"]}}),
        json!({"http_path": {"starts_with": "/a"}}),
        json!({"source_ip": ["203.0.113.0/24", "2001:db8::/32"]}),
        json!({"cors_preflight": true}),
        json!({"client_certificate": {"fingerprint": "ab".repeat(32)}}),
        json!({"invalid_client_certificate": true}),
        json!({"date": {"after": "2026-01-01T00:00:00Z"}}),
        json!({"day_of_week": "mon-fri"}),
        json!({"time_of_day": {"timezone": "UTC", "after": "09:00"}}),
        json!({"record": {"type": "example.com/staff", "field": "site", "is": "north"}}),
    ]
}

fn compiled(choice: &[(bool, u8, Vec<usize>)]) -> Program {
    let pool = criteria();
    let rule = |(allow, operator, picks): &(bool, u8, Vec<usize>)| {
        let operator = ["and", "or", "not", "nor"][usize::from(operator % 4)];
        let usable = picks
            .iter()
            .map(|pick| &pool[pick % pool.len()])
            .filter(|criterion| {
                let alone = Policy::parse(&json!({"allow": {"or": [criterion]}})).unwrap();
                Program::compile(&alone).is_ok()
            });
        let usable: Vec<&Value> = usable.collect();
        json!({if *allow { "allow" } else { "deny" }: {operator: usable}})
    };
    program(&choice.iter().map(rule).collect())
}

fn subject() -> impl Strategy<Value = Option<Subject>> {
    let claims = prop_oneof![
        Just(json!("admin")),
        Just(json!(3)),
        Just(json!(3.5)),
        Just(json!(null)),
        Just(json!({"a": ["\u{202e}\n"]})),
        ".*".prop_map(Value::from)
    ];
    let claims = prop::collection::hash_map(
        prop_oneof![
            Just("role".to_owned()),
            Just("level".to_owned()),
            Just("a.b".to_owned()),
            ".*"
        ],
        prop::collection::vec(claims, 0..3),
        0..4,
    );
    let group = prop_oneof![Just("g1".to_owned()), ".*"].prop_map(|id| pomerium_policy::Group {
        id,
        ..Default::default()
    });
    let groups = prop::collection::vec(group, 0..3);
    let email = prop_oneof![Just("a@example.com".to_owned()), Just(String::new()), ".*"];
    let user = prop_oneof![Just("u1".to_owned()), Just(String::new()), ".*"];
    let approved = prop::option::of(prop::option::of(".*"));
    prop::option::of((user, email, claims, groups, approved).prop_map(
        |(user_id, email, claims, all, device)| {
            Subject {
                session_id: "s1".into(),
                user_id,
                email,
                claims,
                groups: pomerium_policy::Groups {
                    source: pomerium_policy::GroupSource::Directory,
                    all,
                },
                devices: device
                    .map(|approved_by| pomerium_policy::Device {
                        type_id: "any".into(),
                        credential_id: Some("c1".into()),
                        approved_by,
                    })
                    .into_iter()
                    .collect(),
                ..Subject::default()
            }
        },
    ))
}

fn request() -> impl Strategy<Value = Request> {
    let method = prop_oneof![Just("GET"), Just("OPTIONS"), Just("DELETE")];
    let path = prop_oneof![Just("/a/b".to_owned()), ".*"];
    let ip = prop::option::of(any::<std::net::IpAddr>());
    let origin = prop::option::of("[ -~]{0,20}");
    let trust = prop_oneof![
        Just(CertificateTrust::NoAuthority),
        Just(CertificateTrust::Verified),
        Just(CertificateTrust::Rejected)
    ];
    let now = (0_i64..4_000_000_000, 0_i32..1_000_000_000)
        .prop_map(|(seconds, nanos)| jiff::Timestamp::new(seconds, nanos).unwrap());
    (subject(), method, path, ip, origin, trust, now).prop_map(
        |(subject, method, path, ip, origin, trust, now)| Request {
            subject,
            method: method.into(),
            path,
            ip,
            origin,
            trust,
            now,
        },
    )
}

fn choices() -> impl Strategy<Value = Vec<(bool, u8, Vec<usize>)>> {
    let rule = (
        any::<bool>(),
        any::<u8>(),
        prop::collection::vec(0_usize..64, 0..5),
    );
    prop::collection::vec(rule, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// A request judged again by the policy that judged it comes to the same, whatever it holds.
    #[test]
    fn the_same_policy_comes_to_the_same(choices in choices(), request in request()) {
        let program = compiled(&choices);
        let record = read_back(&logged(&program, &request, None, true));
        let judged = judge(&record, Some(&program));
        prop_assert!(matches!(judged, Replayed::Same), "{judged:?}");
    }

    /// Judged by another policy it comes to what that policy would have said, or it cannot be told.
    #[test]
    fn another_policy_comes_to_what_it_would_have_said(
        old in choices(), new in choices(), request in request(),
    ) {
        let (old, new) = (compiled(&old), compiled(&new));
        let record = read_back(&logged(&old, &request, None, true));
        let truth = read_back(&logged(&new, &request, None, true));
        match judge(&record, Some(&new)) {
            Replayed::Same => prop_assert_eq!(truth.came_to(), record.came_to()),
            Replayed::Differs { decision, grounds } => {
                prop_assert_eq!(super::replay::came_to(&decision), truth.came_to());
                prop_assert_ne!(truth.came_to(), record.came_to());
                prop_assert_eq!((grounds.rule, grounds.criteria), (truth.rule, truth.criteria));
            }
            Replayed::CannotJudge(missing) => prop_assert!(!missing.is_empty()),
        }
    }
}
