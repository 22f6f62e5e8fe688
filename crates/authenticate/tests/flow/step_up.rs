//! A policy asks for a fresher or stronger sign-in (step-up), seen from a browser. Classes of pocket-id
//! GHSA-hp74-gm6m-2qm5, tinyauth CVE-2026-32246, zitadel CVE-2025-64103: a weaker sign-in than the one asked for
//! satisfies nothing.

use http::StatusCode;
use pomerium_authorize::authentication;
use pomerium_policy::Demand;

use crate::support::{ADMIN, APP, AUTH, BOSS, Browser, StepUp, USER, World, parameter, with_parameter};

fn max_age(seconds: u64) -> StepUp {
    StepUp {
        demand: Demand {
            max_age: Some(seconds),
            ..Demand::default()
        },
        never_enough: false,
    }
}

fn strong(acr: &[&str], amr: &[&str]) -> StepUp {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    StepUp {
        demand: Demand {
            max_age: None,
            acr: owned(acr),
            amr: owned(amr),
        },
        never_enough: false,
    }
}

/// Somebody who signed in at both applications, ten minutes ago.
async fn signed_in(world: &World) -> Browser<'_> {
    let mut browser = Browser::new(world);
    browser.sign_in(APP, BOSS.0, BOSS.1).await;
    assert_eq!(browser.open(ADMIN).await.body, "hello admin@example.com");
    world.advance(600);
    browser
}

#[tokio::test]
async fn an_old_sign_in_leads_to_a_new_one_and_then_in() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    let old = world.broker.sessions()[0].clone();
    assert_eq!(
        authentication(&old).at.map(|at| at.as_second()),
        Some(world.now() - 600),
        "the provider says when"
    );
    *world.step_up.lock() = Some(max_age(300));
    assert_eq!(
        browser.open(ADMIN).await.body,
        "hello admin@example.com",
        "another application asks for nothing"
    );
    assert_eq!(world.broker.sessions().len(), 1, "and nothing happened there");

    let page = browser.open(&format!("{APP}/page?a=b")).await;
    assert!(
        page.body.contains("type=\"password\""),
        "{} {}",
        page.status,
        page.body
    );
    let reply = browser
        .submit(&page, &[("username", BOSS.0), ("password", BOSS.1)])
        .await;
    let end = browser.follow(reply).await;
    assert_eq!(end.body, "hello admin@example.com");
    assert_eq!(end.url, format!("{APP}/page?a=b"), "back where it began");
    let live: Vec<_> = world.broker.sessions();
    assert_eq!(live.len(), 1);
    assert_ne!(live[0].id, old.id, "a new session");
    assert!(world.broker.is_tombstone(&old.id), "the old one is dead");
    assert_eq!(
        authentication(&live[0]).at.map(|at| at.as_second()),
        Some(world.now())
    );
    assert_eq!(
        browser.open(ADMIN).await.body,
        "hello admin@example.com",
        "other applications get the new session without another password"
    );
}

#[tokio::test]
async fn a_sign_in_that_is_recent_enough_is_left_alone() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    *world.step_up.lock() = Some(max_age(3600));
    assert_eq!(browser.open(APP).await.body, "hello admin@example.com");
    assert_eq!(world.broker.sessions().len(), 1, "nothing was asked of anybody");
}

#[tokio::test]
async fn a_method_that_was_not_used_does_not_count() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    let before = world.broker.sessions()[0].id.clone();
    *world.step_up.lock() = Some(strong(&[], &["pwd", "hwk"]));
    let page = browser.open(APP).await;
    assert!(
        page.body.contains("type=\"password\""),
        "the provider is asked once more, for a sign-in"
    );
    let reply = browser
        .submit(&page, &[("username", BOSS.0), ("password", BOSS.1)])
        .await;
    let end = browser.follow(reply).await;
    assert_eq!(end.status, StatusCode::FORBIDDEN, "{}", end.body);
    assert!(end.body.contains("a sign-in with pwd and hwk"), "{}", end.body);
    let sessions = world.broker.sessions();
    assert_eq!(sessions.len(), 1, "no session comes of it");
    assert_eq!(sessions[0].id, before, "and the one that was there stays");
    assert_eq!(browser.open(ADMIN).await.body, "hello admin@example.com");
    let authorizations = browser
        .visited
        .iter()
        .filter(|url| url.contains("/.pomerium/idp/authorize"))
        .count();
    assert_eq!(authorizations, 3, "one for the first sign-in, two for this one");
}

