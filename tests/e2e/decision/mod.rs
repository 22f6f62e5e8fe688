//! Proxies that are not ours ask us, as docs/decision-service.md says: each driven by a browser through a whole login.

mod certificates;
mod listener;
mod sidecar;
mod websocket;

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Browser, Look, Page, RawReply};
use pomerium_tests::foreign::{self, ForeignStage};
use pomerium_tests::{developer, payload};
use serde_json::json;

/// What clients send who would like to be somebody else.
const FORGED: [&str; 7] = [
    "X-Pomerium-Jwt-Assertion",
    "x-pomerium-claim-email",
    "X_Pomerium_Jwt_Assertion",
    "X-Pomerium_Claim-Email",
    "X-Pomerium-Claim-Groups",
    "X-Forwarded-User",
    "X_Forwarded_Email",
];

#[tokio::test]
async fn nginx_asks_us() -> Result<()> {
    let mut stage = ForeignStage::start(json!({})).await?;
    foreign::nginx(&mut stage).await?;
    everything(&stage).await
}

#[tokio::test]
async fn traefik_asks_us() -> Result<()> {
    let mut stage = ForeignStage::start(json!({ "protocols": ["forward_auth"] })).await?;
    foreign::traefik(&mut stage).await?;
    everything(&stage).await
}

#[tokio::test]
async fn caddy_asks_us() -> Result<()> {
    let mut stage = ForeignStage::start(json!({})).await?;
    foreign::caddy(&mut stage).await?;
    everything(&stage).await
}

#[tokio::test]
async fn envoy_asks_us() -> Result<()> {
    let mut stage = ForeignStage::start(json!({ "protocols": ["ext_authz"] })).await?;
    foreign::envoy(&mut stage).await?;
    everything(&stage).await
}

async fn everything(stage: &ForeignStage) -> Result<()> {
    let outcome = async {
        strangers(stage).await.context("without a session")?;
        let browser = Browser::start().await?;
        let page = browser.open(Look::DESKTOP).await?;
        whole_login(stage, &page).await.context("in the browser")?;
        let cookie = session_cookie(&page).await?;
        identity_cannot_be_forged(stage, &cookie)
            .await
            .context("with forged headers")?;
        sign_out(stage, &page).await.context("signing out")
    };
    outcome
        .await
        .with_context(|| format!("the proxy said:\n{}", stage.said()))
}

/// Nobody gets in, and everybody is told in a form that they can read.
async fn strangers(stage: &ForeignStage) -> Result<()> {
    let reply = get(stage, "/inside?a=b", &[("Accept", "text/html")]).await?;
    ensure!(reply.status == 302, "a browser: {reply:?}");
    let location = reply.header("location").unwrap_or_default();
    let sign_in = format!(
        "https://authenticate.example.com:{}/.pomerium/sign_in?",
        stage.front.number()
    );
    ensure!(location.starts_with(&sign_in), "{location}");

    let reply = get(stage, "/inside", &[("Accept", "application/json")]).await?;
    ensure!(reply.status == 401, "a program: {reply:?}");
    ensure!(reply.text().contains("/.pomerium/sign_in"), "{}", reply.text());

    let reply = get(stage, "/inside", &[("Sec-Fetch-Mode", "cors")]).await?;
    ensure!(reply.status == 401, "a script: {reply:?}");

    // What crawlers are told is a 200 of ours, and not the application's.
    let reply = get(stage, "/robots.txt", &[]).await?;
    ensure!(
        reply.status != 200 || reply.text().contains("Disallow: /"),
        "{reply:?}"
    );
    ensure!(
        stage.upstream.requests().is_empty(),
        "{:?}",
        stage.upstream.requests()
    );

    let reply = get(stage, "/open/door", &[]).await?;
    ensure!(reply.status == 200, "a public path: {reply:?}");
    ensure!(stage.upstream.take_requests().len() == 1);
    Ok(())
}

