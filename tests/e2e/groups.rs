//! Groups: by directory records that are written while the program runs, else by a claim.

use anyhow::Result;
use pomerium_api::pb::user::ServiceAccount;
use pomerium_api::records::to_record;
use pomerium_tests::inside::{Inside, directory_group, directory_user, gone_directory_user, session, user};
use serde_json::{Value, json};

fn wants(groups: &Value) -> Value {
    json!([{ "allow": { "and": [{ "groups": groups }] } }])
}

async fn inside(more: Value) -> Result<Inside> {
    let routes = [
        ("admins", wants(&json!({ "has": "g1" }))),
        ("claimed", wants(&json!({ "has": "claimed" }))),
        (
            "any",
            json!([{ "allow": { "and": [{ "authenticated_user": true }] } }]),
        ),
    ];
    let inside = Inside::start(&routes, more).await?;
    let claims = json!({ "groups": ["claimed"], "teams": ["g1"] });
    inside
        .put(vec![
            user("u1", "user@example.com"),
            to_record(&session("s1", "u1", &claims)),
        ])
        .await?;
    Ok(inside)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_the_directory_counts_at_the_next_request() -> Result<()> {
    let inside = inside(json!({})).await?;
    assert_eq!(
        (
            inside.status("admins", "s1").await?,
            inside.status("claimed", "s1").await?
        ),
        (403, 200)
    );
    assert_eq!(inside.assertion("any", "s1").await?["groups"], json!(["claimed"]));

    inside.put(vec![directory_user("u1", &["g1", "g2"])]).await?;
    assert_eq!(
        (
            inside.status("admins", "s1").await?,
            inside.status("claimed", "s1").await?
        ),
        (200, 403),
        "where the directory knows somebody, the claim says nothing"
    );
    assert_eq!(
        inside.assertion("any", "s1").await?["groups"],
        json!(["g1", "g2"])
    );

    inside.put(vec![directory_group("g2", "Second")]).await?;
    let groups = inside.assertion("any", "s1").await?["groups"].clone();
    assert_eq!(groups, json!(["g1", "g2", "Second"]), "a late record of a group");

    inside.put(vec![directory_user("u1", &[])]).await?;
    assert_eq!(inside.status("admins", "s1").await?, 403);
    inside.put(vec![gone_directory_user("u1")]).await?;
    assert_eq!(inside.status("claimed", "s1").await?, 200);

    let log = inside.authorize_log().await?;
    let source = |line: &Value| line.get("groups-source").cloned();
    let sources: Vec<Value> = log.iter().filter_map(source).collect();
    assert_eq!(
        sources,
        ["claim", "claim", "directory", "directory", "directory", "claim"].map(Value::from)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_claim_of_groups_is_a_setting_that_a_reload_changes() -> Result<()> {
    let inside = inside(json!({ "groups_claim": "teams" })).await?;
    assert_eq!(inside.status("admins", "s1").await?, 200);
    inside.reload(|config| config["groups_claim"] = json!(""))?;
    assert_eq!(inside.status("admins", "s1").await?, 403);
    assert_eq!(inside.assertion("any", "s1").await?["groups"], json!([]));
    inside.reload(|config| config["groups_claim"] = json!("groups"))?;
    assert_eq!(inside.status("claimed", "s1").await?, 200);
    assert_eq!(inside.assertion("any", "s1").await?["groups"], json!(["claimed"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_has_the_groups_of_its_user() -> Result<()> {
    let inside = inside(json!({})).await?;
    let account = ServiceAccount {
        id: "robot".into(),
        user_id: "u1".into(),
        ..ServiceAccount::default()
    };
    inside.put(vec![to_record(&account)]).await?;
    assert_eq!(inside.status("admins", "robot").await?, 403);
    inside.put(vec![directory_user("u1", &["g1"])]).await?;
    assert_eq!(inside.status("admins", "robot").await?, 200);
    let claims = inside.assertion("any", "robot").await?;
    assert_eq!(
        (&claims["groups"], &claims["sid"], &claims["email"]),
        (&json!(["g1"]), &json!("robot"), &json!("user@example.com"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_goes_without_the_groups_that_are_filtered() -> Result<()> {
    let inside = inside(json!({ "jwt_groups_filter": ["g2"] })).await?;
    inside
        .put(vec![
            directory_user("u1", &["g1", "g2", "g3"]),
            directory_group("g1", "One"),
            directory_group("g2", "Two"),
        ])
        .await?;
    assert_eq!(
        inside.assertion("any", "s1").await?["groups"],
        json!(["g2", "Two"])
    );
    assert_eq!(
        inside.status("admins", "s1").await?,
        200,
        "policies see all of them"
    );
    inside.reload(|config| config["routes"][2]["jwt_groups_filter"] = json!(["g3"]))?;
    assert_eq!(
        inside.assertion("any", "s1").await?["groups"],
        json!(["g2", "g3", "Two"]),
        "a route adds to the global list"
    );
    let log = inside.authorize_log().await?;
    let removed: Vec<_> = log
        .iter()
        .map(|line| line["removed-groups-count"].as_u64())
        .collect();
    assert_eq!(removed, [Some(2), Some(2), Some(1)]);
    Ok(())
}
