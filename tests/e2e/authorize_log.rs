//! The authorize log of the program as it is shipped: every field that can be chosen is there under its own name.

use anyhow::{Context, Result};
use pomerium_tests::scripted_with;
use serde_json::{Value, json};

/// Those that every request of somebody who is signed in has.
const ALWAYS: [&str; 19] = [
    "request-id",
    "check-request-id",
    "method",
    "path",
    "host",
    "query",
    "ip",
    "session-id",
    "user",
    "email",
    "envoy-route-checksum",
    "envoy-route-id",
    "route-checksum",
    "route-id",
    "cluster-stat-name",
    "headers",
    "id-token",
    "id-token-claims",
    "allow",
];

#[tokio::test]
async fn chosen_fields_are_there_and_others_are_not() -> Result<()> {
    let fields: Vec<&str> = ALWAYS[..18].to_vec();
    let stage = scripted_with(|builder| builder.set("authorize_log_fields", json!(fields))).await?;
    let client = stage.signed_in().await?;
    let mark = stage.env.log().mark();
    client
        .get_with(&stage.env.url("app", "/a%20b?c=d"), &[("x-team", "red")])
        .await?;
    let line = stage
        .env
        .log()
        .wait_json(mark, "the decision", |line| {
            line["message"] == "authorize check" && line["path"] == "/a%20b"
        })
        .await?;
    for name in ALWAYS {
        assert!(!line[name].is_null(), "{name}: {line}");
    }
    assert_eq!(line["query"], "c=d");
    assert_eq!(line["headers"]["X-Team"], "red");
    assert_eq!(line["headers"]["Cookie"], "<hidden>");
    for name in [
        "impersonate-session-id",
        "service-account-id",
        "removed-groups-count",
    ] {
        assert!(line[name].is_null(), "{name}: {line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_field_that_nothing_fills_stops_the_start() -> Result<()> {
    for field in ["body", "mcp-method", "mcp-tool", "mcp-tool-parameters"] {
        let builder = pomerium_testing::Environment::builder()?.set("authorize_log_fields", json!([field]));
        let (status, said) = builder.refused().await?;
        assert!(!status.success());
        let said = said.all().join("\n");
        assert!(
            said.contains(&format!("`{field}`")) && said.contains("authorize_log_fields"),
            "{said}"
        );
    }
    let known: Value = json!(["request-id"]);
    let env = pomerium_testing::Environment::builder()?
        .set("authorize_log_fields", known)
        .start()
        .await
        .context("a known field starts")?;
    drop(env);
    Ok(())
}
