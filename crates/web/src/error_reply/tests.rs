use http_body_util::BodyExt;

use super::*;
use crate::pages::Site;

fn read(response: Response) -> (u16, HeaderMap, String) {
    let (parts, body) = response.into_parts();
    let bytes = futures_util::FutureExt::now_or_never(body.collect())
        .expect("ready")
        .unwrap()
        .to_bytes();
    (
        parts.status.as_u16(),
        parts.headers,
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

fn get(kind: ClientKind, problem: &Problem) -> (u16, HeaderMap, String) {
    let site = Site::default();
    let read = read(reply(kind, problem, &Frame::new(&site, "req-1")));
    assert_eq!(read.1[INTERCEPTED], "true", "{kind:?}");
    assert_eq!(read.1["cache-control"], "no-store", "{kind:?}");
    read
}

fn denied() -> Problem {
    Problem::not_allowed(Some("user@example.com"), None)
}

#[test]
fn denials() {
    let (status, headers, body) = get(ClientKind::Json, &denied());
    assert_eq!(
        (status, &headers["content-type"]),
        (403, &HeaderValue::from_static("application/json"))
    );
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        json,
        json!({"error": "Forbidden", "request_id": "req-1", "code": "not-allowed"})
    );

    let (status, headers, body) = get(ClientKind::Html, &denied());
    assert_eq!(
        (status, &headers["content-type"]),
        (403, &HeaderValue::from_static("text/html; charset=UTF-8"))
    );
    assert!(body.contains("You are signed in as user@example.com") && body.contains("req-1"));

    let (status, headers, body) = get(ClientKind::Grpc, &denied());
    assert_eq!((status, body.as_str()), (403, ""));
    assert_eq!(headers["content-type"], "application/grpc+json");
    assert_eq!(
        (&headers["grpc-status"], &headers["grpc-message"]),
        (
            &HeaderValue::from_static("7"),
            &HeaderValue::from_static("Forbidden")
        )
    );
    assert_eq!(
        get(ClientKind::GrpcWeb, &denied()).1["content-type"],
        "application/grpc-web+json"
    );

    let (status, _, body) = get(ClientKind::RobotsTxt, &denied());
    assert_eq!((status, body.as_str()), (200, ROBOTS));
}

#[test]
fn a_program_learns_where_to_sign_in() {
    let (status, _, body) = get(
        ClientKind::Json,
        &Problem::sign_in_needed("https://a.example.com/s?x=1"),
    );
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, json["error"].as_str(), json["login_url"].as_str()),
        (401, Some("Unauthenticated"), Some("https://a.example.com/s?x=1"))
    );
}

#[test]
fn kubernetes() {
    let (status, _, body) = get(ClientKind::Kubernetes, &denied());
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 403);
    assert_eq!(
        json,
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "Forbidden", "reason": "Forbidden", "code": 403})
    );
    for (problem, reason) in [
        (Problem::sign_in_needed("/x"), "Unauthorized"),
        (Problem::client_certificate(), "Unauthorized"),
        (Problem::not_found("h"), "NotFound"),
        (Problem::undecided(), ""),
    ] {
        let json: serde_json::Value = serde_json::from_str(&get(ClientKind::Kubernetes, &problem).2).unwrap();
        assert_eq!(json["reason"], reason);
    }
}

#[test]
fn replies_of_the_data_plane() {
    let problem = Problem::upstream_down("no_healthy_upstream", "UH");
    let (status, headers, body) = get(ClientKind::Json, &problem);
    assert_eq!(
        (status, &headers["content-type"]),
        (503, &HeaderValue::from_static("application/json; charset=UTF-8"))
    );
    assert_eq!(
        body,
        "{\n  \"requestId\": \"req-1\",\n  \"status\": \"503\",\n  \"statusText\": \"no_healthy_upstream\"\n}"
    );
    let (_, headers, plain) = get(ClientKind::Plain, &problem);
    assert_eq!(
        (&headers["content-type"], plain),
        (&HeaderValue::from_static("text/plain; charset=UTF-8"), body)
    );
    let (status, headers, body) = get(ClientKind::Grpc, &Problem::not_found("h"));
    assert_eq!(
        (status, &headers["grpc-status"], body.as_str()),
        (200, &HeaderValue::from_static("5"), "")
    );
    assert!(
        headers["grpc-message"]
            .to_str()
            .unwrap()
            .contains("%0A  \"requestId\"")
    );
}

#[test]
fn replies_of_our_own_pages() {
    let site = Site::default();
    let frame = Frame::new(&site, "req-1");
    let exact = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
    let (_, headers, body) = read(reply_to_handler(&exact, &Problem::bad_link(), &frame));
    assert_eq!(headers["content-type"], "application/json");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (json["Status"].as_u64(), json["RequestID"].as_str()),
        (Some(400), Some("req-1"))
    );
    let (_, headers, _) = read(reply_to_handler(&HeaderMap::new(), &Problem::bad_link(), &frame));
    assert_eq!(headers["content-type"], "text/html; charset=UTF-8");
}

#[test]
fn grpc_codes() {
    for (status, code) in [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (503, 14),
        (302, 2),
        (495, 2),
    ] {
        assert_eq!(code_of_status(status), code);
    }
    for (flag, code) in [
        ("NR", 5),
        ("UT", 4),
        ("UC", 1),
        ("UPE", 13),
        ("UF", 14),
        ("DPE", 2),
        ("RL", 8),
    ] {
        assert_eq!(code_of_flag(flag), code);
    }
    assert_eq!(grpc_message("a%b\n\u{e9}\""), "a%25b%0A%C3%A9\"");
}

#[test]
fn redirects() {
    let response = redirect(StatusCode::FOUND, "https://a.example.com/?x=1");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["cache-control"]),
        (302, &HeaderValue::from_static("no-store"))
    );
    assert_eq!(redirect(StatusCode::FOUND, "https://a/\r\nX: y").status(), 500);
}
