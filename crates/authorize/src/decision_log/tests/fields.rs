//! Every field of the specification, one by one, for each sort of asker (spec policy.md 15.1).

use pomerium_api::databroker::Versions;
use pomerium_api::pb::user::{ServiceAccount, User};
use pomerium_api::synced::{Entry as _, StructEntry};

use super::*;

/// What is known in these tests: the person who looks, the one who is looked through, a machine.
struct World;

const AT: Versions = Versions {
    server_version: 1,
    latest_record_version: 1,
};

fn own() -> Arc<SessionEntry> {
    entry("s1", "u1", "s2")
}

fn entry(id: &str, user_id: &str, impersonates: &str) -> Arc<SessionEntry> {
    let payload = pomerium_crypto::encoding::base64url_encode(br#"{"sub":"x"}"#);
    Arc::new(SessionEntry::new(
        AT,
        Session {
            id: id.into(),
            user_id: user_id.into(),
            impersonate_session_id: Some(impersonates.into()),
            id_token: Some(IdToken {
                raw: format!("h.{payload}.s"),
                ..IdToken::default()
            }),
            ..Session::default()
        },
    ))
}

impl Records for World {
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>> {
        (id == "s2").then(|| entry("s2", "u2", ""))
    }
    fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        let user = User {
            id: id.into(),
            email: format!("{id}@example.com"),
            ..User::default()
        };
        Some(Arc::new(UserEntry::new(AT, user)))
    }
    fn service_account(&self, _: &str) -> Option<Arc<ServiceAccountEntry>> {
        None
    }
    fn directory_user(&self, id: &str) -> Option<Arc<StructEntry>> {
        let data = json!({"group_ids": ["kept", "removed"], "email": format!("{id}@example.com")});
        Some(Arc::new(StructEntry::new(id, (1, 1), data, 10)))
    }
}

/// Nobody, a person, a person who looks through another one, a machine.
fn askers() -> [Option<Principal>; 4] {
    let claim = "groups".into();
    let account = ServiceAccount {
        id: "a1".into(),
        user_id: "u3".into(),
        ..ServiceAccount::default()
    };
    [
        None,
        Some(Principal::of_session(&World, entry("s1", "u1", ""), &claim).unwrap()),
        Some(Principal::of_session(&World, own(), &claim).unwrap()),
        Some(Principal::of_account(
            &World,
            Arc::new(ServiceAccountEntry::new(AT, account)),
            &claim,
        )),
    ]
}

/// The value of a field for one asker; `None` when it is left out.
fn value(field: &Field, name: &str, asker: Option<&Principal>) -> Option<Value> {
    let mut headers = HeaderMap::new();
    headers.insert("x-team", HeaderValue::from_static("red"));
    headers.insert("cookie", HeaderValue::from_static("_pomerium=secret"));
    let http = HttpInput {
        method: "GET",
        path: "/a b",
        raw_path: "/a%20b",
        query: "c=d",
        host: "app.example.com:8443",
        headers: &Headers(&headers),
        client_ip: "203.0.113.7".parse().ok(),
        client_certificate: pomerium_policy::ClientCertificate::default(),
    };
    let now = "2026-03-01T12:00:00Z".parse().unwrap();
    let input = Input::new(asker.map(|principal| &principal.subject), http, now);
    let policy = Policy::parse(&json!({"allow": {"or": [{"accept": true}]}})).unwrap();
    let program = Program::compile(&policy).unwrap();
    let decision = check(&program, &input);
    let filter: GroupsFilter = Some(["kept".to_owned()].into());
    let record = AuthorizeRecord {
        now,
        request_id: "q1",
        input: &input,
        headers: &headers,
        principal: asker,
        anonymous: None,
        route: Some(RouteFacts {
            id: "r1",
            checksum: Some(7),
            cluster: "route-r1",
            groups_filter: &filter,
        }),
        program: Some(&program),
        certificate_problem: None,
        decision: &decision,
    };
    let mut out = Vec::new();
    write_line(&mut out, std::slice::from_ref(field), &record);
    let line: Value = serde_json::from_slice(&out).unwrap();
    line.get(name).cloned()
}

#[test]
fn every_field_says_what_the_specification_says() {
    let text = |text: &str| Some(json!(text));
    let all = |value: Value| [(); 4].map(|()| Some(value.clone()));
    let claims = Some(json!({"sub": "x"}));
    let token = || {
        entry("s1", "u1", "")
            .session
            .id_token
            .clone()
            .map(|token| json!(token.raw))
    };
    let header = Field::Header(HeaderName::from_static("x-team"));
    // Nobody, a person, a person who looks through another one, a machine.
    let table: [(Field, &str, [Option<Value>; 4]); 24] = [
        (Field::RequestId, "request-id", all(json!("q1"))),
        (Field::CheckRequestId, "check-request-id", all(json!("q1"))),
        (Field::Method, "method", all(json!("GET"))),
        (Field::Path, "path", all(json!("/a%20b"))),
        (Field::Host, "host", all(json!("app.example.com:8443"))),
        (Field::Query, "query", all(json!("c=d"))),
        (Field::Ip, "ip", all(json!("203.0.113.7"))),
        (
            Field::SessionId,
            "session-id",
            [None, text("s1"), text("s1"), None],
        ),
        (
            Field::ImpersonateSessionId,
            "impersonate-session-id",
            [None, None, text("s2"), None],
        ),
        (
            Field::ImpersonateUserId,
            "impersonate-user-id",
            [None, None, text("u2"), None],
        ),
        (
            Field::ImpersonateEmail,
            "impersonate-email",
            [None, None, text("u2@example.com"), None],
        ),
        (
            Field::RemovedGroupsCount,
            "removed-groups-count",
            [None, Some(json!(1)), Some(json!(1)), Some(json!(1))],
        ),
        (
            Field::ServiceAccountId,
            "service-account-id",
            [None, None, None, text("a1")],
        ),
        (
            Field::User,
            "user",
            [text(""), text("u1"), text("u1"), text("u3")],
        ),
        (
            Field::Email,
            "email",
            [
                text(""),
                text("u1@example.com"),
                text("u1@example.com"),
                text("u3@example.com"),
            ],
        ),
        (Field::EnvoyRouteChecksum, "envoy-route-checksum", all(json!(7))),
        (Field::EnvoyRouteId, "envoy-route-id", all(json!("r1"))),
        (Field::RouteChecksum, "route-checksum", all(json!(7))),
        (Field::RouteId, "route-id", all(json!("r1"))),
        (
            Field::ClusterStatName,
            "cluster-stat-name",
            all(json!("route-r1")),
        ),
        (
            Field::Headers,
            "headers",
            all(json!({"X-Team": "red", "Cookie": "<hidden>"})),
        ),
        (header, "headers", all(json!({"X-Team": "red"}))),
        (Field::IdToken, "id-token", [None, token(), token(), None]),
        (
            Field::IdTokenClaims,
            "id-token-claims",
            [None, claims.clone(), claims, None],
        ),
    ];
    let askers = askers();
    for (field, name, expected) in table {
        for (asker, expected) in askers.iter().zip(expected) {
            let who = asker.as_ref().map_or("nobody", |asker| asker.session_id.as_str());
            assert_eq!(value(&field, name, asker.as_ref()), expected, "{name} of {who}");
        }
    }
}
