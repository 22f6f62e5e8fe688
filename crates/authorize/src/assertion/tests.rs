//! What is signed, when it is signed anew, and what is carried on.

use std::collections::HashMap;

use http::HeaderMap;
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::synced::{Confirmed, Parts, ServiceAccountEntry, SessionEntry, UserEntry};
use prost_types::value::Kind;
use serde_json::{Value, json};

use super::*;
use crate::session::Records;

#[derive(Clone)]
struct World {
    session: SessionEntry,
    target: Option<SessionEntry>,
    user: Option<UserEntry>,
}

impl Records for World {
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>> {
        self.target
            .iter()
            .chain([&self.session])
            .find(|entry| entry.session.id == id)
            .cloned()
            .map(Arc::new)
    }

    fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        self.user
            .iter()
            .find(|entry| entry.user.id == id)
            .cloned()
            .map(Arc::new)
    }

    fn service_account(&self, _: &str) -> Option<Arc<ServiceAccountEntry>> {
        None
    }
}

fn list(values: &[Value]) -> prost_types::ListValue {
    let value = |value: &Value| prost_types::Value {
        kind: Some(match value {
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
            Value::Bool(value) => Kind::BoolValue(*value),
            Value::String(text) => Kind::StringValue(text.clone()),
            _ => Kind::NullValue(0),
        }),
    };
    prost_types::ListValue {
        values: values.iter().map(value).collect(),
    }
}

fn world() -> World {
    let claims = HashMap::from([
        ("groups".to_owned(), list(&[json!("dev"), json!(7), json!(null)])),
        ("name".to_owned(), list(&[json!("Test"), json!("User")])),
        ("level".to_owned(), list(&[json!(1_234_567)])),
        ("odd".to_owned(), list(&[json!("a\r\nx-admin: 1")])),
    ]);
    let session = Session {
        id: "s1".into(),
        user_id: "u1".into(),
        claims,
        ..Session::default()
    };
    let claims = HashMap::from([
        ("level".to_owned(), list(&[json!(1)])),
        ("team".to_owned(), list(&[json!("é")])),
    ]);
    let user = User {
        id: "u1".into(),
        email: "user@example.com".into(),
        claims,
        ..User::default()
    };
    World {
        session: SessionEntry {
            version: 5,
            server_version: 1,
            session,
            confirmed: Confirmed::default(),
            left_out: Parts::NONE,
        },
        target: None,
        user: Some(UserEntry {
            version: 4,
            server_version: 1,
            user,
            confirmed: Confirmed::default(),
        }),
    }
}

fn principal(world: &World) -> Principal {
    Principal::of_session(world, Arc::new(world.session.clone()), &"groups".into()).unwrap()
}

