//! What is open ends when it may not be open any more, not only when somebody asks again (Pomerium 2021: a WebSocket
//! outlived its session; Teleport, Boundary: connections outlived the membership they were granted by). Each record that a
//! decision is made of is changed under an open WebSocket, and time passes under others; what still may goes on.

use anyhow::{Result, ensure};
use futures_util::{SinkExt, StreamExt};
use jiff::SignedDuration;
use pomerium_api::clock::{Clock as _, SystemClock};
use pomerium_api::databroker::Record;
use pomerium_api::pb::device::{Credential, Enrollment};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::session::session::{DeviceCredential, device_credential};
use pomerium_api::pb::user::ServiceAccount;
use pomerium_api::records::{struct_record, to_proto_time, to_record, to_tombstone};
use pomerium_testing::within;
use pomerium_tests::inside::{Inside, directory_user, session, user};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TcpStream>;

async fn open(inside: &Inside, name: &str, id: &str) -> Result<Socket> {
    let (address, token) = inside.door(id);
    let mut request = format!("ws://{name}.example.com/ws").into_client_request()?;
    request
        .headers_mut()
        .insert("x-pomerium-authorization", token.parse()?);
    request.headers_mut().insert("x-team", "red".parse()?);
    let mut socket = client_async(request, TcpStream::connect(address).await?).await?.0;
    echoes(&mut socket).await?;
    Ok(socket)
}

async fn echoes(socket: &mut Socket) -> Result<()> {
    socket.send(Message::text("still here")).await?;
    let answer = within("an echo", socket.next()).await?;
    ensure!(
        answer
            .transpose()?
            .is_some_and(|message| message.to_string() == "still here")
    );
    Ok(())
}

async fn ends(what: &str, socket: &mut Socket) -> Result<()> {
    within(what, async { while let Some(Ok(_)) = socket.next().await {} }).await
}

fn when(criterion: &Value) -> Value {
    json!([{ "allow": { "and": [criterion] } }])
}

fn approved(by: &str) -> Record {
    to_record(&Enrollment {
        id: "e1".into(),
        user_id: "u1".into(),
        approved_by: by.into(),
        ..Enrollment::default()
    })
}

fn everything() -> Vec<Record> {
    let shown = DeviceCredential {
        type_id: "any".into(),
        credential: Some(device_credential::Credential::Id("c1".into())),
    };
    vec![
        user("u1", "user@example.com"),
        user("u2", "other@example.com"),
        directory_user("u1", &["g1"]),
        directory_user("u2", &["g1"]),
        struct_record("example.com/Asset", "u1", &json!({ "id": "u1", "level": 3 })),
        to_record(&Credential {
            id: "c1".into(),
            type_id: "any".into(),
            enrollment_id: "e1".into(),
            user_id: "u1".into(),
            ..Credential::default()
        }),
        approved("admin"),
        to_record(&Session {
            device_credentials: vec![shown],
            ..session("s1", "u1", &json!({}))
        }),
        to_record(&session("s2", "u2", &json!({}))),
        to_record(&account()),
    ]
}

fn account() -> ServiceAccount {
    ServiceAccount {
        id: "a1".into(),
        user_id: "u1".into(),
        ..ServiceAccount::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_ends_when_a_record_it_was_judged_by_changes_and_no_other_does() -> Result<()> {
    let routes = [
        ("group", when(&json!({ "groups": "g1" }))),
        ("email", when(&json!({ "email": "user@example.com" }))),
        ("device", when(&json!({ "device": { "approved": true } }))),
        (
            "asset",
            when(&json!({ "record": { "type": "example.com/Asset", "field": "level", ">=": 3 } })),
        ),
        ("any", when(&json!({ "authenticated_user": true }))),
    ];
    let inside = Inside::start(&routes, json!({})).await?;
    inside.put(everything()).await?;
    let mut others = open(&inside, "group", "s2").await?;
    let mut any = open(&inside, "any", "s1").await?;
    for (route, change) in [
        ("group", directory_user("u1", &["g2"])),
        ("device", approved("")),
        (
            "asset",
            struct_record("example.com/Asset", "u1", &json!({ "id": "u1", "level": 2 })),
        ),
        ("email", user("u1", "renamed@example.com")),
    ] {
        let mut socket = open(&inside, route, "s1").await?;
        // Something else changes first.
        inside
            .put(vec![directory_user("u3", &[route]), user("u3", route)])
            .await?;
        echoes(&mut socket).await?;
        inside.put(vec![change]).await?;
        ends(route, &mut socket).await?;
        echoes(&mut any).await?;
        echoes(&mut others).await?;
    }
    inside
        .put(vec![to_tombstone(
            &session("s1", "u1", &json!({})),
            SystemClock.now(),
        )])
        .await?;
    ends("the session", &mut any).await?;
    echoes(&mut others).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_of_a_service_account_ends_with_it() -> Result<()> {
    let inside = Inside::start(
        &[("any", when(&json!({ "authenticated_user": true })))],
        json!({}),
    )
    .await?;
    inside.put(everything()).await?;
    let mut socket = open(&inside, "any", "a1").await?;
    let mut other = open(&inside, "any", "s1").await?;
    inside
        .put(vec![to_tombstone(&account(), SystemClock.now())])
        .await?;
    ends("the service account", &mut socket).await?;
    echoes(&mut other).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_ends_when_its_time_is_over() -> Result<()> {
    let soon = SystemClock.now() + SignedDuration::from_secs(4);
    let routes = [
        ("dated", when(&json!({ "date": { "before": soon.to_string() } }))),
        ("fresh", when(&json!({ "authentication": { "max_age": "4s" } }))),
        ("any", when(&json!({ "authenticated_user": true }))),
    ];
    let inside = Inside::start(&routes, json!({})).await?;
    inside.put(everything()).await?;
    let now = SystemClock.now().as_second();
    inside
        .put(vec![
            to_record(&session("fresh", "u1", &json!({ "auth_time": now }))),
            to_record(&Session {
                expires_at: Some(to_proto_time(soon)),
                ..session("short", "u1", &json!({}))
            }),
        ])
        .await?;
    let mut any = open(&inside, "any", "s1").await?;
    let mut dated = open(&inside, "dated", "s1").await?;
    let mut fresh = open(&inside, "fresh", "fresh").await?;
    let mut short = open(&inside, "any", "short").await?;
    ends("the date", &mut dated).await?;
    ends("the age of the sign-in", &mut fresh).await?;
    ends("the end of the session", &mut short).await?;
    echoes(&mut any).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_about_headers_still_holds_for_a_socket_that_is_judged_again() -> Result<()> {
    let inside = Inside::start(&[("scripted", json!([]))], json!({})).await?;
    inside.put(everything()).await?;
    let script = "allow { input.http.headers[\"X-Team\"] == \"red\"; get_databroker_record(\"pomerium.io/DirectoryUser\", input.session.user_id).group_ids[_] == \"g1\" }";
    inside.reload(|config| config["routes"][0]["rego"] = script.into())?;
    let mut socket = open(&inside, "scripted", "s1").await?;
    inside.put(vec![directory_user("u1", &["g1", "g2"])]).await?;
    echoes(&mut socket).await?;
    inside.put(vec![directory_user("u1", &["g2"])]).await?;
    ends("the group that the script asks for", &mut socket).await
}
