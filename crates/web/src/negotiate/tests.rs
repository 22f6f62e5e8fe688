use http::{HeaderName, HeaderValue};

use super::*;
use crate::canonical::test_request as request;

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn kind(list: &[(&'static str, &'static str)]) -> ClientKind {
    wants(&request("/"), &headers(list))
}

fn redirect(list: &[(&'static str, &'static str)]) -> bool {
    redirect_allowed(&request("/"), &headers(list))
}

const CHROME: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8";

#[test]
fn refusals_in_the_order_of_the_table() {
    let kubectl = ("user-agent", "kubectl/v1 (linux/amd64) kubernetes/abc");
    assert_eq!(
        kind(&[kubectl, ("accept", "application/json")]),
        ClientKind::Kubernetes
    );
    assert_eq!(
        wants(&request("/robots.txt"), &headers(&[("accept", CHROME)])),
        ClientKind::RobotsTxt
    );
    assert_eq!(
        kind(&[
            ("accept", "application/json"),
            ("content-type", "application/grpc")
        ]),
        ClientKind::Json
    );
    assert_eq!(kind(&[("content-type", "application/grpc")]), ClientKind::Grpc);
    assert_eq!(
        kind(&[("content-type", "application/grpc+proto")]),
        ClientKind::Grpc
    );
    assert_eq!(
        kind(&[("content-type", "application/grpc-web+proto")]),
        ClientKind::GrpcWeb
    );
    assert_eq!(
        kind(&[("content-type", "application/grpc-web-text")]),
        ClientKind::GrpcWeb
    );
    assert_eq!(kind(&[("content-type", "application/grpcx")]), ClientKind::Html);
    assert_eq!(kind(&[]), ClientKind::Html);
}

#[test]
fn json_only_when_preferred_over_html() {
    for (accept, want) in [
        ("application/json", ClientKind::Json),
        ("application/*", ClientKind::Json),
        ("application/json, text/plain, */*", ClientKind::Json),
        ("text/html;q=0.5, application/json", ClientKind::Json),
        ("*/*", ClientKind::Html),
        ("text/plain", ClientKind::Html),
        (CHROME, ClientKind::Html),
        ("application/json,", ClientKind::Html),
        ("", ClientKind::Html),
    ] {
        assert_eq!(kind(&[("accept", accept)]), want, "{accept}");
    }
}

#[test]
fn redirect_by_accept() {
    for (accept, want) in [
        ("*/*", true),
        (CHROME, true),
        ("", true),
        ("text/html;q=0", true),
        ("*/x", true),
        ("application/json,", true),
        ("image/png", true),
        ("application/json", false),
        ("application/json, text/plain, */*", false),
        ("text/plain", false),
        ("application/grpc-web-text", false),
        ("text/html;level=1, application/json", false),
    ] {
        assert_eq!(redirect(&[("accept", accept)]), want, "{accept}");
    }
    assert!(redirect(&[]));
}

#[test]
fn scripts_and_tokens_are_not_redirected() {
    assert!(!redirect(&[("content-type", "application/grpc")]));
    assert!(!redirect(&[("content-type", "application/grpc; charset=utf-8")]));
    assert!(!redirect(&[("x-requested-with", "xmlhttprequest")]));
    assert!(!redirect(&[("sec-fetch-mode", "cors"), ("accept", "*/*")]));
    assert!(redirect(&[("sec-fetch-mode", "navigate"), ("accept", CHROME)]));
    assert!(!redirect(&[("authorization", "Pomerium x")]));
    assert!(redirect(&[("authorization", "Bearer x")]));
    assert!(redirect(&[("cookie", "_pomerium=broken")]));
    let mut with_query = request("/");
    with_query.query = Some("pomerium_session=x".into());
    assert!(!redirect_allowed(&with_query, &HeaderMap::new()));
    let mut websocket = request("/");
    websocket.upgrade = Some("websocket".into());
    assert!(!redirect_allowed(&websocket, &HeaderMap::new()));
    assert_eq!(wants(&websocket, &HeaderMap::new()), ClientKind::Json);
    let mut tunnel = request("");
    tunnel.method = Method::CONNECT;
    assert!(!redirect_allowed(&tunnel, &HeaderMap::new()));
}

#[test]
fn a_user_agent_decides_nothing_but_the_form() {
    assert!(redirect(&[("user-agent", "kube-probe/1.30"), ("accept", "*/*")]));
}

#[test]
fn local_replies_split_accept_without_trimming() {
    for (accept, want) in [
        ("", ClientKind::Html),
        ("*/*", ClientKind::Html),
        ("text/*", ClientKind::Html),
        ("text/plain", ClientKind::Plain),
        ("application/json", ClientKind::Json),
        ("text/html;q=0.1,application/json;q=0.9", ClientKind::Json),
        ("image/png, application/json", ClientKind::Html),
        ("text/plain,application/json", ClientKind::Plain),
    ] {
        let map = headers(&[("accept", accept)]);
        assert_eq!(wants_local_reply(&map), want, "{accept}");
    }
    assert_eq!(
        wants_local_reply(&headers(&[("content-type", "application/grpc-web")])),
        ClientKind::Grpc
    );
}