fn claim_headers(names: &[(&'static str, &str)]) -> ClaimHeaders {
    names
        .iter()
        .map(|(header, claim)| (HeaderName::from_static(header), (*claim).to_owned()))
        .collect()
}

fn route(claim_headers: &ClaimHeaders) -> AssertionRoute<'_> {
    AssertionRoute {
        route_id: "r1",
        hostname: "app.example.com",
        issuer_format_uri: false,
        claim_headers,
        groups_filter: &None,
    }
}

fn signer() -> AssertionSigner {
    AssertionSigner::new(Arc::new(SigningKey::derived(&[3; 32])))
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn payload(signer: &AssertionSigner, headers: &IdentityHeaders) -> Value {
    signer.key().verify_own(headers.assertion_str()).unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs(seconds)
}

#[test]
fn the_assertion_says_who_it_is() {
    let (signer, world) = (signer(), world());
    let claims = claim_headers(&[("x-level", "level"), ("x-team", "team"), ("x-none", "none")]);
    let headers = signer
        .assertion(Some(&principal(&world)), &route(&claims), now())
        .unwrap();
    let mut payload = payload(&signer, &headers);
    let jti = payload.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(
        uuid::Uuid::parse_str(jti.as_str().unwrap())
            .unwrap()
            .get_version_num(),
        4
    );
    assert_eq!(
        payload,
        json!({
            "iss": "app.example.com", "aud": "app.example.com", "iat": now().as_second(), "exp": now().as_second() + 300,
            "sub": "u1", "user": "u1", "email": "user@example.com", "groups": ["dev", "7"], "sid": "s1",
            "name": "Test,User", "level": "1.234567e+06", "team": "é"
        })
    );
}

#[test]
fn claim_headers_overwrite_even_when_the_claim_is_missing() {
    let (signer, world) = (signer(), world());
    let names = [
        ("x-groups", "groups"),
        ("x-email", "email"),
        ("x-none", "none"),
        ("x-odd", "odd"),
        ("x-team", "team"),
    ];
    let claims = claim_headers(&names);
    let headers = signer
        .assertion(Some(&principal(&world)), &route(&claims), now())
        .unwrap();
    let values: Vec<_> = headers
        .claims
        .iter()
        .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    assert_eq!(values, ["dev,7", "user@example.com", "", "", "é"]);
}

#[test]
fn base_claims_cannot_be_replaced() {
    let (signer, mut world) = (signer(), world());
    world
        .session
        .session
        .claims
        .insert("sub".into(), list(&[json!("root")]));
    let claims = claim_headers(&[("x-sub", "sub")]);
    let headers = signer
        .assertion(Some(&principal(&world)), &route(&claims), now())
        .unwrap();
    assert_eq!(payload(&signer, &headers)["sub"], "u1");
    assert_eq!(headers.claims[0].1, "u1");
}

#[test]
fn nobody_gets_empty_fields() {
    let (signer, claims) = (signer(), claim_headers(&[("x-email", "email")]));
    let mut route = route(&claims);
    route.issuer_format_uri = true;
    let headers = signer.assertion(None, &route, now()).unwrap();
    let payload = payload(&signer, &headers);
    assert_eq!(
        (&payload["sub"], &payload["sid"], &payload["groups"]),
        (&json!(""), &json!(""), &json!([]))
    );
    assert_eq!(payload["iss"], "https://app.example.com/");
    assert_eq!(headers.claims[0].1, "");
}

#[test]
fn an_assertion_is_used_for_less_than_a_minute() {
    let (signer, world, claims) = (signer(), world(), claim_headers(&[]));
    let sign = |at| {
        signer
            .assertion(Some(&principal(&world)), &route(&claims), at)
            .unwrap()
    };
    let first = sign(now());
    assert!(Arc::ptr_eq(&first, &sign(later(59))));
    let second = sign(later(60));
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(
        !Arc::ptr_eq(&second, &sign(now())),
        "a clock that goes back makes a new one"
    );
}

/// Flips each input of the cache key, one at a time: none may be answered from the cache.
#[test]
fn every_input_counts() {
    let signer = signer();
    let claims = claim_headers(&[("x-level", "level")]);
    let sign = |world: &World, route: &AssertionRoute<'_>| {
        signer.assertion(Some(&principal(world)), route, now()).unwrap()
    };
    let base = sign(&world(), &route(&claims));
    assert!(Arc::ptr_eq(
        &base,
        &sign(&world(), &route(&claim_headers(&[("x-level", "level")])))
    ));

    type Mutation = (&'static str, fn(&mut World));
    let mutations: [Mutation; 8] = [
        ("session version", |world| world.session.version += 1),
        ("session database", |world| world.session.server_version += 1),
        ("session id", |world| world.session.session.id = "s2".into()),
        ("user version", |world| world.user.as_mut().unwrap().version += 1),
        ("user database", |world| {
            world.user.as_mut().unwrap().server_version += 1
        }),
        ("user gone", |world| world.user = None),
        ("user id", |world| world.session.session.user_id = "u2".into()),
        ("impersonation", |world| {
            let mut target = world.session.clone();
            target.session.id = "t1".into();
            target.version = 3;
            world.target = Some(target);
            world.session.session.impersonate_session_id = Some("t1".into());
        }),
    ];
    for (what, mutate) in mutations {
        let mut world = world();
        mutate(&mut world);
        assert!(!Arc::ptr_eq(&base, &sign(&world, &route(&claims))), "{what}");
    }

    let others = [
        ("no claim header", claim_headers(&[])),
        ("other header", claim_headers(&[("x-other", "level")])),
        ("other claim", claim_headers(&[("x-level", "team")])),
        (
            "one more",
            claim_headers(&[("x-level", "level"), ("x-team", "team")]),
        ),
    ];
    for (what, other) in &others {
        assert!(!Arc::ptr_eq(&base, &sign(&world(), &route(other))), "{what}");
    }
    let mut other = route(&claims);
    other.route_id = "r2";
    assert!(!Arc::ptr_eq(&base, &sign(&world(), &other)), "route");
    let mut other = route(&claims);
    other.hostname = "other.example.com";
    assert!(!Arc::ptr_eq(&base, &sign(&world(), &other)), "host");
    let mut other = route(&claims);
    other.issuer_format_uri = true;
    assert!(!Arc::ptr_eq(&base, &sign(&world(), &other)), "issuer");
    let nobody = signer.assertion(None, &route(&claims), now()).unwrap();
    assert!(!Arc::ptr_eq(&base, &nobody), "nobody");
}

#[test]
fn only_our_own_assertions_are_carried_on() {
    let (signer, world, claims) = (signer(), world(), claim_headers(&[]));
    let is_ours = |host: &str| host == "app.example.com";
    let ours = signer
        .assertion(Some(&principal(&world)), &route(&claims), now())
        .unwrap()
        .assertion
        .clone();
    let carried = |headers: &[(HeaderName, &HeaderValue)], at| {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.clone(), (*value).clone()))
            .collect();
        signer.assertion_for(&map, &is_ours, at)
    };
    assert_eq!(carried(&[(ASSERTION, &ours)], now()).as_ref(), Some(&ours));
    assert_eq!(carried(&[(ASSERTION, &ours)], later(299)).as_ref(), Some(&ours));
    assert_eq!(
        carried(&[(ASSERTION, &ours)], later(300)),
        None,
        "expired, though remembered"
    );
    assert_eq!(carried(&[], now()), None);

    let foreign = AssertionSigner::new(Arc::new(SigningKey::random()));
    let foreign = foreign
        .assertion(Some(&principal(&world)), &route(&claims), now())
        .unwrap()
        .assertion
        .clone();
    assert_eq!(
        carried(&[(ASSERTION, &foreign)], now()),
        None,
        "signed by somebody else"
    );
    assert_eq!(
        carried(&[(ASSERTION_FOR, &foreign), (ASSERTION, &ours)], now()),
        None,
        "the first header counts"
    );
    assert_eq!(
        carried(&[(ASSERTION_FOR, &ours), (ASSERTION, &foreign)], now()).as_ref(),
        Some(&ours)
    );

    let mut elsewhere = route(&claims);
    elsewhere.hostname = "gone.example.com";
    let elsewhere = signer
        .assertion(None, &elsewhere, now())
        .unwrap()
        .assertion
        .clone();
    assert_eq!(
        carried(&[(ASSERTION, &elsewhere)], now()),
        None,
        "no host of ours"
    );

    let mut twice = HeaderMap::new();
    twice.append(ASSERTION, ours.clone());
    twice.append(ASSERTION, ours);
    assert_eq!(signer.assertion_for(&twice, &is_ours, now()), None, "two of them");
}

#[test]
fn tokens_of_other_uses_are_not_carried_on() {
    let signer = signer();
    let is_ours = |_: &str| true;
    let mut headers = HeaderMap::new();
    for claims in [
        json!({"aud": "app.example.com"}),
        json!({"exp": i64::MAX}),
        json!({"aud": ["a"], "exp": i64::MAX}),
    ] {
        let token = signer.key().sign(&claims).unwrap();
        headers.insert(ASSERTION, token.parse().unwrap());
        assert_eq!(signer.assertion_for(&headers, &is_ours, now()), None, "{claims}");
    }
    let shared =
        pomerium_crypto::jwt::hs256_sign(&[3; 32], &json!({"aud": "app.example.com", "exp": i64::MAX}));
    headers.insert(ASSERTION, shared.parse().unwrap());
    assert_eq!(signer.assertion_for(&headers, &is_ours, now()), None);
}