async fn whole_login(stage: &ForeignStage, page: &Page) -> Result<()> {
    page.goto(&stage.url("/inside?a=b%20c")).await?;
    let reached = page
        .sign_in("developer@example.com", developer().password())
        .await?;
    ensure!(reached == stage.url("/inside?a=b%20c"), "{reached}");
    let request = stage
        .upstream
        .take_requests()
        .into_iter()
        .find(|request| request.target == "/inside?a=b%20c")
        .context("the application was not asked")?;
    ensure!(
        request.headers_named("x-pomerium-claim-email") == ["developer@example.com"],
        "{request:?}"
    );
    let assertions = request.headers_named("x-pomerium-jwt-assertion");
    ensure!(assertions.len() == 1, "{request:?}");
    let claims = payload(assertions[0]);
    ensure!(claims["email"] == "developer@example.com", "{claims}");
    ensure!(claims["aud"] == "wiki.example.com", "{claims}");
    let cookies = request.header("cookie").unwrap_or_default();
    ensure!(
        !cookies.contains("_pomerium"),
        "the session reaches the application: {cookies}"
    );

    let (status, _) = page.goto(&stage.url("/admin/")).await?;
    ensure!(status == 403, "{status}");
    let text = page.text("main").await?;
    ensure!(
        text.contains("developer@example.com"),
        "whose page is this?\n{text}"
    );
    ensure!(
        !stage
            .upstream
            .requests()
            .iter()
            .any(|request| request.target.starts_with("/admin")),
        "a refused request reaches the application"
    );

    let (status, _) = page.goto(&stage.url("/.pomerium/")).await?;
    ensure!(status == 200, "{status}");
    ensure!(page.text("main").await?.contains("developer@example.com"));
    Ok(())
}

async fn session_cookie(page: &Page) -> Result<String> {
    let cookies = page.cookies().await?;
    let cookie = cookies
        .iter()
        .find(|cookie| cookie["name"] == "_pomerium" && cookie["domain"] == "wiki.example.com")
        .context("no session cookie on the application's host")?;
    Ok(format!(
        "_pomerium={}",
        cookie["value"].as_str().unwrap_or_default()
    ))
}

/// Each spelling is either refused or gone; the application never sees it.
async fn identity_cannot_be_forged(stage: &ForeignStage, cookie: &str) -> Result<()> {
    stage.upstream.take_requests();
    let both = format!("theme=dark; {cookie}");
    let reply = get(stage, "/plain", &[("Cookie", both.as_str())]).await?;
    ensure!(reply.status == 200, "{reply:?}");
    let seen = stage.upstream.take_requests();
    ensure!(
        seen.len() == 1 && seen[0].header("cookie") == Some("theme=dark"),
        "other cookies pass: {seen:?}"
    );
    for path in ["/plain", "/open/plain"] {
        for name in FORGED {
            let reply = get(stage, path, &[("Cookie", cookie), (name, "forged@example.com")]).await?;
            for request in stage.upstream.take_requests() {
                let seen = request
                    .headers
                    .iter()
                    .any(|(_, value)| value.contains("forged@example.com"));
                ensure!(!seen, "{name} reaches the application: {request:?}");
                ensure!(reply.status == 200, "{name}: {reply:?}");
            }
        }
    }
    for (name, value) in [
        ("X-Original-URL", stage.url("/open/")),
        ("X-Original-URI", "/open/".into()),
        ("X-Rewrite-URL", "/open/".into()),
        ("X-Forwarded-Uri", "/open/".into()),
        ("X-Forwarded-Host", "elsewhere.example.com".into()),
        ("X-Forwarded-Method", "OPTIONS".into()),
        ("X_Forwarded_Uri", "/open/".into()),
    ] {
        get(stage, "/inside", &[(name, value.as_str())]).await?;
        let seen = stage.upstream.take_requests();
        ensure!(seen.is_empty(), "{name} opens the door: {seen:?}");
    }
    Ok(())
}

async fn sign_out(stage: &ForeignStage, page: &Page) -> Result<()> {
    page.goto(&stage.url("/.pomerium/sign_out")).await?;
    stage.upstream.take_requests();
    page.goto(&stage.url("/inside")).await?;
    ensure!(stage.upstream.requests().is_empty(), "signed out, and still in");
    Ok(())
}

async fn get(stage: &ForeignStage, path: &str, headers: &[(&str, &str)]) -> Result<RawReply> {
    let mut client = stage.raw().await?;
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", stage.host());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    client.send(format!("{head}Connection: close\r\n\r\n")).await?;
    client.reply(false).await
}