#[tokio::test]
async fn a_class_that_the_provider_does_not_offer_costs_no_password() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    *world.step_up.lock() = Some(strong(&["gold", "silver"], &[]));
    let end = browser.open(APP).await;
    assert_eq!(end.status, StatusCode::FORBIDDEN, "{}", end.body);
    assert!(
        end.body.contains("a sign-in of the class gold or silver"),
        "{}",
        end.body
    );
    *world.step_up.lock() = Some(strong(&["gold", "pwd"], &["pwd"]));
    assert_eq!(browser.open(APP).await.body, "hello admin@example.com");
}

#[tokio::test]
async fn whoever_breaks_off_stays_signed_in_as_they_were() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    *world.step_up.lock() = Some(max_age(300));
    assert!(browser.open(APP).await.body.contains("type=\"password\""));
    *world.step_up.lock() = None;
    assert_eq!(browser.open(APP).await.body, "hello admin@example.com");
    assert_eq!(
        browser.get(&format!("{AUTH}/.pomerium/")).await.status,
        StatusCode::OK
    );
    assert_eq!(world.broker.sessions().len(), 1);
}

#[tokio::test]
async fn the_demand_in_a_link_cannot_be_changed_left_out_or_added() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    *world.step_up.lock() = Some(max_age(300));
    let link = browser.get(APP).await.location().to_owned();
    assert_eq!(parameter(&link, "pomerium_max_age").as_deref(), Some("300"));
    let without = with_parameter(&link, "pomerium_max_age", None);
    let weaker = with_parameter(&link, "pomerium_max_age", Some("86400"));
    let added = with_parameter(&link, "pomerium_amr", Some("hwk"));
    for forged in [without, weaker, added] {
        let reply = browser.get(&forged).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{forged}");
    }
    *world.step_up.lock() = None;
    for unsigned in [
        format!("{APP}/?pomerium_max_age=0&pomerium_amr=hwk"),
        format!("{ADMIN}/.pomerium/?pomerium_acr_values=gold"),
        format!("{AUTH}/.pomerium/?pomerium_max_age=0"),
    ] {
        let reply = browser.open(&unsigned).await;
        assert_eq!(reply.status, StatusCode::OK, "{unsigned}");
        assert!(!reply.body.contains("type=\"password\""), "{unsigned}");
    }
}

#[tokio::test]
async fn a_link_without_a_demand_gains_nothing() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    // The link of an application that asks for nothing, made for the same browser.
    browser.jar.retain(|cookie| cookie.host != "app.example.com");
    let plain = browser.get(APP).await.location().to_owned();
    *world.step_up.lock() = Some(max_age(300));
    let end = browser.open(&plain).await;
    assert!(
        end.body.contains("type=\"password\""),
        "the application judges the session, however it came: {}",
        end.body
    );
}

#[tokio::test]
async fn a_new_login_without_a_password_is_not_a_recent_one() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    // Our cookies are gone, that of the provider is not: a new session without a password.
    browser.jar.retain(|cookie| cookie.name.ends_with("_idp"));
    assert_eq!(browser.open(ADMIN).await.body, "hello admin@example.com");
    *world.step_up.lock() = Some(max_age(300));
    let page = browser.open(APP).await;
    assert!(page.body.contains("type=\"password\""), "{}", page.body);
}

#[tokio::test]
async fn an_application_that_never_has_enough_ends_at_a_page() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    *world.step_up.lock() = Some(StepUp {
        never_enough: true,
        ..max_age(300)
    });
    let page = browser.open(APP).await;
    let reply = browser
        .submit(&page, &[("username", BOSS.0), ("password", BOSS.1)])
        .await;
    let end = browser.follow(reply).await;
    assert_eq!(end.status, StatusCode::BAD_REQUEST, "{}", end.body);
    assert!(end.body.contains("stronger sign-in each time"), "{}", end.body);
    assert!(browser.visited.len() < 40);
}

#[tokio::test]
async fn somebody_else_may_sign_in_and_is_judged_as_themselves() {
    let world = World::new();
    let mut browser = signed_in(&world).await;
    *world.step_up.lock() = Some(max_age(300));
    let page = browser.open(APP).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    assert_eq!(browser.follow(reply).await.body, "hello user@example.com");
}
