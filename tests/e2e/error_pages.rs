//! Pages for applications that do not answer, as people and programs get them.

use anyhow::{Context, Result};
use pomerium_testing::{Browser, Environment, Look, Route, Upstream, lease};
use serde_json::json;

use crate::browser_local::{judge_page, look_at};

/// `down` has nobody behind it, `slow` stalls; the pages carry a brand.
async fn stage(upstream: &Upstream) -> Result<(Environment, u16)> {
    let nobody = lease()?;
    let env = Environment::builder()?
        .set(
            "branding",
            json!({
                "primary_color": "#ffd400", "darkmode_primary_color": "#00305a", "secondary_color": "#0a7d5a",
                "error_message_first_paragraph": "Need help? [Ask the service desk](https://help.example.com). <b>Not bold</b>",
            }),
        )
        .route(Route::new("down", &format!("http://127.0.0.1:{}", nobody.number())).public())
        .route(Route::new("slow", &format!("{}/stall", upstream.url())).public().set("timeout", "200ms"))
        .start()
        .await?;
    Ok((env, nobody.number()))
}

#[tokio::test]
async fn people_see_whose_fault_it_is_and_what_to_do() -> Result<()> {
    let upstream = Upstream::start().await?;
    let (env, port) = stage(&upstream).await?;
    let browser = Browser::start().await?;
    look_at(
        &browser,
        &env.url("down", "/reports?year=2026"),
        "application-down",
    )
    .await?;
    look_at(&browser, &env.url("slow", "/"), "application-slow").await?;

    let page = browser.open(Look::PHONE).await?;
    assert_eq!(page.goto(&env.url("down", "/reports?year=2026")).await?.0, 503);
    let text = page.text("main").await?;
    for part in ["not answering", "Try again", "service desk", "<b>Not bold</b>"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(
        !text.contains(&port.to_string()),
        "no address of the application:\n{text}"
    );
    let again = page
        .evaluate("document.querySelector('.actions a').getAttribute('href')")
        .await?;
    assert_eq!(again, "/reports?year=2026");
    let read = "JSON.parse(document.getElementById('POMERIUM_DATA').textContent)";
    let data = page
        .evaluate(&format!(
            "{read}.code + ' ' + {read}.responseFlags + ' ' + {read}.requestId"
        ))
        .await?;
    let foot = page.text("#request-id").await?;
    assert_eq!(data, format!("application-down UF {foot}"));
    page.click("summary").await?;
    assert!(page.text("details").await?.contains("connection_failure"));
    judge_page(&page, "application-down-open-390-light").await?;
    Ok(())
}

#[tokio::test]
async fn programs_are_told_when_to_come_back_and_a_post_is_not_repeated() -> Result<()> {
    let upstream = Upstream::start().await?;
    let (env, _) = stage(&upstream).await?;
    let client = env.client()?;
    let url = env.url("down", "/x");
    let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
    assert_eq!(
        (reply.status.as_u16(), reply.header("retry-after")),
        (503, Some("5"))
    );
    assert!(reply.text().contains("href=\"/x\""));
    let posted = client
        .send(http::Method::POST, &url, &[("accept", "text/html")], "a=1")
        .await?;
    assert_eq!(posted.status, 503);
    assert!(!posted.text().contains("href=\"/x\""), "asking twice may do harm");
    let line = env
        .log()
        .wait_json(0, "the failure in the log", |line| {
            line["message"] == "http-request" && line["method"] == "GET"
        })
        .await?;
    let details = line["response-code-details"].as_str().context("no details")?;
    assert!(
        reply.text().contains(details),
        "the page names what the log says: {details}"
    );
    Ok(())
}

#[tokio::test]
async fn too_many_cookies_are_explained_to_people_and_named_to_programs() -> Result<()> {
    let upstream = Upstream::start().await?;
    let (env, _) = stage(&upstream).await?;
    for (accept, part) in [
        ("text/html", "Delete the cookies"),
        ("*/*", "Request Header Fields Too Large"),
    ] {
        let mut client = env.raw("down").await?;
        let many: String = (0..1100).map(|n| format!("x-{n}: 1\r\n")).collect();
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n{many}\r\n",
                env.authority_of("down")
            ))
            .await?;
        let reply = client.reply(false).await?;
        assert_eq!(reply.status, 431);
        assert!(reply.text().contains(part), "{accept}: {}", reply.text());
    }
    Ok(())
}
