//! Questions of other proxies: what is logged and counted, and what happens when nobody can judge.

use std::net::SocketAddr;

use pomerium_certs::CertStore;
use tokio::net::TcpStream;

use super::support::{Answer, Client, Proxy, UNREACHABLE, cookie, session, settings};

const LISTENER: &str = "decision_listener: {address: 127.0.0.1:9, trusted_peers: [127.0.0.1]}";
const IDP: &str =
    "idp_provider: oidc\nidp_provider_url: https://idp.example.com\nidp_client_id: a\nidp_client_secret: b";

async fn start(route: &str) -> (Proxy, SocketAddr) {
    let routes = format!("  - from: https://app.example.com\n    to: http://127.0.0.1:9\n{route}");
    let mut settings = settings(&format!("{LISTENER}\n{IDP}"), &routes);
    if let Some(decision) = &mut settings.decision {
        decision.address = "127.0.0.1:0".into();
    }
    let records = session("one", "user@example.com");
    let proxy = Proxy::with(&settings, records, CertStore::new(Vec::new())).await;
    let address = proxy.plane.decision_addrs()[0];
    (proxy, address)
}

async fn ask(address: SocketAddr, path: &str, more: &str) -> Answer {
    let mut client = Client {
        stream: TcpStream::connect(address).await.unwrap(),
        read: Vec::new(),
    };
    client
        .send(&format!(
            "GET {path} HTTP/1.1\r\nHost: decision\r\nX-Forwarded-Method: PUT\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: app.example.com\r\nX-Forwarded-Uri: /a?b=c\r\nX-Forwarded-For: 192.0.2.7\r\n\
             X-Original-Method: PUT\r\nX-Original-URL: https://app.example.com/a?b=c\r\n{more}\r\n"
        ))
        .await;
    client.answer().await
}

#[tokio::test]
async fn a_question_is_logged_as_the_request_that_it_is_about() {
    let (proxy, address) = start("    allow_any_authenticated_user: true\n").await;
    let answer = ask(
        address,
        "/forward-auth",
        &format!("Cookie: {}\r\n", cookie("one")),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let line = proxy.line(1).await;
    assert_eq!(line["method"], "PUT");
    assert_eq!(line["authority"], "app.example.com");
    assert_eq!(line["path"], "/a");
    assert_eq!(line["response-code-details"], "decision_allowed");
    let judged = proxy.lines("authorize check");
    assert_eq!(judged.len(), 1);
    assert_eq!(judged[0]["ip"], "192.0.2.7");
    assert_eq!(judged[0]["email"], "user@example.com");
}

#[tokio::test]
async fn when_nobody_can_judge_nobody_enters() {
    let (_proxy, address) = start("    allow_any_authenticated_user: true\n").await;
    let unknown = format!("Cookie: {}\r\n", cookie(UNREACHABLE));
    assert_eq!(ask(address, "/forward-auth", &unknown).await.status, 503);
    assert_eq!(ask(address, "/auth-request", &unknown).await.status, 403);
    assert_eq!(ask(address, "/auth-request/answer", &unknown).await.status, 503);
}

#[tokio::test]
async fn the_rate_limit_of_the_route_counts_clients_not_proxies() {
    let route = "    allow_public_unauthenticated_access: true\n    rate_limit: {requests: 1, per: 1h}\n";
    let (_proxy, address) = start(route).await;
    assert_eq!(ask(address, "/forward-auth", "").await.status, 200);
    let second = ask(address, "/forward-auth", "").await;
    assert_eq!(second.status, 429, "{}", second.head);
    assert_eq!(ask(address, "/auth-request", "").await.status, 403);
}

#[tokio::test]
async fn a_missing_certificate_cannot_be_made_up_over_http() {
    let route = "    policy: [{allow: {and: [{client_certificate: {}}]}}]\n";
    let (_proxy, address) = start(route).await;
    for header in [
        "",
        "X-Forwarded-Client-Cert: Hash=ab\r\n",
        "X-SSL-Client-Verify: SUCCESS\r\n",
    ] {
        assert_eq!(
            ask(address, "/forward-auth", header).await.status,
            403,
            "{header}"
        );
    }
}
