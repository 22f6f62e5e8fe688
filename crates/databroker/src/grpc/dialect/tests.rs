//! The management service as its callers reach it: four ways to speak, and what they say of errors.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Builder;
use http::{Request, StatusCode};
use http_body_util::Full;
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_api::databroker::Databroker;
use pomerium_api::described::descriptors;
use pomerium_crypto::encoding::{base64_decode, base64_encode, base64url_encode};
use pomerium_crypto::service_token;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::grpc::tests::support::{Http2, Reply, Running, SECRET, framed, http1, serve, services};
use crate::{MemoryStore, Server};

const SERVICE: &str = "/pomerium.config.ConfigService";

async fn start() -> (SocketAddr, Running) {
    let clock = Arc::new(SystemClock);
    let server = Server::start(MemoryStore::new(), clock.clone());
    serve(services(server as Arc<dyn Databroker>, clock)).await
}

fn token() -> String {
    service_token::sign(&SECRET, SystemClock.now().as_second())
}

fn post(call: &str, content_type: &str) -> Builder {
    Request::post(format!("{SERVICE}/{call}"))
        .header("content-type", content_type)
        .header("authorization", format!("Bearer Pomerium-{}", token()))
}

fn body(request: Builder, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request.body(Full::new(body.into())).unwrap()
}

fn connect(call: &str, message: &Value) -> Request<Full<Bytes>> {
    let request = post(call, "application/json").header("connect-protocol-version", "1");
    body(request, message.to_string())
}

/// The message of a call in its binary form.
fn binary(message: &str, json: &Value) -> Vec<u8> {
    let descriptor = descriptors()
        .get_message_by_name(&format!("pomerium.config.{message}"))
        .unwrap();
    DynamicMessage::deserialize(descriptor, json)
        .unwrap()
        .encode_to_vec()
}

fn parsed(message: &str, bytes: &[u8]) -> Value {
    let descriptor = descriptors()
        .get_message_by_name(&format!("pomerium.config.{message}"))
        .unwrap();
    let message = DynamicMessage::decode(descriptor, bytes).unwrap();
    serde_json::to_value(&message).unwrap()
}

/// The message of a framed body, and what follows it.
fn unframed(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
    (&bytes[5..5 + length], &bytes[5 + length..])
}

#[tokio::test]
async fn each_way_to_speak_says_the_same() {
    let (address, _running) = start().await;
    let mut http2 = Http2::connect(address).await;
    let policy = json!({"policy": {"id": "p", "name": "n", "description": "ä"}});
    let created = http1(address, connect("CreatePolicy", &policy)).await;
    assert_eq!(created.status, 200, "{:?}", created.body);
    assert_eq!(created.header("content-type"), "application/json");
    assert_eq!(created.header("x-pomerium-version"), "1.2.3-test");
    assert_eq!(created.header("cache-control"), "no-store");
    let expected = created.json();
    assert_eq!(expected["policy"]["description"], "ä");

    let ask = json!({"id": "p"});
    let message = binary("GetPolicyRequest", &ask);
    let by_json = http2.send(connect("GetPolicy", &ask)).await;
    assert_eq!(by_json.json(), expected);
    let by_proto = http1(
        address,
        body(post("GetPolicy", "application/proto"), message.clone()),
    )
    .await;
    assert_eq!(by_proto.header("content-type"), "application/proto");
    assert_eq!(parsed("GetPolicyResponse", &by_proto.body), expected);

    for content_type in ["application/grpc", "application/grpc+proto"] {
        let by_grpc = http2
            .send(body(post("GetPolicy", content_type), framed(&message)))
            .await;
        assert_eq!(by_grpc.grpc_status(), "0");
        assert_eq!(parsed("GetPolicyResponse", unframed(&by_grpc.body).0), expected);
    }
    let json_message = framed(ask.to_string().as_bytes());
    let by_grpc = http2
        .send(body(post("GetPolicy", "application/grpc+json"), json_message))
        .await;
    assert_eq!(
        serde_json::from_slice::<Value>(unframed(&by_grpc.body).0).unwrap(),
        expected
    );

    for text in [false, true] {
        let content_type = if text {
            "application/grpc-web-text"
        } else {
            "application/grpc-web+proto"
        };
        let sent = framed(&message);
        let sent = if text {
            Bytes::from(base64_encode(&sent))
        } else {
            sent
        };
        let reply = http1(address, body(post("GetPolicy", content_type), sent)).await;
        assert_eq!(reply.status, 200);
        let received = match text {
            true => base64_decode(std::str::from_utf8(&reply.body).unwrap()).unwrap(),
            false => reply.body.to_vec(),
        };
        let (answer, rest) = unframed(&received);
        assert_eq!(parsed("GetPolicyResponse", answer), expected);
        assert_eq!(rest[0], 0x80);
        assert_eq!(unframed(rest).0, b"grpc-status: 0\r\n");
    }

    let query = [
        "connect=v1&encoding=json&message=%7B%22id%22%3A%22p%22%7D".to_owned(),
        format!(
            "encoding=json&base64=1&message={}",
            base64url_encode(ask.to_string().as_bytes())
        ),
        format!(
            "connect=v1&encoding=proto&base64=1&message={}",
            base64url_encode(&message)
        ),
    ];
    for query in query {
        let request = Request::get(format!("{SERVICE}/GetPolicy?{query}")).header("jwt", token());
        let reply = http1(address, body(request, "")).await;
        let answer = match reply.header("content-type") {
            "application/json" => reply.json(),
            _ => parsed("GetPolicyResponse", &reply.body),
        };
        assert_eq!(answer, expected, "{query}");
    }
    // Names as they are written in the description do as well.
    let snake = json!({"policy": {"id": "p", "originator_id": "me"}, "update_mask": "originatorId"});
    let reply = http1(address, connect("UpdatePolicy", &snake)).await;
    assert_eq!(reply.json()["policy"]["originatorId"], "me");
}

