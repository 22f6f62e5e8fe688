//! A sign-in that is asked to be fresh or strong (pocket-id GHSA-hp74-gm6m-2qm5, tinyauth CVE-2026-32246, zitadel
//! CVE-2025-64103): only the signed statement about that very sign-in counts, and one that falls short opens
//! nothing and goes round in no circle.

use anyhow::Result;
use pomerium_testing::{Client, Environment, Reply, Route, ScriptedIdp, SignIn, Upstream};
use serde_json::{Value, json};

use crate::forge;

struct Vault {
    env: Environment,
    upstream: Upstream,
    idp: ScriptedIdp,
}

/// `plain` is for everyone who is signed in; `vault` asks for more.
async fn vault(authentication: Value) -> Result<Vault> {
    let (upstream, idp) = (Upstream::start().await?, ScriptedIdp::start().await?);
    let policy = json!([{ "allow": { "and": [
        { "domain": { "is": "example.com" } },
        { "authentication": authentication },
    ]}}]);
    let env = Environment::builder()?
        .sign_in(SignIn::Oidc(idp.issuer()))
        .route(Route::new("plain", &upstream.url()).any_user())
        .route(Route::new("vault", &upstream.url()).policy(policy))
        .start()
        .await?;
    Ok(Vault { env, upstream, idp })
}

impl Vault {
    /// Signed in, as the provider is scripted.
    async fn signed_in(&self) -> Result<Client> {
        let client = self.env.client()?;
        let reply = client.follow(&self.env.url("plain", "/")).await?;
        anyhow::ensure!(reply.status == 200, "{}", reply.text());
        self.upstream.take_requests();
        Ok(client)
    }

    async fn open(&self, client: &Client) -> Result<Reply> {
        client.follow(&self.env.url("vault", "/secret")).await
    }

    fn authorizations(&self) -> usize {
        self.idp
            .seen()
            .iter()
            .filter(|path| *path == "/authorize")
            .count()
    }
}

#[tokio::test]
async fn what_falls_short_opens_nothing_and_goes_round_in_no_circle() -> Result<()> {
    let now = forge::now();
    for (what, id_token) in [
        ("it does not say when", json!({})),
        ("long ago", json!({ "auth_time": now - 100_000 })),
        ("tomorrow", json!({ "auth_time": now + 86_400 })),
        ("no number", json!({ "auth_time": "now" })),
        ("nothing", json!({ "auth_time": null })),
    ] {
        let vault = vault(json!({ "max_age": "5m" })).await?;
        vault.idp.script(|script| script.overrides = id_token);
        let client = vault.signed_in().await?;
        let before = vault.authorizations();
        let reply = vault.open(&client).await?;
        assert_eq!(reply.status, 403, "{what}: {}", reply.text());
        assert!(
            reply.text().contains("a sign-in no older than 5 min"),
            "{what}: {}",
            reply.text()
        );
        assert_eq!(
            vault.authorizations() - before,
            2,
            "{what}: asked twice, then told"
        );
        assert!(vault.upstream.requests().is_empty(), "{what}");
        assert_eq!(
            client.get(&vault.env.url("plain", "/")).await?.status,
            200,
            "{what}: the session that was there stays"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_sign_in_that_is_enough_opens() -> Result<()> {
    let vault = vault(json!({ "max_age": "5m", "amr": ["pwd", "hwk"], "acr": ["gold"] })).await?;
    let client = vault.signed_in().await?;
    let good = json!({ "auth_time": forge::now(), "amr": ["hwk", "pwd"], "acr": "gold" });
    vault.idp.script(|script| script.overrides = good);
    let reply = vault.open(&client).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(vault.upstream.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn only_the_id_token_says_how_somebody_signed_in() -> Result<()> {
    let vault = vault(json!({ "amr": ["hwk"], "max_age": "5m" })).await?;
    // What people may write into their own profile at the provider.
    vault.idp.script(|script| {
        script.claims["amr"] = json!(["hwk"]);
        script.claims["auth_time"] = forge::now().into();
        script.overrides = json!({ "amr": ["pwd"], "auth_time": forge::now() - 100_000 });
    });
    let client = vault.signed_in().await?;
    let reply = vault.open(&client).await?;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(vault.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_session_made_by_a_weaker_login_is_judged_as_what_it_is() -> Result<()> {
    let vault = vault(json!({ "amr": ["hwk"] })).await?;
    let strong = json!({ "auth_time": forge::now(), "amr": ["hwk"] });
    vault.idp.script(|script| script.overrides = strong);
    let client = vault.signed_in().await?;
    assert_eq!(vault.open(&client).await?.status, 200);
    // The same person signs in again with less: the strength of the session before is not inherited.
    vault
        .idp
        .script(|script| script.overrides = json!({ "amr": ["pwd"] }));
    let other = vault.signed_in().await?;
    assert_eq!(vault.open(&other).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn the_demand_travels_signed() -> Result<()> {
    let vault = vault(json!({ "max_age": "5m" })).await?;
    let client = vault.signed_in().await?;
    // The provider does not say when: this ends at the page, with a session at the route.
    vault.open(&client).await?;
    let link = forge::walk_to(&client, &vault.env.url("vault", "/secret"), |path| {
        path == "/.pomerium/sign_in"
    })
    .await?;
    assert!(link.contains("pomerium_max_age=300"), "{link}");
    let seen = vault.authorizations();
    for forged in [
        link.replace("pomerium_max_age=300", "pomerium_max_age=99999999"),
        link.replace("pomerium_max_age=300&", ""),
        format!("{link}&pomerium_max_age=99999999"),
        format!("{link}&pomerium_amr=x"),
    ] {
        assert_eq!(
            client.get_with(&forged, &[("accept", "text/html")]).await?.status,
            400,
            "{forged}"
        );
    }
    // Parameters of the application's own address are the application's.
    let own = vault
        .env
        .url("plain", "/?pomerium_max_age=0&pomerium_acr_values=gold");
    assert_eq!(client.get(&own).await?.status, 200);
    assert_eq!(vault.authorizations(), seen, "nobody was sent to the provider");
    Ok(())
}

#[tokio::test]
async fn programs_are_told_what_is_missing_and_where() -> Result<()> {
    let vault = vault(json!({ "max_age": "5m", "acr": ["gold", "silver"] })).await?;
    let client = vault.signed_in().await?;
    // Ends at the page, with a session at the route.
    vault.open(&client).await?;
    let reply = client
        .get_with(&vault.env.url("vault", "/api"), &[("accept", "application/json")])
        .await?;
    assert_eq!(reply.status, 401);
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.contains("error=\"insufficient_user_authentication\"")
            && challenge.contains("max_age=\"300\"")
            && challenge.contains("acr_values=\"gold silver\""),
        "{challenge}"
    );
    let body = reply.json()?;
    assert_eq!(body["error"], "insufficient_user_authentication");
    assert_eq!(body["code"], "step-up-needed");
    assert!(
        body["login_url"]
            .as_str()
            .is_some_and(|url| url.contains("pomerium_max_age=300"))
    );
    assert!(vault.upstream.requests().is_empty());

    let nobody = vault
        .env
        .client()?
        .get_with(&vault.env.url("vault", "/api"), &[("accept", "application/json")])
        .await?;
    assert_eq!(
        nobody.json()?["code"],
        "sign-in-needed",
        "who is not signed in at all signs in first"
    );
    Ok(())
}
