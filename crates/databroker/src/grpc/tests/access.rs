//! Every call against every token (CVE-2024-47616: a token of a service account was taken for one of a service).

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Request;
use http_body_util::Full;
use jiff::Timestamp;
use pomerium_api::clock::ManualClock;
use pomerium_api::described::descriptors;
use pomerium_crypto::jwt::{SigningKey, hs256_sign};
use pomerium_crypto::{kdf, secure_token, service_token, signed_url};
use pomerium_web::handle::Handle;
use serde_json::json;

use super::support::{Http2, SECRET, framed, serve, services};
use crate::conformance::{CATS, record};
use crate::{MemoryStore, Server};
use pomerium_api::databroker::Databroker;

const NOW: i64 = 1_000_000;
const OPEN: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/pomerium.config.ConfigService/GetServerInfo",
    "/pomerium.config.ConfigService/ListAvailableLogFields",
];

/// Every call there is, from the descriptions.
fn calls() -> Vec<String> {
    let mut calls: Vec<String> = descriptors()
        .services()
        .filter(|service| !service.full_name().starts_with("envoy."))
        .flat_map(|service| {
            let name = service.full_name().to_owned();
            let paths = service
                .methods()
                .map(|method| format!("/{name}/{}", method.name()));
            paths.collect::<Vec<_>>()
        })
        .collect();
    for version in ["v1", "v1alpha"] {
        calls.push(format!(
            "/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        ));
    }
    calls
}

/// One of every sort this program makes or takes, with the names of headers it is tried under.
fn foreign() -> Vec<(&'static str, String)> {
    let exp = NOW + 100;
    let handle = Handle {
        jti: "s1".into(),
        sub: "u1".into(),
        ..Handle::default()
    };
    let link = "https://authenticate.example.com/.pomerium/sign_in";
    let signed = signed_url::sign(&SECRET, link, NOW).unwrap();
    let signature = signed.rsplit_once("pomerium_signature=").unwrap().1.to_owned();
    let assertion = SigningKey::derived(&[1; 32]).sign(&json!({"exp": exp})).unwrap();
    let derived = |purpose: &str| hs256_sign(&kdf::derive(&SECRET, purpose), &json!({"exp": exp}));
    vec![
        ("an empty one", String::new()),
        ("garbage", "x".into()),
        ("another secret", service_token::sign(&[8; 32], NOW)),
        ("an expired one", service_token::sign(&SECRET, NOW - 3600)),
        (
            "a claim too many",
            hs256_sign(&SECRET, &json!({"exp": exp, "iat": NOW})),
        ),
        ("no claim", hs256_sign(&SECRET, &json!({}))),
        (
            "a service account",
            hs256_sign(
                &SECRET,
                &json!({"jti": "sa", "sub": "u1", "iat": 0, "nbf": 0, "exp": exp}),
            ),
        ),
        (
            "a service account without end",
            hs256_sign(&SECRET, &json!({"jti": "sa", "sub": "u1", "iat": 0, "nbf": 0})),
        ),
        ("a session", handle.encode(&SECRET)),
        ("an assertion", assertion),
        ("a signed link", signed),
        ("the signature of a link", signature),
        (
            "an enrolment",
            secure_token::seal_text(&SECRET, &[0; 16], exp * 1000),
        ),
        ("the key at rest", derived(crate::AT_REST)),
        ("a key of devices", derived("pomerium device: challenge")),
        ("a key of forms", derived("pomerium sign-in: form token")),
        (
            "the secret itself",
            pomerium_crypto::encoding::base64_encode(&SECRET),
        ),
        // {"alg":"none"} with the right claim.
        (
            "no signature",
            format!(
                "eyJhbGciOiJub25lIn0.{}.",
                pomerium_crypto::encoding::base64url_encode(format!("{{\"exp\":{exp}}}").as_bytes())
            ),
        ),
    ]
}

fn call(path: &str, header: Option<(&str, String)>) -> Request<Full<bytes::Bytes>> {
    let mut request = Request::post(path).header("content-type", "application/grpc");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    // What every message can be.
    request.body(Full::new(framed(b""))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_takes_its_own_token_only() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let server = Server::start(MemoryStore::new(), clock.clone());
    server.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let before = server.versions().await.unwrap();
    let (address, _running) = serve(services(server.clone() as Arc<dyn Databroker>, clock)).await;
    let mut http = Http2::connect(address).await;
    let calls = calls();
    assert!(calls.len() > 45, "{calls:?}");
    for path in &calls {
        let open = OPEN.contains(&path.as_str());
        let mut tried: Vec<(&str, Option<(&str, String)>)> = vec![("none", None)];
        for (what, token) in foreign() {
            tried.push((what, Some(("jwt", token.clone()))));
            tried.push((what, Some(("authorization", format!("Bearer Pomerium-{token}")))));
            tried.push((what, Some(("authorization", format!("Pomerium {token}")))));
            tried.push((what, Some(("authorization", format!("Bearer {token}")))));
        }
        let good = service_token::sign(&SECRET, NOW);
        tried.push((
            "a good one under another name",
            Some(("x-pomerium-authorization", good.clone())),
        ));
        tried.push((
            "a good one as a password",
            Some(("authorization", format!("Basic {good}"))),
        ));
        for (what, header) in tried {
            let headers = http.head(call(path, header)).await;
            let refused = headers.get("grpc-status").is_some_and(|status| status == "16");
            assert_eq!(refused, !open, "{path} with {what}");
            assert_eq!(headers["x-pomerium-version"], "1.2.3-test");
        }
    }
    assert_eq!(
        server.versions().await.unwrap(),
        before,
        "nothing came of any of them"
    );
    assert!(server.get(CATS, "tom").await.is_ok());
}

#[tokio::test]
async fn a_good_token_opens_every_call_in_each_of_its_places() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let server = Server::start(MemoryStore::new(), clock.clone());
    let (address, _running) = serve(services(server as Arc<dyn Databroker>, clock)).await;
    let mut http = Http2::connect(address).await;
    let token = service_token::sign(&SECRET, NOW);
    for path in &calls() {
        for (name, value) in [
            ("jwt", token.clone()),
            ("authorization", format!("Bearer Pomerium-{token}")),
            ("authorization", format!("Pomerium {token}")),
            ("authorization", format!("Bearer {token}")),
        ] {
            let headers = http.head(call(path, Some((name, value)))).await;
            let status = headers
                .get("grpc-status")
                .map_or("", |status| status.to_str().unwrap());
            // 12 would be a call that is not there; one is there to say that it is not supported.
            let there = status != "12" || path.ends_with("/SetCheckpoint");
            assert!(status != "16" && there, "{path} with {name}: {status}");
        }
    }
}

/// Two tokens, of which one is good: which one counts must not depend on who reads them.
#[tokio::test]
async fn of_two_tokens_neither_counts() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let server = Server::start(MemoryStore::new(), clock.clone());
    let (address, _running) = serve(services(server as Arc<dyn Databroker>, clock)).await;
    let mut http = Http2::connect(address).await;
    let good = service_token::sign(&SECRET, NOW);
    for (name, bad) in [("jwt", "x"), ("authorization", "Bearer x")] {
        let good = if name == "jwt" {
            good.clone()
        } else {
            format!("Bearer {good}")
        };
        for pair in [[good.as_str(), bad], [bad, good.as_str()]] {
            let request = Request::post("/databroker.DataBrokerService/ServerInfo")
                .header("content-type", "application/grpc")
                .header(name, pair[0])
                .header(name, pair[1]);
            let request = request.body(Full::new(framed(b""))).unwrap();
            assert_eq!(http.head(request).await["grpc-status"], "16");
        }
    }
    // The first place decides, as it does for the original.
    let request = Request::post("/databroker.DataBrokerService/ServerInfo")
        .header("content-type", "application/grpc")
        .header("jwt", "x")
        .header("authorization", format!("Bearer {good}"));
    let request = request.body(Full::new(framed(b""))).unwrap();
    assert_eq!(http.head(request).await["grpc-status"], "16");
}

/// And the other way round: the token of services opens nothing else.
#[test]
fn the_token_of_services_is_nothing_else() {
    let token = service_token::sign(&SECRET, NOW);
    assert!(
        Handle::decode(&SECRET, &token).is_err(),
        "no session, no service account"
    );
    let link = format!("https://authenticate.example.com/?pomerium_signature={token}");
    assert!(signed_url::verify(&SECRET, &link, NOW).is_err());
    assert!(secure_token::open_text(&SECRET, &token, NOW * 1000).is_err());
}

#[tokio::test]
async fn without_a_secret_nobody_is_let_in() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let server = Server::start(MemoryStore::new(), clock.clone());
    let services = crate::grpc::Services {
        shared: None,
        ..services(server as Arc<dyn Databroker>, clock)
    };
    let (address, _running) = serve(services).await;
    let mut http = Http2::connect(address).await;
    for token in [
        service_token::sign(&SECRET, NOW),
        service_token::sign(&[0; 32], NOW),
    ] {
        let request = call("/databroker.DataBrokerService/ServerInfo", Some(("jwt", token)));
        assert_eq!(http.head(request).await["grpc-status"], "14");
    }
}

#[tokio::test]
async fn what_is_not_listed_is_not_there() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    let server = Server::start(MemoryStore::new(), clock.clone());
    let (address, _running) = serve(services(server as Arc<dyn Databroker>, clock)).await;
    let mut http = Http2::connect(address).await;
    let token = service_token::sign(&SECRET, NOW);
    let paths: BTreeSet<&str> = [
        "/envoy.service.auth.v3.Authorization/Check",
        "/databroker.DataBrokerService",
        "/databroker.DataBrokerService/Get/",
        "//databroker.DataBrokerService/Get",
        "/databroker.DataBrokerService/./Get",
        "/DATABROKER.DataBrokerService/Get",
        "/pomerium.config.ConfigService/",
        "/pomerium.config.ConfigService/getServerInfo",
        "/",
        "/grpc.health.v1.Health/../databroker.DataBrokerService/Get",
    ]
    .into();
    for path in paths {
        let headers = http.head(call(path, Some(("jwt", token.clone())))).await;
        assert_eq!(headers["grpc-status"], "12", "{path}");
    }
}