#[tokio::test]
async fn errors_have_their_code_in_every_way_to_speak() {
    let (address, _running) = start().await;
    let mut http2 = Http2::connect(address).await;
    let absent = json!({"id": "nobody"});
    let reply = http1(address, connect("GetRoute", &absent)).await;
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.json(),
        json!({"code": "not_found", "message": "route nobody not found"})
    );
    let message = framed(&binary("GetRouteRequest", &absent));
    let reply = http2
        .send(body(post("GetRoute", "application/grpc"), message.clone()))
        .await;
    assert_eq!((reply.status, reply.grpc_status()), (StatusCode::OK, "5"));
    let reply = http1(address, body(post("GetRoute", "application/grpc-web"), message)).await;
    assert_eq!(reply.status, 200);
    let trailers = String::from_utf8(unframed(&reply.body).0.to_vec()).unwrap();
    assert!(
        reply.body[0] == 0x80 && trailers.contains("grpc-status: 5\r\n"),
        "{trailers}"
    );

    for (call, message, status, code) in [
        ("GetRoute", json!({}), 400, "invalid_argument"),
        (
            "CreateRoute",
            json!({"route": {"from": "x"}}),
            400,
            "invalid_argument",
        ),
        ("UpdateRoute", json!({"route": {"id": "x"}}), 404, "not_found"),
        ("GetRoute", json!({"id": 1}), 400, "invalid_argument"),
        ("GetRoute", json!({"identity": "x"}), 400, "invalid_argument"),
        ("GetRoute", json!([]), 400, "invalid_argument"),
    ] {
        let reply = http1(address, connect(call, &message)).await;
        assert_eq!(reply.status, status, "{call} {message}");
        assert_eq!(reply.json()["code"], code);
    }
    let pair = json!({"keyPair": {"id": "k"}});
    assert_eq!(http1(address, connect("CreateKeyPair", &pair)).await.status, 200);
    let again = http1(address, connect("CreateKeyPair", &pair)).await;
    assert_eq!(
        (again.status.as_u16(), again.json()["code"].as_str()),
        (409, Some("already_exists"))
    );

    let mut stranger = connect("ListRoutes", &json!({}));
    stranger.headers_mut().remove("authorization");
    let reply = http1(address, stranger).await;
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.json(),
        json!({
            "code": "unauthenticated", "message": "unauthenticated",
            "details": [{"type": "google.rpc.ErrorInfo", "value": "CgtNSVNTSU5HX0pXVBIMcG9tZXJpdW0uY29t"}],
        }),
        "the reason, and whose it is"
    );
    let mut open = connect("GetServerInfo", &json!({}));
    open.headers_mut().remove("authorization");
    assert_eq!(http1(address, open).await.status, 200);
    let open = Request::get(format!(
        "{SERVICE}/ListAvailableLogFields?connect=v1&encoding=json&message=%7B%7D"
    ));
    assert_eq!(http1(address, body(open, "")).await.status, 200);
}

