//! Pomerium: the fully authorised request.

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Account, Environment, EnvironmentBuilder, Route, SignIn};
use serde_json::json;

use super::Rival;

/// Someone whom the policy lets in.
const ACCOUNT: (&str, &str) = ("developer", "correct horse battery staple");

/// Pomerium with a person signed in.
pub struct SignedIn {
    /// The row.
    pub rival: Rival,
    /// The `Cookie` header of the session.
    pub cookie: String,
    /// Host with port of the route.
    pub authority: String,
}

/// An environment as in production: session cookie, policy with a claim and a domain, assertion header,
/// access log to a file, the file store.
pub fn environment(upstream: u16) -> Result<EnvironmentBuilder> {
    let account = Account::new(ACCOUNT.0, ACCOUNT.1).groups(&["staff"]);
    let policy = json!([{ "allow": { "and": [
        { "domain": { "is": "example.com" } },
        { "claim/groups": "staff" },
    ]}}]);
    let route = Route::new("app", &format!("http://127.0.0.1:{upstream}"))
        .policy(policy)
        .identity();
    Ok(Environment::builder()?
        .sign_in(SignIn::Local(vec![account]))
        .set("log_level", "info")
        .log_to_file()
        .route(route))
}

/// Starts it and signs in.
pub async fn start(upstream: u16) -> Result<SignedIn> {
    let environment = environment(upstream)?.start().await?;
    let cookie = cookie_of(&environment).await?;
    let authority = environment.authority_of("app");
    let rival = Rival {
        name: "Pomerium, authorised",
        process: environment.process_id()?,
        port: environment.port(),
        _running: Box::new(environment),
        group: false,
    };
    Ok(SignedIn {
        rival,
        cookie,
        authority,
    })
}

/// Signs in at the local provider as a browser does and returns the session cookie.
pub async fn cookie_of(environment: &Environment) -> Result<String> {
    let client = environment.client()?;
    let url = environment.url("app", "/");
    let page = client.follow(&url).await?;
    let user = format!("{}@example.com", ACCOUNT.0);
    let reply = client.sign_in(&page, &user, ACCOUNT.1).await?;
    ensure!(
        reply.status == 200,
        "the sign-in ended with {}:\n{}",
        reply.status,
        reply.text()
    );
    let cookie = client.cookie(&url, "_pomerium").context("no session cookie")?;
    Ok(format!("_pomerium={cookie}"))
}
