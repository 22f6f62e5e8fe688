//! Routes that live in the databroker, through the real program.

use anyhow::Result;
use pomerium_testing::{Environment, Route, Upstream};
use pomerium_tests::records::{record, write};
use serde_json::{Value, json};

/// The program with a route of its file, stopped, and started again over `records`.
async fn over(records: &[(&str, &str, Value)], upstream: &Upstream) -> Result<Environment> {
    let mut env = Environment::builder()?
        .route(Route::new("file", &upstream.url()).public())
        .start()
        .await?;
    env.kill().await?;
    let records = records
        .iter()
        .map(|(kind, id, message)| record(kind, id, message));
    write(&env.folder().join("data"), records.collect::<Result<_>>()?).await?;
    env.start_again().await?;
    Ok(env)
}

async fn status(env: &Environment, name: &str, path: &str) -> Result<u16> {
    Ok(env.client()?.get(&env.url(name, path)).await?.status.as_u16())
}

#[tokio::test]
async fn records_of_every_sort_come_after_the_file() -> Result<()> {
    let upstream = Upstream::start().await?;
    let open = json!({"allow_public_unauthenticated_access": true});
    let with = |more: Value| {
        let mut route = open.clone();
        if let (Some(route), Some(more)) = (route.as_object_mut(), more.as_object()) {
            route.extend(more.clone());
        }
        route
    };
    let denies = json!([{"deny": {"or": [{"http_path": {"starts_with": "/secret"}}]}}]).to_string();
    let env = over(
        &[
            ("Route", "one", with(json!({"from": "https://one.example.com", "response": {"status": 201, "body": "one"}}))),
            ("Config", "many", json!({"name": "many", "routes": [
                with(json!({"from": "https://two.example.com", "response": {"status": 202}})),
                with(json!({"from": "https://two.example.com", "prefix": "/longer", "response": {"status": 203}})),
            ]})),
            ("Policy", "no-secrets", json!({"source_ppl": denies})),
            ("Route", "guarded", with(json!({"from": "https://guarded.example.com", "to": [upstream.url()], "policy_ids": ["no-secrets"]}))),
            ("Route", "late", with(json!({"from": "https://file.example.com", "response": {"status": 204}}))),
        ],
        &upstream,
    )
    .await?;
    assert_eq!(status(&env, "one", "/").await?, 201);
    assert_eq!(
        (
            status(&env, "two", "/x").await?,
            status(&env, "two", "/longer").await?
        ),
        (202, 203)
    );
    assert_eq!(
        (
            status(&env, "guarded", "/x").await?,
            status(&env, "guarded", "/secret/x").await?
        ),
        (200, 403)
    );
    assert_eq!(
        status(&env, "file", "/").await?,
        200,
        "the route of the file comes first"
    );
    Ok(())
}

#[tokio::test]
async fn a_bad_record_is_named_lets_nobody_in_and_leaves_the_rest() -> Result<()> {
    let upstream = Upstream::start().await?;
    let host = "https://one.example.com";
    let wide =
        json!({"from": host, "allow_public_unauthenticated_access": true, "response": {"status": 200}});
    let missing = json!({"from": host, "prefix": "/admin", "to": [upstream.url()], "policy_ids": ["no-such-policy"], "allow_public_unauthenticated_access": true});
    let file = json!({"from": host, "prefix": "/file", "to": ["https://up.example.com"], "tls_custom_ca_file": "/etc/passwd", "allow_public_unauthenticated_access": true});
    let socket = json!({"from": host, "prefix": "/socket", "to": ["unix:///var/run/docker.sock"], "allow_public_unauthenticated_access": true});
    let env = over(
        &[
            ("Route", "wide", wide),
            ("Route", "missing", missing),
            ("Route", "file", file),
            ("Route", "socket", socket),
        ],
        &upstream,
    )
    .await?;
    assert_eq!(status(&env, "one", "/").await?, 200);
    for path in ["/admin", "/file", "/socket"] {
        assert_eq!(
            status(&env, "one", path).await?,
            403,
            "{path} does not fall to the wide route"
        );
    }
    for (record, word) in [
        ("Route missing", "no-such-policy"),
        ("Route file", "tls_custom_ca_file"),
        ("Route socket", "socket"),
    ] {
        let said = env.log().json().into_iter().find(|line| line["record"] == record);
        let said = said.map(|line| format!("{}: {}", line["field"], line["error"]));
        let said = said.unwrap_or_default();
        assert!(said.contains(word), "{record}: {said}");
    }
    assert!(upstream.requests().is_empty());
    Ok(())
}
