//! Start, reload, stop, crash.

use anyhow::Result;
use pomerium_testing::{Environment, Route, Upstream, within};
use pomerium_tests::{scripted, scripted_with};
use serde_json::json;

#[tokio::test]
async fn a_session_survives_kill_minus_nine() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    stage.env.kill().await?;
    stage.env.start_again().await?;
    assert_eq!(
        stage.api(&client, "app", "/").await?.status,
        200,
        "still signed in"
    );
    assert_eq!(
        stage.idp.seen().iter().filter(|path| *path == "/token").count(),
        1,
        "without asking the provider"
    );
    Ok(())
}

#[tokio::test]
async fn a_bad_reload_keeps_the_old_settings_and_says_so() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    let mark = stage.env.log().mark();
    stage
        .env
        .rewrite_config(|config| config["routes"][0]["to"] = "gopher://nowhere".into())?;
    let line = stage
        .env
        .log()
        .wait_from(mark, "the refusal", |line| {
            line.contains("gopher") || line.contains("scheme")
        })
        .await?;
    assert!(line.contains("error") || line.contains("ERROR"), "{line}");
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn sighup_reads_the_file_again_where_nothing_is_watched() -> Result<()> {
    let mut stage =
        scripted_with(|builder| builder.set("runtime_flags", json!({ "config_hot_reload": false }))).await?;
    let port = stage.env.port();
    stage.env.rewrite_config(|config| {
        config["routes"][2]["from"] = format!("https://moved.example.com:{port}").into();
    })?;
    let client = stage.env.client()?;
    assert_eq!(client.get(&stage.env.url("open", "/")).await?.status, 200);
    stage.env.signal("HUP").await?;
    let url = stage.env.url("moved", "/");
    within("the moved route", async {
        while client.get(&url).await.is_ok_and(|reply| reply.status != 200) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await?;
    assert_eq!(stage.api(&client, "open", "/").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_soft_stop_lets_a_running_answer_finish() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let gate = upstream.gate("last");
    let mut client = env.raw("open").await?;
    client
        .send(format!(
            "GET /gated/last HTTP/1.1\r\nHost: {}\r\n\r\n",
            env.authority_of("open")
        ))
        .await?;
    upstream.wait_for(1).await?;
    gate.send("the ").await?;
    client.wait_for_bytes(b"the ").await?;
    env.signal("TERM").await?;
    within("the listener to close", async {
        while env.raw("open").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await?;
    // A wish to reload is not a second wish to stop.
    env.signal("HUP").await?;
    env.log()
        .wait("the answer to SIGHUP", |line| {
            line.contains("config: not reloaded")
        })
        .await?;
    gate.send("end").await?;
    drop(gate);
    assert_eq!(client.reply(false).await?.text(), "the end");
    Ok(())
}

#[tokio::test]
async fn sessions_that_were_given_out_survive_a_kill_amid_other_sign_ins() -> Result<()> {
    const MANY: usize = 10;
    let mut stage = scripted().await?;
    let given = std::cell::RefCell::new(Vec::new());
    let keep = |client| {
        given.borrow_mut().push(client);
        given.borrow().len()
    };
    let sign_in = async || {
        // Ends with the sign-in that the kill cut off, or with the one that kills.
        while let Ok(client) = stage.signed_in().await {
            if keep(client) == MANY {
                stage.env.signal("KILL").await?;
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(sign_in(), sign_in(), sign_in())?;
    let given = given.into_inner();
    assert!(given.len() >= MANY, "only {} sign-ins", given.len());
    stage.env.kill().await?;
    stage.env.start_again().await?;
    for client in &given {
        assert_eq!(stage.api(client, "app", "/").await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn another_shared_secret_is_refused_while_people_are_signed_in() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    let mark = stage.env.log().mark();
    stage.env.rewrite_config(|config| {
        config["shared_secret"] = "YW5vdGhlciBzaGFyZWQgc2VjcmV0LCAzMiBieXRlcyE=".into();
    })?;
    let refused = |line: &str| line.contains("shared_secret") && line.contains("restart");
    stage.env.log().wait_from(mark, "the refusal", refused).await?;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    stage.signed_in().await?;
    Ok(())
}
