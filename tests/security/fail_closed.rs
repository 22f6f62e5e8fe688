//! Doubt means no (Envoy CVE-2023-27488; traefik CVE-2022-46153; oauth2-proxy CVE-2021-21411): what cannot be
//! judged, opened or honoured is refused, with a page and a log line.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pomerium_testing::{Environment, Program, Route, SignIn, within};
use pomerium_tests::scripted;
use serde_json::json;

#[tokio::test]
async fn criteria_that_are_not_understood_stop_the_start() -> Result<()> {
    for (name, policy) in [
        (
            "os",
            json!([{ "allow": { "or": [{ "device": { "os": "x" } }] } }]),
        ),
        (
            "someday",
            json!([{ "allow": { "or": [{ "date": { "after": "someday" } }] } }]),
        ),
        (
            "groups/nmae",
            json!([{ "allow": { "or": [{ "groups/nmae": { "has": "admins" } }] } }]),
        ),
        ("alow", json!([{ "alow": { "or": [{ "accept": true }] } }])),
        ("xor", json!([{ "allow": { "xor": [{ "accept": true }] } }])),
        (
            "starts_wth",
            json!([{ "deny": { "or": [{ "http_path": { "starts_wth": "/admin" } }] } }]),
        ),
        ("policy", json!("deny everyone")),
    ] {
        let (status, output) = Environment::builder()?
            .sign_in(SignIn::Oidc("http://127.0.0.1:9".into()))
            .route(Route::new("app", "http://127.0.0.1:9").policy(policy))
            .refused()
            .await?;
        assert!(!status.success(), "{name}");
        let said = output.tail(50);
        assert!(said.contains(name), "{name} is not named:\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_policy_lets_nobody_in() -> Result<()> {
    let stage = pomerium_tests::scripted_with(|builder| {
        builder
            .route(Route::new("nothing", "http://127.0.0.1:9"))
            .route(Route::new("empty", "http://127.0.0.1:9").policy(json!([])))
            .route(Route::new("hollow", "http://127.0.0.1:9").policy(json!([{ "allow": { "or": [] } }])))
            .route(
                Route::new("only-deny", "http://127.0.0.1:9")
                    .policy(json!([{ "deny": { "or": [{ "http_path": { "starts_with": "/x" } }] } }])),
            )
    })
    .await?;
    let client = stage.signed_in().await?;
    for host in ["nothing", "empty", "hollow", "only-deny"] {
        let status = client.follow(&stage.env.url(host, "/")).await?.status;
        assert_eq!(status, 403, "{host}");
    }
    Ok(())
}

#[tokio::test]
async fn a_store_of_another_key_is_not_opened_and_not_emptied() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    let right = stage.env.config()["shared_secret"].clone();
    stage.env.kill().await?;
    stage.env.rewrite_config(|config| {
        config["shared_secret"] = STANDARD.encode([9_u8; 32]).into();
    })?;
    let mut program = Program::start(stage.env.command()?)?;
    let status = program.wait().await?;
    assert!(!status.success(), "started over a store that it cannot read");
    let said = program.output().tail(30);
    assert!(said.contains("store") && said.contains("data"), "{said}");
    stage
        .env
        .rewrite_config(|config| config["shared_secret"] = right)?;
    stage.env.start_again().await?;
    assert_eq!(
        stage.api(&client, "app", "/").await?.status,
        200,
        "nothing was lost"
    );
    Ok(())
}

#[tokio::test]
async fn a_broken_store_is_not_a_fresh_one() -> Result<()> {
    let mut stage = scripted().await?;
    stage.signed_in().await?;
    stage.env.kill().await?;
    let mut broken = 0;
    let mut folders = vec![stage.env.folder().join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|kind| kind == "records" || kind == "index")
            {
                let length = std::fs::metadata(&path)?.len();
                std::fs::write(&path, vec![0xA5; usize::try_from(length)?])?;
                broken += 1;
            }
        }
    }
    assert!(broken > 0, "there is a store");
    let mut program = Program::start(stage.env.command()?)?;
    assert!(!program.wait().await?.success(), "started over a broken store");
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_page_and_a_log_line() -> Result<()> {
    let stage = pomerium_tests::scripted_with(|builder| {
        builder.route(Route::new("down", "http://127.0.0.1:9").public())
    })
    .await?;
    let client = stage.env.client()?;
    for (accept, kind) in [
        ("text/html", "text/html"),
        ("application/json", "application/json"),
    ] {
        let mark = stage.env.log().mark();
        let reply = client
            .get_with(&stage.env.url("down", "/gone"), &[("accept", accept)])
            .await?;
        assert_eq!(reply.status, 503, "{accept}");
        assert!(
            reply
                .header("content-type")
                .is_some_and(|given| given.starts_with(kind)),
            "{:?}",
            reply.header("content-type")
        );
        assert!(!reply.text().contains("127.0.0.1"), "{}", reply.text());
        stage
            .env
            .log()
            .wait_json(mark, "the access log", |line| {
                line["message"] == "http-request" && line["path"] == "/gone"
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_that_opens_more_than_it_says_is_refused_whole() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.env.client()?;
    let mark = stage.env.log().mark();
    // One route becomes public, another is broken: neither counts.
    stage.env.rewrite_config(|config| {
        config["routes"][0] = json!({
            "from": config["routes"][0]["from"],
            "to": config["routes"][0]["to"],
            "allow_public_unauthenticated_access": true,
        });
        config["routes"][1]["policy"] = json!([{ "allow": { "or": [{ "no_such_criterion": true }] } }]);
    })?;
    stage
        .env
        .log()
        .wait_from(mark, "the refusal", |line| line.contains("no_such_criterion"))
        .await?;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 401);
    assert!(stage.upstream.requests().is_empty());
    // A good one closes a route for those who are in already.
    let client = stage.signed_in().await?;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    stage.env.rewrite_config(|config| {
        let (from, to) = (
            config["routes"][0]["from"].clone(),
            config["routes"][0]["to"].clone(),
        );
        config["routes"][1]["policy"] = json!([{ "allow": { "or": [{ "reject": true }] } }]);
        config["routes"][0] = json!({ "from": from, "to": to });
    })?;
    within("the closed route", async {
        while stage.api(&client, "app", "/").await?.status == 200 {}
        anyhow::Ok(())
    })
    .await??;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn a_denied_request_is_in_the_log_with_its_reason() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    client.follow(&stage.env.url("admin", "/who")).await?;
    let mark = stage.env.log().mark();
    stage.api(&client, "admin", "/secret").await?;
    let line = stage
        .env
        .log()
        .wait_json(mark, "the decision", |line| {
            line["path"] == "/secret" && line["message"] == "authorize check"
        })
        .await?;
    assert_eq!(line["allow"], false, "{line}");
    assert_eq!(line["allow-why-false"], json!(["claim-unauthorized"]), "{line}");
    assert_eq!(line["email"], "developer@example.com", "{line}");
    assert_eq!(line["rule"], "policy[0].allow.and", "{line}");
    Ok(())
}
