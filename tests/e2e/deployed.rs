//! The files of `deploy/`, as `docs/deployment.md` tells to use them: started, and signed in through.

use anyhow::{Result, ensure};
use pomerium_testing::{Client, Environment, Postgres, within};
use pomerium_tests::deployed::Site;

async fn status(client: &Client, proxy: &Environment) -> Result<u16> {
    let reply = client
        .get_with(&proxy.url("wiki", "/page"), &[("accept", "application/json")])
        .await?;
    Ok(reply.status.as_u16())
}

#[tokio::test]
async fn one_box() -> Result<()> {
    let mut site = Site::new().await?;
    let pomerium = site.authenticate("one-box/config.yaml").await?;
    site.signed_in(&pomerium).await?;
    ensure!(
        site.upstream
            .requests()
            .iter()
            .any(|request| request.target == "/page")
    );
    Ok(())
}

#[tokio::test]
async fn split() -> Result<()> {
    let mut site = Site::new().await?;
    let mut databroker = site.databroker("split/databroker.yaml").await?;
    let _authenticate = site.authenticate("split/authenticate.yaml").await?;
    let proxy = site.proxy("split/proxy.yaml").await?;
    let client = site.signed_in(&proxy).await?;
    databroker.kill().await?;
    ensure!(status(&client, &proxy).await? == 200, "people work on");
    databroker.start_again().await?;
    within("a sign-in after the databroker is back", async {
        while site.sign_in(&proxy).await?.1.status != 200 {}
        anyhow::Ok(())
    })
    .await??;
    ensure!(status(&client, &proxy).await? == 200, "sessions are in files");
    Ok(())
}

#[tokio::test]
async fn replicated() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut site = Site::new().await?;
    site.postgres(&postgres.connection("postgres"))?;
    let mut databrokers = [
        site.databroker("replicated/databroker.yaml").await?,
        site.databroker("replicated/databroker.yaml").await?,
    ];
    let _authenticate = site.authenticate("replicated/authenticate.yaml").await?;
    let proxies = [
        site.proxy("replicated/proxy.yaml").await?,
        site.proxy("replicated/proxy.yaml").await?,
    ];
    let mut people = vec![site.signed_in(&proxies[0]).await?];
    databrokers[0].kill().await?;
    within("a sign-in by way of the other databroker", async {
        loop {
            let (client, reply) = site.sign_in(&proxies[0]).await?;
            if reply.status == 200 {
                people.push(client);
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    for client in &people {
        for proxy in &proxies {
            let status = status(client, proxy).await?;
            ensure!(status == 200, "{status} at {}", proxy.address());
        }
    }
    Ok(())
}
