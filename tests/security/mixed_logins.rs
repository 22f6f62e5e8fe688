//! Many people signing in at once (tinyauth CVE-2026-33544): everyone becomes themselves.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use pomerium_testing::Account;
use pomerium_testing::{Environment, Route, SignIn, Upstream};

#[tokio::test]
async fn everyone_becomes_themselves() -> Result<()> {
    let upstream = Upstream::start().await?;
    let accounts: Vec<Account> = (0..6)
        .map(|n| Account::new(&format!("user{n}"), &format!("a long passphrase {n}")))
        .collect();
    let env = Environment::builder()?
        .set("jwt_claims_headers", serde_json::json!({ "X-Email": "email" }))
        .sign_in(SignIn::Local(accounts.clone()))
        .route(Route::new("app", &upstream.url()).any_user().identity())
        .start()
        .await?;
    let env = &env;
    let sign_ins = accounts.iter().map(|account| async move {
        let client = env.client()?;
        let page = client.follow(&env.url("app", "/who")).await?;
        let email = format!("{}@example.com", account.login());
        let reply = client.sign_in(&page, &email, account.password()).await?;
        let seen = reply.json()?;
        let headers = seen["headers"].as_array().context("an echo")?;
        let who = headers
            .iter()
            .find(|pair| pair[0] == "x-email")
            .map(|pair| pair[1].clone());
        anyhow::ensure!(who == Some(email.clone().into()), "{email} became {who:?}");
        Ok(())
    });
    try_join_all(sign_ins).await?;
    Ok(())
}
