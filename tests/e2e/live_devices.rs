//! Devices that are approved, and approval that is taken back, while the program runs. The record is changed over gRPC,
//! as a console changes it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pomerium_api::databroker::remote::Remote;
use pomerium_api::databroker::{Databroker, Query};
use pomerium_api::pb::device::Enrollment;
use pomerium_api::records::{RecordMessage, from_record, to_record};
use pomerium_testing::{Client, Route, ScriptedIdp, SoftKey, Upstream, lease, within};
use pomerium_tests::devices::Asked;
use pomerium_tests::services::tool;
use pomerium_tests::{Stage, scripted_with};
use serde_json::json;

/// As an administrator: the record says who approved, or that nobody does.
async fn approve(broker: &Remote, by: &str) -> Result<()> {
    let found = broker.query(Query::page(Enrollment::TYPE, 0, 10)).await?.records;
    let [record] = found.as_slice() else {
        anyhow::bail!("{} enrollments", found.len())
    };
    let mut enrollment: Enrollment = from_record(record)?;
    by.clone_into(&mut enrollment.approved_by);
    broker.put(vec![to_record(&enrollment)]).await?;
    Ok(())
}

async fn until(stage: &Stage<ScriptedIdp>, client: &Client, wanted: u16) -> Result<()> {
    within(&format!("a {wanted}"), async {
        while stage.api(client, "vault", "/").await?.status != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    })
    .await?
}

#[tokio::test]
async fn approval_counts_without_a_restart_and_so_does_its_end() -> Result<()> {
    let (port, upstream) = (lease()?, Upstream::start().await?);
    let address = format!("127.0.0.1:{}", port.number());
    let approved = json!([{ "allow": { "and": [{ "device": { "type": "any", "approved": true } }] } }]);
    let stage = scripted_with(|builder| {
        builder
            .set("grpc_address", address.as_str())
            .route(Route::new("vault", &upstream.url()).policy(approved))
    })
    .await?;
    let broker = tool(address.parse()?)?;
    let client = stage.signed_in().await?;
    let page = client.follow(&stage.env.url("vault", "/inside")).await?;
    let registered = Asked::of(&page)?
        .register(&client, &SoftKey::new(b"key")?)
        .await?;
    ensure!(registered.status == 302, "{}", registered.text());
    let refused = stage.api(&client, "vault", "/").await?;
    assert_eq!(
        refused.status,
        450,
        "registered, and not approved: {}",
        refused.text()
    );

    approve(&broker, "id-admin").await?;
    until(&stage, &client, 200).await?;
    let asked = upstream
        .take_requests()
        .pop()
        .context("the application was asked")?;
    assert_eq!(asked.target, "/");

    approve(&broker, "").await?;
    until(&stage, &client, 450).await?;
    upstream.take_requests();
    let refused = stage.api(&client, "vault", "/again").await?;
    assert_eq!(refused.status, 450, "{}", refused.text());
    assert!(upstream.take_requests().is_empty(), "nothing got through");
    Ok(())
}
