//! `pomerium session`: an administrator of the machine looks through the session of somebody else.

use std::process::ExitStatus;

use anyhow::{Context, Result};
use pomerium_testing::{Client, Environment, Program, tools, within};
use pomerium_tests::{Stage, scripted};
use serde_json::Value;

/// Runs `pomerium session …` as an administrator would. What it printed, and how it ended.
pub async fn session(env: &Environment, arguments: &[&str]) -> Result<(ExitStatus, String)> {
    let mut command = tokio::process::Command::new(tools::server()?);
    command.arg("session").args(arguments);
    command.arg("--data-dir").arg(env.folder().join("data"));
    let mut program = Program::start(command)?;
    let status = program.wait().await?;
    Ok((status, program.output().all().join("\n")))
}

/// A client that is signed in as `<login>@example.com`, and the id of its session.
pub async fn signed_in_as(
    stage: &Stage<pomerium_testing::ScriptedIdp>,
    login: &str,
) -> Result<(Client, String)> {
    stage.idp.script(|script| {
        script.claims["sub"] = format!("id-{login}").into();
        script.claims["email"] = format!("{login}@example.com").into();
        script.claims["groups"] = vec![format!("group-of-{login}")].into();
    });
    let client = stage.signed_in().await?;
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    let token = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?;
    let id = pomerium_tests::payload(token)["sid"].as_str().map(str::to_owned);
    Ok((client, id.context("no session id")?))
}

/// What the application is told once it is told of `email`: the proxy hears of an impersonation as of every change.
async fn seen_as(
    stage: &Stage<pomerium_testing::ScriptedIdp>,
    client: &Client,
    email: &str,
) -> Result<Value> {
    within("the application to see somebody else", async {
        loop {
            let claims = claims(stage, client).await?;
            if claims["email"] == email {
                return Ok(claims);
            }
        }
    })
    .await?
}

async fn claims(stage: &Stage<pomerium_testing::ScriptedIdp>, client: &Client) -> Result<Value> {
    let reply = client.get(&stage.env.url("app", "/")).await?;
    anyhow::ensure!(reply.status == 200, "{}", reply.status);
    let request = stage.upstream.take_requests().pop().context("no request")?;
    let token = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?;
    Ok(pomerium_tests::payload(token))
}

#[tokio::test]
async fn an_administrator_sees_what_somebody_else_sees_and_it_is_written_down() -> Result<()> {
    let stage = scripted().await?;
    let (_other, target) = signed_in_as(&stage, "member").await?;
    let (client, own) = signed_in_as(&stage, "helpdesk").await?;

    let (status, listed) = session(&stage.env, &["list"]).await?;
    assert!(status.success(), "{listed}");
    assert!(listed.contains(&target) && listed.contains("member@example.com") && listed.contains(&own));
    let (_, listed) = session(&stage.env, &["list", "--user", "member@example.com"]).await?;
    assert!(listed.contains(&target) && !listed.contains(&own), "{listed}");

    let mark = stage.env.log().mark();
    let begin = [
        "impersonate",
        "--session",
        &own,
        "--as-user",
        "member@example.com",
        "--reason",
        "ticket 4711",
    ];
    let (status, said) = session(&stage.env, &begin).await?;
    assert!(status.success(), "{said}");
    assert!(
        said.contains("session impersonate: asked for") && said.contains("ticket 4711"),
        "the command writes it down: {said}"
    );
    let line = stage
        .env
        .log()
        .wait_json(mark, "the audit line of the server", |line| {
            line["message"] == "impersonation began"
        })
        .await?;
    assert_eq!(line["reason"], "ticket 4711");
    assert_eq!(line["session-id"], own.as_str());
    assert_eq!(line["email"], "helpdesk@example.com");
    assert_eq!(line["impersonate-session-id"], target.as_str());
    assert_eq!(line["impersonate-email"], "member@example.com");
    assert!(line["by-uid"].is_u64());

    let seen = seen_as(&stage, &client, "member@example.com").await?;
    assert_eq!(seen["groups"][0], "group-of-member");
    assert_eq!(seen["sid"], own.as_str(), "the session stays that of who looks");
    let decision = stage
        .env
        .log()
        .wait_json(mark, "a decision that names both", |line| {
            line["message"] == "authorize check" && line["impersonate-email"] == "member@example.com"
        })
        .await?;
    assert_eq!(decision["email"], "helpdesk@example.com");

    let (status, said) = session(&stage.env, &["impersonate", "--session", &own, "--end"]).await?;
    assert!(status.success(), "{said}");
    stage
        .env
        .log()
        .wait_json(mark, "the end in the log", |line| {
            line["message"] == "impersonation ended" && line["session-id"] == own.as_str()
        })
        .await?;
    seen_as(&stage, &client, "helpdesk@example.com").await?;
    Ok(())
}

#[tokio::test]
async fn it_ends_with_the_session_of_the_other() -> Result<()> {
    let stage = scripted().await?;
    let (other, target) = signed_in_as(&stage, "member").await?;
    let (client, own) = signed_in_as(&stage, "helpdesk").await?;
    let begin = [
        "impersonate",
        "--session",
        &own,
        "--as-session",
        &target,
        "--reason",
        "ticket",
    ];
    let (status, said) = session(&stage.env, &begin).await?;
    assert!(status.success(), "{said}");
    seen_as(&stage, &client, "member@example.com").await?;
    other.follow(&stage.env.url("app", "/.pomerium/sign_out")).await?;
    // The proxy hears of the end of a session as it hears of every change.
    let url = stage.env.url("app", "/");
    within("nobody to look through a session that is over", async {
        while client
            .get_with(&url, &[("accept", "application/json")])
            .await?
            .status
            != 401
        {}
        anyhow::Ok(())
    })
    .await?
}
