//! A route that asks for a fresh or strong sign-in, with a certified provider and a person in Chromium.

use anyhow::Result;
use pomerium_testing::{Browser, Environment, Look, OidcProvider, Route, SignIn, Upstream};
use pomerium_tests::developer;
use serde_json::{Value, json};

struct Stage {
    env: Environment,
    upstream: Upstream,
    idp: OidcProvider,
}

fn policy(authentication: &Value) -> Value {
    json!([{ "allow": { "and": [
        { "domain": { "is": "example.com" } },
        { "authentication": authentication },
    ]}}])
}

async fn stage() -> Result<Stage> {
    let upstream = Upstream::start().await?;
    let builder = Environment::builder()?
        .route(Route::new("app", &upstream.url()).any_user())
        .route(Route::new("recent", &upstream.url()).policy(policy(&json!({ "max_age": "5m" }))))
        .route(
            Route::new("strong", &upstream.url()).policy(policy(&json!({ "amr": ["otp"], "acr": ["gold"] }))),
        );
    let idp = OidcProvider::start(&[builder.callback_url()], &[developer()]).await?;
    let env = builder
        .sign_in(SignIn::Oidc(idp.issuer().to_owned()))
        .start()
        .await?;
    Ok(Stage { env, upstream, idp })
}

impl Stage {
    fn reached(&self, path: &str) -> bool {
        self.upstream
            .requests()
            .iter()
            .any(|request| request.target == path)
    }
}

#[tokio::test]
async fn an_old_sign_in_is_made_again_and_then_the_page_opens() -> Result<()> {
    let mut stage = stage().await?;
    let browser = Browser::start().await?;
    let page = browser.open(Look::DESKTOP).await?;
    // The provider remembers the person from an hour ago.
    stage.idp.signs_in_seconds_ago(3600).await?;
    page.goto(&stage.env.url("app", "/")).await?;
    page.sign_in("developer", developer().password()).await?;
    assert!(stage.reached("/"));

    stage.idp.signs_in_seconds_ago(0).await?;
    let wanted = stage.env.url("recent", "/accounts?year=2026");
    page.goto(&wanted).await?;
    assert!(
        page.url().await?.starts_with(stage.idp.issuer()),
        "the provider asks again: {}",
        page.url().await?
    );
    assert!(!stage.reached("/accounts?year=2026"));
    assert_eq!(page.sign_in("developer", developer().password()).await?, wanted);
    assert!(stage.reached("/accounts?year=2026"));
    page.goto(&stage.env.url("app", "/after")).await?;
    assert_eq!(
        page.url().await?,
        stage.env.url("app", "/after"),
        "other applications get the new session without another page"
    );
    Ok(())
}

#[tokio::test]
async fn a_password_alone_does_not_do_where_a_second_factor_is_asked_for() -> Result<()> {
    let stage = stage().await?;
    let browser = Browser::start().await?;
    let page = browser.open(Look::DESKTOP).await?;
    page.goto(&stage.env.url("app", "/")).await?;
    page.sign_in("developer", developer().password()).await?;

    let wanted = stage.env.url("strong", "/keys");
    page.goto(&wanted).await?;
    assert!(
        page.url().await?.starts_with(stage.idp.issuer()),
        "{}",
        page.url().await?
    );
    page.sign_in("developer", developer().password()).await?;
    let text = page.text("main").await?;
    assert!(
        text.contains("a sign-in with otp") && text.contains("of the class gold"),
        "the page says what is missing:\n{text}"
    );
    assert!(!stage.reached("/keys"));
    crate::browser_local::judge_page(&page, "sign-in-not-enough").await?;

    page.goto(&stage.env.url("app", "/still")).await?;
    assert!(stage.reached("/still"), "the session that was there stays");

    page.goto(&wanted).await?;
    page.fill("input[name=code]", "123456").await?;
    assert_eq!(page.sign_in("developer", developer().password()).await?, wanted);
    assert!(stage.reached("/keys"));
    Ok(())
}
