//! A databroker that follows another one, as processes with file stores of their own: it copies, takes no writes, and
//! takes the other's place by command.

use std::collections::BTreeSet;

use anyhow::Result;
use futures_util::StreamExt;
use pomerium_api::databroker::{Databroker, Latest, Record};
use pomerium_api::pb::databroker as pb;
use pomerium_api::records::struct_record;
use pomerium_testing::within;
use pomerium_tests::standby::Pair;
use serde_json::{Value, json};
use tonic::Code;

const KIND: &str = "example.com/Cat";

fn cat(id: &str) -> Record {
    struct_record(KIND, id, &json!({ "name": id }))
}

async fn ids(broker: &dyn Databroker) -> Result<BTreeSet<String>> {
    let mut latest = broker.sync_latest(KIND).await?;
    let mut ids = BTreeSet::new();
    while let Some(item) = latest.next().await {
        if let Latest::Record(record) = item? {
            ids.insert(record.id);
        }
    }
    Ok(ids)
}

/// What the health of a node says of its place among the others.
async fn place(pair: &Pair, node: usize) -> Result<Value> {
    let node = &pair.nodes[node];
    let mut status: Value = node.client()?.get(&node.health_url("/status")).await?.json()?;
    Ok(status["statuses"]["databroker.cluster"].take())
}

async fn trouble(pair: &Pair, node: usize) -> Result<String> {
    let error = &place(pair, node).await?["error"];
    Ok(error.as_str().unwrap_or_default().to_owned())
}

/// Waits until a node is this to the others.
async fn is_member(pair: &Pair, node: usize, member: &str) -> Result<()> {
    let wanted = json!([{"Key": "member", "Value": member}]);
    within(member, async {
        while place(pair, node).await?["attributes"] != wanted {}
        anyhow::Ok(())
    })
    .await?
}

#[tokio::test]
async fn a_standby_takes_the_place_of_a_dead_leader_which_gives_way_when_it_comes_back() -> Result<()> {
    let mut pair = Pair::start().await?;
    let leader = pair.client(0)?;
    leader
        .put((0..50).map(|id| cat(&format!("{id:03}"))).collect())
        .await?;
    pair.caught_up().await?;
    is_member(&pair, 0, "leader").await?;
    is_member(&pair, 1, "follower").await?;
    let got = pair
        .local(1)?
        .get(pb::GetRequest {
            r#type: KIND.into(),
            id: "049".into(),
        })
        .await?;
    assert_eq!(got.into_inner().record, Some(leader.get(KIND, "049").await?));

    // It takes no writes of its own, and passes on those that anybody may answer.
    let put = pb::PutRequest {
        records: vec![cat("own")],
    };
    let refused = pair.local(1)?.put(put.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    pair.client(1)?.put(vec![cat("through")]).await?;
    assert!(leader.get(KIND, "through").await.is_ok());
    pair.caught_up().await?;

    // While the leader answers, nobody takes its place by mistake.
    pair.stop_second().await?;
    let (done, said) = pair.promote(&[]).await?;
    assert!(!done && said.contains("--force"), "{said}");
    pair.nodes[1].start_again().await?;
    pair.caught_up().await?;

    let before = leader.versions().await?;
    pair.nodes[0].kill().await?;
    pair.take_over().await?;
    let second = pair.client(1)?;
    assert_eq!(ids(&second).await?.len(), 51, "nothing that was copied is lost");
    let after = second.put(vec![cat("after")]).await?;
    assert_ne!(after.server_version, before.server_version);
    assert_eq!(
        after.records[0].version,
        before.latest_record_version + 1,
        "no version twice"
    );

    // With the setting of old it would lead: it sees that it may not.
    pair.nodes[0].start_again().await?;
    within("the discovery", async {
        while !trouble(&pair, 0).await?.contains("has taken this one's place") {}
        anyhow::Ok(())
    })
    .await??;
    is_member(&pair, 0, "unknown").await?;
    let refused = pair.local(0)?.put(put).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    pair.client(0)?.put(vec![cat("passed on")]).await?;
    assert!(second.get(KIND, "passed on").await.is_ok());

    // With the new setting it follows.
    pair.nodes[0].kill().await?;
    pair.led_by(0, "b")?;
    pair.nodes[0].start_again().await?;
    within("the copy", async {
        loop {
            let copied = pair.local(0)?.server_info(()).await;
            if copied.is_ok_and(|copied| copied.get_ref().server_version == after.server_version) {
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    let aside = std::fs::read_dir(pair.nodes[0].folder().join("data/databroker"))?;
    let kept = aside.flatten().any(|file| {
        file.file_name()
            .to_string_lossy()
            .starts_with("before-following-")
    });
    assert!(kept, "what only the former leader had is in a backup");
    Ok(())
}

/// Cut off from everybody, the former leader lives on; it gives way as soon as it sees the other.
#[tokio::test]
async fn a_leader_that_runs_on_gives_way_to_the_one_that_was_promoted_by_force() -> Result<()> {
    let mut pair = Pair::start().await?;
    let former = pair.client(0)?;
    former.put(vec![cat("tom")]).await?;
    pair.caught_up().await?;
    pair.stop_second().await?;
    former.put(vec![cat("only there")]).await?;
    let (done, said) = pair.promote(&["--force"]).await?;
    assert!(done, "{said}");
    pair.led_by(1, "b")?;
    pair.nodes[1].start_again().await?;
    pair.nodes[0]
        .log()
        .wait("the discovery", |line| {
            line.contains("has taken this one's place")
        })
        .await?;
    within("calls to be passed on", async {
        while former.put(vec![cat("kit")]).await.is_err() {}
    })
    .await?;
    let second = pair.client(1)?;
    assert_eq!(
        ids(&second).await?,
        ["kit", "tom"].map(String::from).into(),
        "what was not copied is not there"
    );
    Ok(())
}
