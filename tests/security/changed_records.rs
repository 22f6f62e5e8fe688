//! What a decision or an assertion is made of counts as it is now, never as it was when something was remembered
//! (Pomerium CVE-2021-41230; oathkeeper GHSA-w9mr-28mw-j8hg, a cache without one of its inputs in the key): each record
//! is changed in turn, and both the decision and the assertion follow at the next request.

use anyhow::Result;
use pomerium_api::databroker::Record;
use pomerium_api::pb::device::{Credential, Enrollment};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::session::session::{DeviceCredential, device_credential};
use pomerium_api::records::{DIRECTORY_USER, struct_record, to_record};
use pomerium_tests::inside::{Inside, directory_group, directory_user, session, user};
use serde_json::{Value, json};

fn when(criterion: &Value) -> Value {
    json!([{ "allow": { "and": [criterion] } }])
}

fn own_session(claims: &Value) -> Record {
    to_record(&Session {
        device_credentials: vec![DeviceCredential {
            type_id: "any".into(),
            credential: Some(device_credential::Credential::Id("c1".into())),
        }],
        ..session("s1", "u1", claims)
    })
}

fn credential(enrollment_id: &str, user_id: &str) -> Record {
    to_record(&Credential {
        id: "c1".into(),
        type_id: "any".into(),
        enrollment_id: enrollment_id.into(),
        user_id: user_id.into(),
        ..Credential::default()
    })
}

fn enrollment(approved_by: &str) -> Record {
    to_record(&Enrollment {
        id: "e1".into(),
        user_id: "u1".into(),
        approved_by: approved_by.into(),
        ..Enrollment::default()
    })
}

fn directory_email(email: &str) -> Record {
    struct_record(
        DIRECTORY_USER,
        "u1",
        &json!({ "group_ids": ["g1"], "email": email }),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_flips_the_decision_at_once() -> Result<()> {
    let routes = [
        ("claim", when(&json!({ "claim/role": "admin" }))),
        ("email", when(&json!({ "email": "good@example.com" }))),
        ("group", when(&json!({ "groups": "g2" }))),
        ("named", when(&json!({ "groups/name": "Second" }))),
        ("device", when(&json!({ "device": { "approved": true } }))),
    ];
    let inside = Inside::start(&routes, json!({})).await?;
    let first = [
        user("u1", "user@example.com"),
        own_session(&json!({})),
        directory_user("u1", &["g1"]),
        directory_group("g1", "First"),
        credential("e1", "u1"),
        enrollment(""),
    ];
    inside.put(first.to_vec()).await?;
    for (name, change, back) in [
        (
            "claim",
            own_session(&json!({ "role": "admin" })),
            own_session(&json!({})),
        ),
        (
            "email",
            user("u1", "good@example.com"),
            user("u1", "user@example.com"),
        ),
        (
            "email",
            directory_email("good@example.com"),
            directory_user("u1", &["g1"]),
        ),
        (
            "group",
            directory_user("u1", &["g2"]),
            directory_user("u1", &["g1"]),
        ),
        (
            "named",
            directory_group("g1", "Second"),
            directory_group("g1", "First"),
        ),
        ("device", enrollment("admin"), enrollment("")),
    ] {
        for round in 0..2 {
            assert_ne!(inside.status(name, "s1").await?, 200, "{name}, {round}: at first");
            inside.put(vec![change.clone()]).await?;
            assert_eq!(inside.status(name, "s1").await?, 200, "{name}, {round}: changed");
            inside.put(vec![back.clone()]).await?;
        }
        assert_ne!(inside.status(name, "s1").await?, 200, "{name}: at last");
    }
    // An approved device that turns out to be somebody else's.
    inside.put(vec![enrollment("admin")]).await?;
    assert_eq!(inside.status("device", "s1").await?, 200);
    inside.put(vec![credential("e1", "u2")]).await?;
    assert_ne!(inside.status("device", "s1").await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_makes_another_assertion() -> Result<()> {
    let routes = [("any", when(&json!({ "authenticated_user": true })))];
    let inside = Inside::start(&routes, json!({})).await?;
    inside
        .put(vec![
            user("u1", "user@example.com"),
            own_session(&json!({ "name": "First" })),
            directory_user("u1", &["g1"]),
        ])
        .await?;
    let before = inside.assertion("any", "s1").await?;
    let same = inside.assertion("any", "s1").await?;
    assert_eq!(before["jti"], same["jti"], "signed once for all of its inputs");
    let mut known = vec![before["jti"].clone()];
    for (change, claim, value) in [
        (own_session(&json!({ "name": "Second" })), "name", json!("Second")),
        (user("u1", "new@example.com"), "email", json!("new@example.com")),
        (directory_group("g1", "One"), "groups", json!(["g1", "One"])),
        (directory_group("g1", "Uno"), "groups", json!(["g1", "Uno"])),
        (
            directory_email("directory@example.com"),
            "email",
            json!("directory@example.com"),
        ),
        (directory_email(""), "email", json!("")),
        (directory_user("u1", &["g3"]), "groups", json!(["g3"])),
    ] {
        inside.put(vec![change]).await?;
        let claims = inside.assertion("any", "s1").await?;
        assert_eq!(claims[claim], value, "{claims}");
        assert!(!known.contains(&claims["jti"]), "an old assertion: {claims}");
        known.push(claims["jti"].clone());
    }
    Ok(())
}
