//! When a session was used last (`accessed_at`): it moves with its use, and many uses are few writes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use pomerium_api::databroker::{Databroker, Record};
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage, from_proto_time, from_record};
use pomerium_testing::{lease, within};
use pomerium_tests::scripted_with;
use pomerium_tests::services::tool;

/// What the record says but for the moment.
fn rest(record: &Record) -> Result<Session> {
    let mut session: Session = from_record(record)?;
    session.accessed_at = None;
    Ok(session)
}

fn moment(record: &Record) -> Result<jiff::Timestamp> {
    let session: Session = from_record(record)?;
    let at = session.accessed_at.as_ref().context("no moment")?;
    from_proto_time(at).context("no moment that can be read")
}

#[tokio::test]
async fn it_moves_with_requests_and_many_of_them_are_one_write() -> Result<()> {
    let port = lease()?;
    let address = format!("127.0.0.1:{}", port.number());
    let stage = scripted_with(|builder| builder.set("grpc_address", address.as_str())).await?;
    let client = stage.signed_in().await?;
    let broker = tool(address.parse()?)?;
    let (mut known, mut last): (Option<Session>, Option<jiff::Timestamp>) = (None, None);
    let start = broker.versions().await?;
    let mut changes = broker.sync(Session::TYPE, start).await?;
    let mut asked = 0;
    // Each round ends with the first write, which comes when its time has come, however many requests there were.
    for _ in 0..2 {
        for _ in 0..20 {
            ensure!(stage.api(&client, "app", "/").await?.status == 200);
            asked += 1;
        }
        let change = within("the last use to be written down", async {
            loop {
                tokio::select! {
                    change = changes.next() => return change.context("the stream ended")?.context("the stream broke"),
                    () = tokio::time::sleep(Duration::from_millis(100)) => {
                        ensure!(stage.api(&client, "app", "/").await?.status == 200);
                        asked += 1;
                    }
                }
            }
        })
        .await??;
        let session = rest(&change)?;
        assert!(
            known.as_ref().is_none_or(|known| *known == session),
            "nothing else was changed"
        );
        let at = moment(&change)?;
        assert!(last.is_none_or(|last| last < at), "{last:?}, then {at}");
        (known, last) = (Some(session), Some(at));
    }
    let writes = broker.versions().await?.latest_record_version - start.latest_record_version;
    assert!(
        asked >= 40 && (2..10).contains(&writes),
        "{writes} writes for {asked} requests"
    );
    Ok(())
}
