//! Two databrokers over one PostgreSQL, one of which cannot reach it any more: it is there and answers, but it cannot
//! serve. Everybody goes to the other one.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Client, Environment, Postgres, within};
use pomerium_tests::apart::Apart;
use pomerium_tests::link::Link;

/// How soon people can sign in by way of the other one.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_databroker_that_has_lost_its_database_is_left_for_the_other_one() -> Result<()> {
    let postgres = Postgres::start()?;
    let socket = postgres.socket().join(".s.PGSQL.5432");
    let mut links = [Link::to(&socket).await?, Link::to(&socket).await?];
    let connections = links.each_ref().map(|link| {
        let port = link.port();
        format!("host=127.0.0.1 port={port} user=postgres dbname=postgres")
    });
    let taken = Cell::new(0);
    let apart = Apart::over_postgres("", &|service, builder| match service {
        "databroker" => {
            let own = &connections[taken.replace(taken.get() + 1)];
            builder.set("databroker_storage_connection_string", own.as_str())
        }
        _ => builder.set("databroker_outage_limit", "5s"),
    })
    .await?;
    let client = apart.signed_in().await?;
    for lost in [0, 1] {
        links[lost].cut().await;
        nobody_notices(&apart, &client).await?;
        links[lost].join().await?;
        let databroker = match lost {
            0 => &apart.databroker,
            _ => apart.second.as_ref().context("the second")?,
        };
        ready(databroker).await?;
    }
    for proxy in &apart.proxies {
        within("contact with a databroker", async {
            while trouble(proxy).await? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        })
        .await??;
    }
    for proxy in [0, 1] {
        ensure!(apart.status(&client, proxy, "app").await? == 200, "proxy {proxy}");
    }
    Ok(())
}

/// Whether a process is without a databroker.
async fn trouble(process: &Environment) -> Result<bool> {
    let status = process
        .client()?
        .get(&process.health_url("/status"))
        .await?
        .json()?;
    Ok(status["statuses"]["databroker.connection"]["error"].is_string())
}

/// Somebody signs in, and whoever is signed in passes all the while.
async fn nobody_notices(apart: &Apart, client: &Client) -> Result<()> {
    let new = async {
        // Few are tried: whoever signs in again and again is held up.
        while apart
            .sign_in(&apart.client()?)
            .await
            .map_or(true, |page| page.status != 200)
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    let known = async {
        loop {
            for proxy in [0, 1] {
                let status = apart.status(client, proxy, "app").await?;
                ensure!(status == 200, "{status} at proxy {proxy}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        signed_in = tokio::time::timeout(SOON, new) => signed_in.context("nobody could sign in")?,
        refused = known => refused,
    }
}

async fn ready(databroker: &Environment) -> Result<()> {
    let client = databroker.client()?;
    within("the databroker to serve again", async {
        while client.get(&databroker.health_url("/readyz")).await?.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await?
}
