//! Timeouts of a route: the default, its own, and none.

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