#[tokio::test]
async fn calls_made_the_wrong_way_are_told_the_right_one() {
    let (address, _running) = start().await;
    let get = |call: &str| {
        Request::get(format!("{SERVICE}/{call}?encoding=json&message=%7B%7D")).header("jwt", token())
    };
    let reply = http1(address, body(get("CreatePolicy"), "")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("allow")),
        (405, "POST"),
        "a link must not write"
    );
    let put = Request::put(format!("{SERVICE}/GetPolicy"))
        .header("content-type", "application/json")
        .header("jwt", token());
    let reply = http1(address, body(put, "{}")).await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET, POST"));
    let reply = http1(address, body(post("GetPolicy", "text/plain"), "{}")).await;
    assert_eq!(reply.status, 415);
    assert!(reply.header("accept-post").contains("application/json"));
    let reply = http1(address, body(post("GetPolicy", "application/grpc"), framed(b""))).await;
    assert_eq!(reply.status, 505);
    let reply = http1(address, body(post("NoSuchCall", "application/json"), "{}")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()["code"].as_str()),
        (404, Some("unimplemented"))
    );
    let other = Request::post("/databroker.DataBrokerService/ServerInfo")
        .header("content-type", "application/json")
        .header("jwt", token());
    assert_eq!(http1(address, body(other, "{}")).await.status, 501);
    let none = Request::get("/").header("jwt", token());
    assert_eq!(http1(address, body(none, "")).await.status, 404);

    for (header, value, status) in [
        ("connect-protocol-version", "2", 400),
        ("content-encoding", "gzip", 501),
        ("connect-timeout-ms", "soon", 400),
        ("connect-timeout-ms", "12345678901", 400),
        ("connect-timeout-ms", "0", 504),
        ("connect-timeout-ms", "60000", 404),
        ("grpc-timeout", "1x", 400),
    ] {
        let request = post("GetPolicy", "application/json").header(header, value);
        let reply = http1(address, body(request, r#"{"id":"x"}"#)).await;
        assert_eq!(reply.status, status, "{header}: {value}");
    }
    for query in [
        "",
        "encoding=json",
        "encoding=xml&message=%7B%7D",
        "connect=v2&encoding=json&message=%7B%7D",
        "encoding=json&message=%7B%7D&message=%7B%7D",
        "encoding=json&message=%zz",
        "encoding=json&base64=1&message=***",
        "encoding=proto&message=%FF%FF",
    ] {
        let request = Request::get(format!("{SERVICE}/GetPolicy?{query}")).header("jwt", token());
        let reply = http1(address, body(request, "")).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["code"].as_str()),
            (400, Some("invalid_argument")),
            "{query}"
        );
    }
}

#[tokio::test]
async fn frames_that_lie_are_refused() {
    let (address, _running) = start().await;
    let mut http2 = Http2::connect(address).await;
    let message = framed(&binary("GetPolicyRequest", &json!({"id": "p"})));
    let twice = [message.as_ref(), message.as_ref()].concat();
    for (frame, status) in [
        (vec![], "3"),
        (vec![0, 0], "3"),
        (message[..message.len() - 1].to_vec(), "3"),
        (twice, "12"),
        ([&[1], &message[1..]].concat(), "12"),
        (vec![0, 0xff, 0xff, 0xff, 0xff, 1], "8"),
        (framed(b"\xff\xff\xff").to_vec(), "3"),
    ] {
        let reply = http2
            .send(body(post("GetPolicy", "application/grpc"), frame.clone()))
            .await;
        assert_eq!(reply.grpc_status(), status, "{frame:?}");
    }
}

