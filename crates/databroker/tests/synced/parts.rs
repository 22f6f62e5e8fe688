//! Tokens are kept of sessions where something reads them, and got when something begins to.

use pomerium_api::databroker::{Databroker, Error};
use pomerium_api::pb::session::{IdToken, OAuthToken, Session};
use pomerium_api::records::{RecordMessage, to_record};
use pomerium_api::synced::{Parts, SyncedRecords};

use crate::world::{World, running, session, still, until};

/// As a sign-in leaves it.
fn full(id: &str) -> Session {
    Session {
        id_token: Some(IdToken {
            raw: format!("id token of {id}"),
            ..IdToken::default()
        }),
        oauth_token: Some(OAuthToken {
            access_token: format!("access token of {id}"),
            refresh_token: format!("refresh token of {id}"),
            ..OAuthToken::default()
        }),
        ..session(id, "member")
    }
}

async fn with(ids: &[&str]) -> World {
    let world = running().await;
    for id in ids {
        world.put(&full(id)).await;
    }
    let last = (*ids.last().unwrap()).to_owned();
    until(&world.records, |records| records.session(&last).is_some()).await;
    world
}

fn id_token(records: &SyncedRecords, id: &str) -> Option<String> {
    let token = records.session(id)?.session.id_token.clone();
    token.map(|token| token.raw)
}

fn everything(records: &SyncedRecords, id: &str) -> bool {
    records.session(id).unwrap().session == full(id)
}

#[tokio::test]
async fn no_token_is_kept_that_nothing_reads() {
    let world = with(&["s"]).await;
    let kept = world.records.session("s").unwrap();
    assert_eq!(kept.session, session("s", "member"));
    assert!(kept.left_out.covers(Parts::ID_TOKEN.and(Parts::ACCESS_TOKEN)));
    let now = jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(world.records.json(Session::TYPE, "s", now), None);
    assert!(world.records.withholds(Session::TYPE, "s"));
    // One that had none is whole.
    assert!(world.records.json(Session::TYPE, "a", now).is_some());
    assert!(!world.records.withholds(Session::TYPE, "a"));
}

#[tokio::test]
async fn what_is_read_from_now_on_is_got_and_nothing_else_changes() {
    let world = with(&["s"]).await;
    let before = world.records.session("s").unwrap();
    let (generation, position) = (world.records.generation(), world.records.position());
    world.records.keep(Parts::ID_TOKEN);
    assert!(world.records.wait_kept(Parts::ID_TOKEN).await);
    assert_eq!(id_token(&world.records, "s").unwrap(), "id token of s");
    let after = world.records.session("s").unwrap();
    assert_eq!(
        (after.version, after.server_version),
        (before.version, before.server_version)
    );
    assert!(after.session.oauth_token.is_none(), "nobody reads that");
    assert_eq!(
        (world.records.generation(), world.records.position()),
        (generation, position)
    );

    world.put(&full("later")).await;
    until(&world.records, |records| id_token(records, "later").is_some()).await;
    world.records.keep(Parts::RECORD);
    assert!(world.records.wait_kept(Parts::RECORD).await);
    assert!(everything(&world.records, "s") && everything(&world.records, "later"));
    let shown = world
        .records
        .json(Session::TYPE, "s", jiff::Timestamp::UNIX_EPOCH)
        .unwrap();
    assert_eq!(shown["oauth_token"]["refresh_token"], "refresh token of s");

    world.records.keep(Parts::NONE);
    world.put(&full("last")).await;
    until(&world.records, |records| records.session("last").is_some()).await;
    assert_eq!(id_token(&world.records, "last"), None);
    assert_eq!(world.link.gets(), 0, "all of it by reading on");
}

#[tokio::test]
async fn what_is_known_beforehand_is_read_at_once() {
    let (link, _, records) = still();
    link.put(vec![to_record(&full("s"))]).await.unwrap();
    records.keep(Parts::RECORD);
    tokio::spawn(records.clone().run(std::future::pending()));
    assert!(records.wait_kept(Parts::RECORD).await);
    records.wait_ready().await;
    assert!(everything(&records, "s"));
    link.until_snapshots(1).await;
}

