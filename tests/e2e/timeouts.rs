//! Timeouts of a route: the default, its own, and none; and those of every request.

use anyhow::Result;
use pomerium_testing::{Environment, Route, Upstream};

#[tokio::test]
async fn a_route_without_timeout_outlives_the_default_and_idleness_has_its_own() -> Result<()> {
    let upstream = Upstream::start().await?;
    let stall = format!("{}/stall", upstream.url());
    let env = Environment::builder()?
        .set("default_upstream_timeout", "300ms")
        .route(Route::new("default", &stall).public())
        .route(Route::new("off", &upstream.url()).public().set("timeout", "0s"))
        .route(
            Route::new("idle", &stall)
                .public()
                .set("timeout", "0s")
                .set("idle_timeout", "200ms"),
        )
        .start()
        .await?;
    let gate = upstream.gate("late");
    let mut patient = env.raw("off").await?;
    let head = format!(
        "GET /gated/late HTTP/1.1\r\nHost: {}\r\n\r\n",
        env.authority_of("off")
    );
    patient.send(head).await?;
    upstream.wait_for(1).await?;
    // Begun later and over earlier: the default has passed for the patient one as well.
    for (name, details) in [("default", "response_timeout"), ("idle", "stream_idle_timeout")] {
        let mark = env.log().mark();
        assert_eq!(
            env.client()?.get(&env.url(name, "/")).await?.status,
            504,
            "{name}"
        );
        let line = env
            .log()
            .wait_json(mark, "the timeout in the log", |line| {
                line["message"] == "http-request"
            })
            .await?;
        assert_eq!(line["response-code-details"], details, "{name}");
    }
    gate.send("at last").await?;
    drop(gate);
    let reply = patient.reply(false).await?;
    assert_eq!((reply.status, reply.text().as_str()), (200, "at last"));
    Ok(())
}

/// `timeout_write` bounds the whole life of a request, however alive it is.
#[tokio::test]
async fn a_request_may_have_a_longest_life() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set("timeout_write", "400ms")
        .route(Route::new("off", &upstream.url()).public().set("timeout", "0s"))
        .start()
        .await?;
    let details = async |mark: usize| {
        let logged = |line: &serde_json::Value| line["message"] == "http-request";
        let line = env
            .log()
            .wait_json(mark, "the request in the log", logged)
            .await?;
        anyhow::Ok(
            line["response-code-details"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let mark = env.log().mark();
    assert_eq!(env.client()?.get(&env.url("off", "/stall")).await?.status, 504);
    assert_eq!(details(mark).await?, "max_duration_timeout");
    let (mark, gate) = (env.log().mark(), upstream.gate("endless"));
    let mut client = env.raw("off").await?;
    let head = format!(
        "GET /gated/endless HTTP/1.1\r\nHost: {}\r\n\r\n",
        env.authority_of("off")
    );
    client.send(head).await?;
    gate.send("begun").await?;
    client.wait_for_bytes(b"begun").await?;
    let rest = client.read_to_close().await?;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "cut, and not passed off as whole");
    assert!(details(mark).await?.contains("max_duration"));
    Ok(())
}
