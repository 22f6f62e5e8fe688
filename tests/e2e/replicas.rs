//! Two databrokers over one PostgreSQL: either may die at any moment.

use std::time::Duration;

use anyhow::{Context, Result};
use pomerium_api::databroker::Databroker;
use pomerium_testing::{Environment, Postgres, lease, within};
use pomerium_tests::apart::{Apart, as_it_is, with};
use pomerium_tests::services::tool;

use crate::websocket::{echoes, open_with_handle};

#[tokio::test]
async fn either_databroker_may_die_and_nobody_notices() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut apart = Apart::over_postgres(&postgres.connection("postgres"), &as_it_is).await?;
    let client = apart.signed_in().await?;
    let handle = client
        .cookie(&apart.url(0, "app", "/"), "_pomerium")
        .unwrap_or_default();
    let mut socket = open_with_handle(&apart.proxies[1], &handle).await?;
    echoes(&mut socket, "both").await?;
    for first in [true, false] {
        let dying = match first {
            true => &mut apart.databroker,
            false => apart.second.as_mut().context("the second")?,
        };
        dying.kill().await?;
        assert_eq!(apart.status(&client, 0, "app").await?, 200);
        within("a new sign-in by way of the other", async {
            while apart.sign_in(&apart.client()?).await?.status != 200 {}
            anyhow::Ok(())
        })
        .await??;
        echoes(&mut socket, "one").await?;
        let dead = match first {
            true => &mut apart.databroker,
            false => apart.second.as_mut().context("the second")?,
        };
        dead.start_again().await?;
    }
    for proxy in [0, 1] {
        assert_eq!(apart.status(&client, proxy, "app").await?, 200);
    }
    Ok(())
}

#[tokio::test]
async fn no_sign_in_that_was_answered_is_lost_however_the_databrokers_die() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut apart = Apart::over_postgres(&postgres.connection("postgres"), &as_it_is).await?;
    let mut people = Vec::new();
    for round in 0..8_u64 {
        let clients = [apart.client()?, apart.client()?, apart.client()?];
        let signing_in = futures_util::future::join_all(clients.iter().map(|client| apart.sign_in(client)));
        // Somewhere in the middle of it, a different place each time.
        let victim = match round % 2 {
            0 => apart.databroker.process_id()?,
            _ => apart.second.as_ref().context("the second")?.process_id()?,
        };
        let killed = async {
            tokio::time::sleep(Duration::from_millis(17 * round)).await;
            tokio::process::Command::new("kill")
                .args(["-KILL", &victim.to_string()])
                .status()
                .await
        };
        let (answers, killed) = tokio::join!(signing_in, killed);
        killed?;
        let dying = match round % 2 {
            0 => &mut apart.databroker,
            _ => apart.second.as_mut().context("the second")?,
        };
        dying.kill().await?;
        for (client, answer) in clients.into_iter().zip(answers) {
            if answer.is_ok_and(|answer| answer.status == 200) {
                people.push(client);
            }
        }
        let dead = match round % 2 {
            0 => &mut apart.databroker,
            _ => apart.second.as_mut().context("the second")?,
        };
        dead.start_again().await?;
    }
    assert!(!people.is_empty());
    for (number, client) in people.iter().enumerate() {
        for proxy in [0, 1] {
            assert_eq!(
                apart.status(client, proxy, "app").await?,
                200,
                "person {number}, proxy {proxy}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn after_a_clear_every_handle_is_refused_at_every_proxy() -> Result<()> {
    let postgres = Postgres::start()?;
    let connection = postgres.connection("postgres");
    let apart = Apart::over_postgres(&connection, &as_it_is).await?;
    let client = apart.signed_in().await?;
    assert_eq!(apart.status(&client, 1, "app").await?, 200);
    // A third databroker over the same database, for tools of this machine.
    let port = lease()?;
    let address = format!("127.0.0.1:{}", port.number());
    let _third = Environment::builder()?
        .set("services", "databroker")
        .set("grpc_address", address.as_str())
        .set("grpc_insecure", true)
        .set("databroker_storage_type", "postgres")
        .set("databroker_storage_connection_string", connection.as_str())
        .start()
        .await?;
    let cleared = tool(address.parse()?)?.clear().await?;
    assert_ne!(cleared.old, cleared.new);
    for proxy in [0, 1] {
        within("the refusal", async {
            while apart.status(&client, proxy, "app").await? == 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        })
        .await??;
        assert_eq!(apart.status(&client, proxy, "app").await?, 401, "proxy {proxy}");
    }
    Ok(())
}

/// The databrokers live, but what they know may be out of date: that is an outage like any other.
#[tokio::test]
async fn people_are_let_in_no_longer_than_the_limit_when_postgresql_is_gone_behind_living_databrokers()
-> Result<()> {
    let mut postgres = Postgres::start()?;
    let limit = with("databroker_outage_limit", "500ms");
    let apart = Apart::over_postgres(&postgres.connection("postgres"), &limit).await?;
    let client = apart.signed_in().await?;
    postgres.crash()?;
    for wanted in [503, 200] {
        if wanted == 200 {
            postgres.go_on()?;
        }
        for proxy in [0, 1] {
            within("the change", async {
                while apart.status(&client, proxy, "app").await? != wanted {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                anyhow::Ok(())
            })
            .await??;
        }
    }
    Ok(())
}

/// Each request of a sign-in comes to another authenticate service than the one before: the code is given by one and
/// taken by the other, without anybody being sent back to where they came from.
#[tokio::test]
async fn a_sign_in_may_change_the_authenticate_service_at_every_step() -> Result<()> {
    let apart = Apart::balanced(&as_it_is).await?;
    for _ in 0..3 {
        let client = apart.signed_in().await?;
        for proxy in [0, 1] {
            assert_eq!(apart.status(&client, proxy, "app").await?, 200);
        }
    }
    let second = apart.second_authenticate.as_ref().context("the second")?;
    for replica in [&apart.authenticate, second] {
        let seen = |path: &str| {
            let log = replica.access_log();
            log.iter().any(|line| line["path"] == path)
        };
        assert!(
            seen("/oauth2/callback") || seen("/.pomerium/idp/sign_in"),
            "both had a part in it"
        );
    }
    Ok(())
}