#[tokio::test]
async fn a_message_may_be_so_large_and_no_larger() {
    let (address, _running) = start().await;
    let with = |size: usize| json!({"keyPair": {"id": "large", "name": "x".repeat(size)}});
    let reply = http1(address, connect("CreateKeyPair", &with(3 * 1024 * 1024))).await;
    assert_eq!(reply.status, 200);
    let reply = http1(address, connect("CreateKeyPair", &with(4 * 1024 * 1024))).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()["code"].as_str()),
        (429, Some("resource_exhausted"))
    );
}

#[tokio::test]
async fn hostile_json_is_an_error_of_its_sender() {
    let (address, _running) = start().await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    let nested = format!(r#"{{"filter":{}}}"#, deep(r#"{"a":"#, "}"));
    let ands = format!(r#"{{"filter":{{"$and":{}}}}}"#, deep("[", "]"));
    let shallow = format!(
        r#"{{"filter":{}}}"#,
        r#"{"a":"#.repeat(60) + "1" + &"}".repeat(60)
    );
    for text in [
        nested.as_str(),
        &ands,
        &shallow,
        "",
        "null",
        "{",
        "{} {}",
        "\u{0}",
        r#"{"filter":{"$and":[{"$or":5}]}}"#,
        r#"{"limit":-1}"#,
        r#"{"limit":1e99}"#,
        r#"{"offset":"18446744073709551616"}"#,
        r#"{"orderBy":"\u0000"}"#,
        r#"{"orderBy":"-"}"#,
        r#"{"__proto__":1}"#,
        r#"{"filter":[]}"#,
        r#"{"limit":"1","limit":"2"}"#,
    ] {
        let reply = http1(
            address,
            body(post("ListRoutes", "application/json"), text.to_owned()),
        )
        .await;
        let start: String = text.chars().take(40).collect();
        assert_eq!(reply.status, 400, "{start}");
        assert_eq!(reply.json()["code"], "invalid_argument", "{start}");
    }
    let reply = http1(
        address,
        connect("CreateKeyPair", &json!({"keyPair": {"id": "\0"}})),
    )
    .await;
    assert_eq!(
        (reply.status, &reply.json()["code"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_argument"))
    );
    // Names that are odd but names.
    for id in ["../../etc/passwd", "'; DROP TABLE records; --", "ü\u{202e}", " "] {
        let reply = http1(address, connect("CreateKeyPair", &json!({"keyPair": {"id": id}}))).await;
        assert_eq!(reply.status, 200, "{id:?}");
        let reply = http1(address, connect("GetKeyPair", &json!({"id": id}))).await;
        assert_eq!(reply.json()["keyPair"]["id"], id);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Bytes that look like JSON more often than not.
fn jsonish() -> impl Strategy<Value = Vec<u8>> {
    let token = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "null",
        "true",
        "1",
        "-",
        "1e5",
        "\"route\"",
        "\"policy\"",
        "\"id\"",
        "\"filter\"",
        "\"$or\"",
        "\"$not\"",
        "\"updateMask\"",
        "\"a.b\"",
        "\"from\"",
        "\"to\"",
        "\"timeout\"",
        "\"createdAt\"",
        "\"limit\"",
        "\"orderBy\"",
        "\"9999-99-99T\"",
        "\u{0}",
        "ä",
        "\\",
    ]);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        proptest::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is sent, the answer is one of Connect, and the service answers the next caller.
    #[test]
    fn random_bytes_get_an_answer(bytes in proptest::collection::vec(jsonish(), 1..6), proto in any::<bool>()) {
        block_on(async {
            let (address, _running) = start().await;
            let calls = ["CreateRoute", "ListPolicies", "UpdateSettings", "GetKeyPair", "UpdateServiceAccount", "DeletePolicy"];
            for (bytes, call) in bytes.iter().zip(calls.iter().cycle()) {
                let content_type = if proto { "application/proto" } else { "application/json" };
                let reply = http1(address, body(post(call, content_type), bytes.clone())).await;
                check(&reply, bytes);
            }
            let reply = http1(address, connect("GetServerInfo", &json!({}))).await;
            assert_eq!(reply.status, 200);
        });
    }
}

fn check(reply: &Reply, bytes: &[u8]) {
    assert!(
        [200, 400, 404, 409].contains(&reply.status.as_u16()),
        "{} to {bytes:?}",
        reply.status
    );
    if reply.status != 200 {
        assert!(reply.json()["code"].is_string());
    }
}
