//! Device identity: links that nobody made, answers for another page, session or person, keys that would change
//! hands. (Web Authentication, section 13.4; for where the page leads Pomerium CVE-2021-29651, for values that count
//! only for whom and what they were made zitadel CVE-2026-55672, each with keys in place of tokens.)

mod answers;
mod invitations;
mod links;
mod owners;
mod programs;

use anyhow::{Context, Result};
use pomerium_crypto::encoding::base58_encode;
use pomerium_crypto::signed_url;
use pomerium_testing::{Answering, Client, ScriptedIdp, SoftKey};
use pomerium_tests::devices::{Asked, post};
use pomerium_tests::{Stage, scripted};

use crate::forge::{encode, key, now};

/// A link to the page of `host`, signed `age` seconds ago.
fn link(stage: &Stage<ScriptedIdp>, host: &str, parameters: &[(&str, &str)], age: i64) -> Result<String> {
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let url = stage
        .env
        .url(host, &format!("/.pomerium/webauthn?{}", query.join("&")));
    Ok(signed_url::sign(
        &key(&stage.env, "shared_secret")?,
        &url,
        now() - age,
    )?)
}

/// The link of a policy: a device of any type, then on to `/after`.
fn usual(stage: &Stage<ScriptedIdp>) -> Result<String> {
    let after = stage.env.url("app", "/after");
    link(
        stage,
        "app",
        &[("pomerium_device_type", "any"), ("pomerium_redirect_uri", &after)],
        0,
    )
}

/// Opens the page that `usual` leads to.
async fn ask(stage: &Stage<ScriptedIdp>, client: &Client) -> Result<Asked> {
    Asked::of(&client.follow(&usual(stage)?).await?)
}

/// Registers `key` at the page that [`usual`] leads to, and returns the status.
async fn register(stage: &Stage<ScriptedIdp>, client: &Client, key: &SoftKey) -> Result<u16> {
    Ok(ask(stage, client)
        .await?
        .register(client, key)
        .await?
        .status
        .as_u16())
}

/// Somebody signed in, with a device of theirs.
async fn with_device() -> Result<(Stage<ScriptedIdp>, Client, SoftKey)> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let key = SoftKey::new(b"key")?;
    assert_eq!(register(&stage, &client, &key).await?, 302);
    Ok((stage, client, key))
}

/// Removes `key`, as the page of the account does, and returns the status.
async fn unregister(stage: &Stage<ScriptedIdp>, client: &Client, key: &SoftKey) -> Result<u16> {
    let id = base58_encode(&key.id);
    let fields = [
        ("action", "unregister"),
        ("pomerium_device_credential_id", id.as_str()),
    ];
    let reply = post(client, &ask(stage, client).await?.action, &fields).await?;
    Ok(reply.status.as_u16())
}

/// Answers for the page that [`usual`] leads to.
fn usual_answers(stage: &Stage<ScriptedIdp>) -> Answering {
    Answering::at(&stage.env.url("app", ""))
}

/// A client of somebody else.
async fn other_person(stage: &Stage<ScriptedIdp>) -> Result<Client> {
    stage.idp.script(|script| {
        script.claims["sub"] = "id-other".into();
        script.claims["email"] = "other@example.com".into();
    });
    stage.signed_in().await.context("the other person signs in")
}
