//! The lines of the authorize log.

use std::sync::Arc;

use http::HeaderValue;
use pomerium_api::pb::session::{IdToken, Session};
use pomerium_api::synced::{Confirmed, Parts, ServiceAccountEntry, SessionEntry, UserEntry};
use pomerium_policy::HttpInput;
use pomerium_policy::ppl::Policy;
use serde_json::{Value, json};

use super::*;
use crate::decision::{check, route_not_found};
use crate::headers::Headers;
use crate::session::Records;

mod fields;

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

fn principal() -> Principal {
    let payload = pomerium_crypto::encoding::base64url_encode(br#"{"sub":"u1","n":[1,{"a":null}]}"#);
    let id_token = Some(IdToken {
        raw: format!("h.{payload}.s"),
        ..IdToken::default()
    });
    let session = Session {
        id: "s1".into(),
        user_id: "u1".into(),
        id_token,
        ..Session::default()
    };
    Principal::of_session(
        &NoRecords,
        Arc::new(SessionEntry {
            version: 1,
            server_version: 1,
            session,
            confirmed: Confirmed::default(),
            left_out: Parts::NONE,
        }),
        &"groups".into(),
    )
    .unwrap()
}

/// The line for a request to a route with `policy`, which must be one line of JSON.
fn line(policy: &Value, fields: &[Field], headers: &HeaderMap, principal: Option<&Principal>) -> String {
    let program = Program::compile(&Policy::parse(policy).unwrap()).unwrap();
    let http = HttpInput {
        method: "GET",
        path: "/a",
        raw_path: "/a",
        query: "b=c\n{\"level\":\"fatal\"}",
        host: "app.example.com",
        headers: &Headers(headers),
        client_ip: "203.0.113.7".parse().ok(),
        client_certificate: pomerium_policy::ClientCertificate::default(),
    };
    let now = "2026-03-01T12:00:00Z".parse().unwrap();
    let input = Input::new(principal.map(|principal| &principal.subject), http, now);
    let decision = check(&program, &input);
    let route = Some(RouteFacts {
        id: "r1",
        checksum: Some(7),
        cluster: "route-r1",
        groups_filter: &None,
    });
    let record = AuthorizeRecord {
        now,
        request_id: "q1",
        input: &input,
        headers,
        principal,
        anonymous: None,
        route,
        program: Some(&program),
        certificate_problem: None,
        decision: &decision,
    };
    let mut out = Vec::new();
    write_line(&mut out, fields, &record);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches('\n').count(), 1);
    assert!(text.ends_with("}\n"));
    text
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_denied_request_says_the_rule_whatever_fields_are_chosen() {
    let policy = json!({"allow": {"and": [{"http_method": "GET"}, {"source_ip": "10.0.0.0/8"}]}});
    assert_eq!(
        line(&policy, &[], &HeaderMap::new(), None),
        concat!(
            r#"{"level":"info","service":"authorize","allow":false,"allow-why-false":["source-ip-unauthorized"],"#,
            r#""deny":false,"deny-why-false":[],"outcome":"denied","status":403,"rule":"policy.allow.and","#,
            r#""criteria":["policy.allow.and[1] source_ip"],"time":"2026-03-01T12:00:00Z","message":"authorize check"}"#,
            "\n"
        )
    );
}

#[test]
fn chosen_fields_come_in_their_order() {
    use Field::{
        CheckRequestId, ClusterStatName, Email, EnvoyRouteChecksum, EnvoyRouteId, Host, ImpersonateEmail, Ip,
        Method, Path, RequestId, RouteChecksum, RouteId, ServiceAccountId, SessionId, User,
    };
    let fields = [
        RequestId,
        CheckRequestId,
        Method,
        Path,
        Host,
        Ip,
        SessionId,
        ImpersonateEmail,
        ServiceAccountId,
        User,
        Email,
        EnvoyRouteChecksum,
        EnvoyRouteId,
        RouteChecksum,
        RouteId,
        ClusterStatName,
    ];
    let policy = json!({"allow": {"or": [{"authenticated_user": true}]}});
    let text = line(&policy, &fields, &HeaderMap::new(), Some(&principal()));
    let start = concat!(
        r#"{"level":"info","service":"authorize","request-id":"q1","check-request-id":"q1","method":"GET","path":"/a","#,
        r#""host":"app.example.com","ip":"203.0.113.7","session-id":"s1","user":"u1","email":"","#,
        r#""envoy-route-checksum":7,"envoy-route-id":"r1","route-checksum":7,"route-id":"r1","cluster-stat-name":"route-r1","#,
        r#""allow":true,"allow-why-true":["user-ok"],"deny":false,"deny-why-false":[],"time""#
    );
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn a_login_is_no_denial() {
    let policy = json!({"allow": {"or": [{"authenticated_user": true}]}});
    let line = parsed(&line(
        &policy,
        &[Field::User, Field::SessionId],
        &HeaderMap::new(),
        None,
    ));
    assert_eq!(line["outcome"], "login");
    assert_eq!(line["user"], "");
    assert!(line.get("session-id").is_none() && line.get("rule").is_none());
}

#[test]
fn values_cannot_write_lines_or_move_cursors() {
    let policy = json!({"allow": {"or": [{"accept": true}]}});
    let text = line(&policy, &[Field::Query], &HeaderMap::new(), None);
    assert!(text.contains(r#""query":"b=c\n{\"level\":\"fatal\"}""#), "{text}");
    let mut headers = HeaderMap::new();
    let value = "\u{9b}31m\u{202e}\u{2028}é".as_bytes();
    headers.insert("x-odd", HeaderValue::from_bytes(value).unwrap());
    let text = line(
        &policy,
        &[Field::Header(HeaderName::from_static("x-odd"))],
        &headers,
        None,
    );
    assert!(
        text.contains(r#""headers":{"X-Odd":"\u009b31m\u202e\u2028é"}"#),
        "{text}"
    );
}

#[test]
fn headers_are_printed_without_credentials_unless_named() {
    let policy = json!({"allow": {"or": [{"accept": true}]}});
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("cookie", "_pomerium=secret"),
        ("authorization", "Bearer secret"),
        ("x-request-id", "q1"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let all = parsed(&line(&policy, &[Field::Headers], &headers, None));
    assert_eq!(
        all["headers"],
        json!({"Cookie": "<hidden>", "Authorization": "<hidden>", "X-Request-Id": "q1"})
    );
    let named = [
        Field::Header(HeaderName::from_static("cookie")),
        Field::Header(HeaderName::from_static("x-none")),
    ];
    let named = parsed(&line(&policy, &named, &headers, None));
    assert_eq!(named["headers"], json!({"Cookie": "_pomerium=secret"}));
}

#[test]
fn id_token_claims_are_read_from_the_token() {
    let policy = json!({"allow": {"or": [{"accept": true}]}});
    let fields = [Field::IdTokenClaims, Field::IdToken];
    let line = parsed(&line(&policy, &fields, &HeaderMap::new(), Some(&principal())));
    assert_eq!(
        line["id-token-claims"],
        json!({"sub": "u1", "n": [1, {"a": null}]})
    );
    assert!(line["id-token"].as_str().unwrap().starts_with("h."));
}

#[test]
fn no_route_and_a_dead_session_are_told() {
    let headers = HeaderMap::new();
    let http = HttpInput {
        method: "GET",
        path: "/",
        raw_path: "/",
        query: "",
        host: "h",
        headers: &Headers(&headers),
        client_ip: None,
        client_certificate: pomerium_policy::ClientCertificate::default(),
    };
    let now = "2026-03-01T12:00:00Z".parse().unwrap();
    let input = Input::new(None, http, now);
    let decision = route_not_found();
    let record = AuthorizeRecord {
        now,
        request_id: "q1",
        input: &input,
        headers: &headers,
        principal: None,
        anonymous: Some(Anonymous::Expired),
        route: None,
        program: None,
        certificate_problem: None,
        decision: &decision,
    };
    let mut out = b"before\n".to_vec();
    write_line(&mut out, &[Field::RouteId, Field::Ip], &record);
    let text = String::from_utf8(out).unwrap();
    let line = parsed(text.strip_prefix("before\n").unwrap());
    assert_eq!(
        (&line["status"], &line["deny-why-true"]),
        (&json!(404), &json!(["route-not-found"]))
    );
    assert_eq!(
        (&line["session-problem"], &line["ip"]),
        (&json!("session-expired"), &json!(""))
    );
    assert!(line.get("route-id").is_none());
}