/// A session that ends while its tokens are got stays ended, and a newer one stays as it is.
#[tokio::test]
async fn getting_tokens_raises_no_dead() {
    let world = with(&["s", "t"]).await;
    let tap = world.link.hold_snapshots();
    world.records.keep(Parts::ID_TOKEN);
    world.link.until_snapshots(2).await;
    world.delete("s").await;
    let newer = Session {
        user_id: "operator".into(),
        ..full("t")
    };
    world.put(&newer).await;
    until(&world.records, |records| {
        records.session("s").is_none()
            && records
                .session("t")
                .is_some_and(|entry| entry.session.user_id == "operator")
    })
    .await;
    tap.add_permits(100);
    assert!(world.records.wait_kept(Parts::ID_TOKEN).await);
    assert!(world.records.session("s").is_none());
    let kept = world.records.session("t").unwrap();
    assert_eq!(
        (kept.session.user_id.as_str(), kept.left_out.any(Parts::ID_TOKEN)),
        ("operator", false)
    );
}

/// Less was kept for a while, and sessions came meanwhile: what was begun before does not count as done.
#[tokio::test]
async fn a_change_of_mind_half_way_is_made_good() {
    let world = with(&["s"]).await;
    let tap = world.link.hold_snapshots();
    world.records.keep(Parts::ID_TOKEN);
    world.link.until_snapshots(2).await;
    world.records.keep(Parts::NONE);
    world.put(&full("between")).await;
    until(&world.records, |records| records.session("between").is_some()).await;
    world.records.keep(Parts::ID_TOKEN);
    tap.add_permits(100);
    assert!(world.records.wait_kept(Parts::ID_TOKEN).await);
    assert!(id_token(&world.records, "s").is_some() && id_token(&world.records, "between").is_some());
}

#[tokio::test]
async fn out_of_reach_it_is_said_at_once_and_made_good_later() {
    let world = with(&["s"]).await;
    world.link.cut().await;
    world.records.keep(Parts::ID_TOKEN);
    assert!(!world.records.wait_kept(Parts::ID_TOKEN).await);
    assert!(world.records.session("s").is_some(), "what is known counts");
    assert!(matches!(
        world.records.complete_session("s", Parts::ID_TOKEN).await,
        Err(Error::Unavailable(_))
    ));
    world.link.up.send_replace(true);
    while !world.records.wait_kept(Parts::ID_TOKEN).await {
        tokio::task::yield_now().await;
    }
    assert!(id_token(&world.records, "s").is_some());
}

#[tokio::test]
async fn one_session_is_asked_for_by_itself() {
    let world = with(&["s"]).await;
    let found = world
        .records
        .complete_session("s", Parts::ACCESS_TOKEN)
        .await
        .unwrap()
        .unwrap();
    let token = found.session.oauth_token.as_ref().unwrap();
    assert_eq!(
        (token.access_token.as_str(), token.refresh_token.as_str()),
        ("access token of s", "")
    );
    assert!(found.session.id_token.is_none());
    assert_eq!(world.link.gets(), 1);
    world.delete("s").await;
    until(&world.records, |records| records.session("s").is_none()).await;
    assert_eq!(
        world.records.complete_session("s", Parts::ACCESS_TOKEN).await,
        Ok(None)
    );
}

/// What is read anew after a database was replaced has what is kept by then.
#[tokio::test]
async fn another_database_is_read_with_what_is_kept() {
    let world = with(&["s"]).await;
    world.records.keep(Parts::RECORD);
    world.link.server.clear().await.unwrap();
    world.put(&full("new")).await;
    until(&world.records, |records| {
        records.session("new").is_some() && records.session("s").is_none()
    })
    .await;
    assert!(world.records.wait_kept(Parts::RECORD).await);
    assert!(everything(&world.records, "new"));
}
