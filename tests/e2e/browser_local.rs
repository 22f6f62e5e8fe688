//! A person in Chromium, signing in at the built-in provider. Pictures land in `tests/artifacts`.

use anyhow::{Result, ensure};
use pomerium_testing::{Browser, Look, Page};
use pomerium_tests::{developer, local};

/// What must hold for every page of ours: accessible, no sideways scrolling, nothing blocked or broken.
pub async fn judge_page(page: &Page, name: &str) -> Result<()> {
    page.screenshot(name).await?;
    let faults = page.axe().await?;
    ensure!(faults.is_empty(), "axe on {name}:\n{}", faults.join("\n"));
    ensure!(page.overflow().await? == 0, "{name} has to be scrolled sideways");
    ensure!(page.count("h1").await? == 1, "{name} needs one heading");
    let messages = page.messages().await?;
    // The browser itself reports each 4xx page as an error; that is what the page is about.
    let broken: Vec<_> = messages
        .iter()
        .filter(|text| !text.contains("Failed to load resource"))
        .collect();
    ensure!(broken.is_empty(), "{name}: {broken:?}");
    Ok(())
}

/// Opens a URL in all four looks and judges each.
pub async fn look_at(browser: &Browser, url: &str, name: &str) -> Result<()> {
    for look in Look::ALL {
        let page = browser.open(look).await?;
        page.goto(url).await?;
        judge_page(&page, &format!("{name}-{}", look.name())).await?;
        page.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_built_in_provider_needs_nothing_else() -> Result<()> {
    let stage = local().await?;
    let browser = Browser::start().await?;
    look_at(&browser, &stage.env.url("app", "/"), "sign-in").await?;

    let page = browser.open(Look::PHONE).await?;
    page.goto(&stage.env.url("app", "/inside")).await?;
    let text = page.text("main").await?;
    assert!(
        text.contains("app.example.com"),
        "the page says what asks for the sign-in:\n{text}"
    );
    page.sign_in("developer@example.com", "not the password").await?;
    let text = page.text("main").await?;
    assert!(page.count("[role=alert]").await? == 1, "{text}");
    judge_page(&page, "sign-in-wrong-390-light").await?;

    assert_eq!(
        page.sign_in("developer@example.com", developer().password())
            .await?,
        stage.env.url("app", "/inside")
    );
    let request = stage
        .upstream
        .requests()
        .pop()
        .expect("the application was asked");
    assert_eq!(
        request.header("x-pomerium-claim-email"),
        Some("developer@example.com")
    );

    page.goto(&stage.env.url("admin", "/")).await?;
    let text = page.text("main").await?;
    assert!(
        text.contains("developer@example.com"),
        "one session for all routes, and this one is closed:\n{text}"
    );
    Ok(())
}

#[tokio::test]
async fn every_page_works_without_scripts() -> Result<()> {
    let stage = local().await?;
    let browser = Browser::start().await?;
    let page = browser
        .open(Look {
            scripts: false,
            ..Look::DESKTOP
        })
        .await?;
    page.goto(&stage.env.url("app", "/.pomerium/")).await?;
    page.goto(&stage.env.url("app", "/x")).await?;
    assert_eq!(
        page.sign_in("developer@example.com", developer().password())
            .await?,
        stage.env.url("app", "/x")
    );
    page.goto(&stage.env.url("app", "/.pomerium/sign_out")).await?;
    assert!(page.text("h1").await?.contains("signed out"));
    Ok(())
}

#[tokio::test]
async fn all_looks_of_the_pages_of_a_signed_in_person() -> Result<()> {
    let stage = local().await?;
    let browser = Browser::start().await?;
    for look in Look::ALL {
        let page = browser.open(look).await?;
        page.goto(&stage.env.url("app", "/")).await?;
        page.sign_in("developer@example.com", developer().password())
            .await?;
        for (name, host, path) in [
            ("account", "app", "/.pomerium/"),
            ("applications", "app", "/.pomerium/routes"),
            ("denied", "admin", "/"),
            ("sign-out", "auth", "/.pomerium/sign_out"),
            ("signed-out", "app", "/.pomerium/sign_out"),
        ] {
            page.goto(&stage.env.url(host, path)).await?;
            judge_page(&page, &format!("{name}-{}", look.name())).await?;
        }
        page.close().await?;
    }
    Ok(())
}
