//! Tokens that were left out of a session are asked for when a route reads them, and never taken for ones that are not
//! there.

use std::sync::atomic::Ordering;

use pomerium_api::databroker::Error;
use pomerium_api::pb::session::{IdToken, OAuthToken, Session};
use pomerium_api::records::{RecordMessage, to_proto_time};
use pomerium_api::synced::Parts;
use pomerium_policy::RecordLookup;

use super::{World, now, session, somebody, token, user};
use crate::Lookup;
use crate::session::validity::session_end;
use crate::session::{Anonymous, Resolved};

fn full(id: &str) -> Session {
    Session {
        id_token: Some(IdToken {
            raw: "the id token".into(),
            ..IdToken::default()
        }),
        oauth_token: Some(OAuthToken {
            access_token: "the access token".into(),
            ..OAuthToken::default()
        }),
        ..session(id, "u1")
    }
}

async fn signed_in() -> (World, String) {
    let world = World::new().await;
    world.put(&user("u1")).await;
    let version = world.put(&full("s1")).await;
    (world, token("s1", version))
}

#[tokio::test]
async fn what_a_route_reads_is_asked_for_once() {
    let (world, token) = signed_in().await;
    let known = world.principal(&token).await;
    assert!(known.lacks(Parts::ID_TOKEN) && !known.lacks(Parts::NONE));
    let complete = world
        .resolver
        .complete(known.clone(), Parts::ID_TOKEN, now())
        .await;
    let complete = somebody(complete.unwrap());
    assert!(!complete.lacks(Parts::ID_TOKEN));
    let entry = complete.session.as_ref().unwrap();
    assert_eq!(entry.session.id_token.as_ref().unwrap().raw, "the id token");
    assert_eq!(
        complete.versions(),
        known.versions(),
        "the same session in every other way"
    );
    let asked = world.questions();
    let next = world.principal(&token).await;
    let next = world
        .resolver
        .complete(next, Parts::ID_TOKEN, now())
        .await
        .unwrap();
    assert!(!somebody(next).lacks(Parts::ID_TOKEN));
    assert_eq!(world.questions(), asked);
}

#[tokio::test]
async fn a_token_that_cannot_be_got_is_no_empty_one() {
    let (world, token) = signed_in().await;
    let known = world.principal(&token).await;
    world.broker.down.store(true, Ordering::SeqCst);
    let answer = world
        .resolver
        .complete(known.clone(), Parts::ACCESS_TOKEN, now())
        .await;
    assert!(matches!(answer, Err(Error::Unavailable(_))));
    let plain = world.resolver.complete(known, Parts::NONE, now()).await.unwrap();
    assert_eq!(somebody(plain).session_id, "s1", "routes that read none go on");
}

/// The databroker that answers is behind: the version that is here may differ in the token.
#[tokio::test]
async fn a_token_of_another_version_is_not_taken() {
    let (world, token) = signed_in().await;
    let known = world.principal(&token).await;
    let key = (Session::TYPE.to_owned(), "s1".to_owned());
    world.broker.records.lock().get_mut(&key).unwrap().version -= 1;
    let answer = world.resolver.complete(known, Parts::ID_TOKEN, now()).await;
    assert!(matches!(answer, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_session_that_ended_meanwhile_is_nobody() {
    let (world, token) = signed_in().await;
    let known = world.principal(&token).await;
    world.delete(&full("s1")).await;
    let answer = world
        .resolver
        .complete(known, Parts::ID_TOKEN, now())
        .await
        .unwrap();
    assert!(matches!(answer, Resolved::Anonymous(Anonymous::NoRecord)));
}

/// A policy that looks at the record of a session must not take what was left out for what is not there.
#[tokio::test]
async fn a_policy_that_reads_sessions_is_not_shown_half_of_one() {
    let (world, _) = signed_in().await;
    let lookup = Lookup::new(&world.records, None, now());
    assert_eq!(lookup.by_id(Session::TYPE, "nobody"), None);
    assert!(!lookup.is_doubtful(None), "that one is certainly not there");
    assert_eq!(lookup.by_id(Session::TYPE, "s1"), None);
    assert!(lookup.is_doubtful(None));

    let lookup = Lookup::new(&world.records, None, now());
    let lent = lookup.owned();
    assert_eq!(lent.by_id(Session::TYPE, "nobody"), None);
    assert!(!lookup.is_doubtful(None));
    assert_eq!(lent.owned().by_id(Session::TYPE, "s1"), None);
    assert!(
        lookup.is_doubtful(None),
        "also when a script was lent the records"
    );

    world.records.keep(Parts::RECORD);
    assert!(world.records.wait_kept(Parts::RECORD).await);
    let lookup = Lookup::new(&world.records, None, now());
    let shown = lookup.by_id(Session::TYPE, "s1").unwrap();
    assert_eq!(shown["oauth_token"]["access_token"], "the access token");
    assert!(!lookup.is_doubtful(None));
}

/// What is left out changes nothing about when a session ends.
#[tokio::test]
async fn a_session_ends_when_its_record_says() {
    let world = World::new().await;
    let times = [None, Some(5), Some(1_800_000_000), Some(1_900_000_000)];
    for (number, own) in times.into_iter().enumerate() {
        for end in times {
            for refresh_token in ["", "the refresh token"] {
                for refresh_disabled in [false, true] {
                    let at = |seconds: i64| to_proto_time(jiff::Timestamp::from_second(seconds).unwrap());
                    let session = Session {
                        id: format!("s{number}"),
                        expires_at: own.map(at),
                        oauth_token: Some(OAuthToken {
                            expires_at: end.map(at),
                            refresh_token: refresh_token.into(),
                            access_token: "the access token".into(),
                            ..OAuthToken::default()
                        }),
                        refresh_disabled,
                        ..Session::default()
                    };
                    world.put(&session).await;
                    let kept = world.records.session(&session.id).unwrap();
                    assert!(kept.left_out.any(Parts::ACCESS_TOKEN));
                    assert_eq!(session_end(&kept.session), session_end(&session), "{session:?}");
                }
            }
        }
    }
}
