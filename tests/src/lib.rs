//! Stages that tests share: the real program, an identity provider, an upstream, four routes.
//!
//! | host | who may |
//! |---|---|
//! | `app.example.com` | everyone who is signed in; the upstream gets the identity |
//! | `admin.example.com` | e-mail domain `example.com` and the group `admins` |
//! | `open.example.com` | everyone |
//! | `ws.example.com` | everyone who is signed in; WebSocket |
#![allow(
    clippy::missing_errors_doc,
    reason = "everything here fails when the set-up fails"
)]

pub mod apart;
pub mod asking;
pub mod balance;
pub mod chaos;
pub mod decision;
pub mod deployed;
pub mod devices;
pub mod foreign;
pub mod inside;
pub mod link;
pub mod netns;
pub mod numbers;
pub mod records;
pub mod services;
pub mod standby;
pub mod tool;

use anyhow::{Result, ensure};
use pomerium_testing::{
    Account, Client, Environment, EnvironmentBuilder, OidcProvider, Reply, Route, ScriptedIdp, SignIn,
    Upstream,
};
use serde_json::json;

/// The program with an upstream and a provider of type `I`.
pub struct Stage<I> {
    /// The running program.
    pub env: Environment,
    /// Behind every route.
    pub upstream: Upstream,
    /// Where people sign in.
    pub idp: I,
}

/// Group `staff`.
pub fn developer() -> Account {
    Account::new("developer", "correct horse battery staple")
        .groups(&["staff"])
        .claim("name", "Developer Example")
}

/// Groups `staff` and `admins`.
pub fn admin() -> Account {
    Account::new("admin", "another long passphrase")
        .groups(&["staff", "admins"])
        .claim("name", "Admin Example")
}

/// The four routes.
pub fn with_routes(builder: EnvironmentBuilder, upstream: &Upstream) -> EnvironmentBuilder {
    let admins = json!([{ "allow": { "and": [
        { "domain": { "is": "example.com" } },
        { "claim/groups": { "has": "admins" } },
    ]}}]);
    builder
        .set(
            "jwt_claims_headers",
            json!({ "X-Pomerium-Claim-Email": "email", "X-Pomerium-Claim-Groups": "groups" }),
        )
        .route(Route::new("app", &upstream.url()).any_user().identity())
        .route(Route::new("admin", &upstream.url()).policy(admins).identity())
        .route(Route::new("open", &upstream.url()).public().identity())
        .route(
            Route::new("ws", &upstream.url())
                .any_user()
                .set("allow_websockets", true),
        )
}

/// With a provider that signs everyone in at once, correct until told otherwise. Cheap: no Node.
pub async fn scripted() -> Result<Stage<ScriptedIdp>> {
    scripted_with(|builder| builder).await
}

/// As [`scripted`], with more settings.
pub async fn scripted_with(
    change: impl FnOnce(EnvironmentBuilder) -> EnvironmentBuilder,
) -> Result<Stage<ScriptedIdp>> {
    let (upstream, idp) = (Upstream::start().await?, ScriptedIdp::start().await?);
    let builder = with_routes(Environment::builder()?, &upstream).sign_in(SignIn::Oidc(idp.issuer()));
    let env = change(builder).start().await?;
    Ok(Stage { env, upstream, idp })
}

/// With the certified provider and the accounts [`developer`] and [`admin`].
pub async fn oidc() -> Result<Stage<OidcProvider>> {
    let upstream = Upstream::start().await?;
    let builder = with_routes(Environment::builder()?, &upstream);
    let idp = OidcProvider::start(&[builder.callback_url()], &[developer(), admin()]).await?;
    let env = builder
        .sign_in(SignIn::Oidc(idp.issuer().to_owned()))
        .start()
        .await?;
    Ok(Stage { env, upstream, idp })
}

/// With the built-in provider and the accounts [`developer`] and [`admin`].
pub async fn local() -> Result<Stage<()>> {
    local_with(|builder| builder).await
}

/// As [`local`], with more settings.
pub async fn local_with(change: impl FnOnce(EnvironmentBuilder) -> EnvironmentBuilder) -> Result<Stage<()>> {
    let upstream = Upstream::start().await?;
    let builder = with_routes(Environment::builder()?, &upstream);
    let builder = builder.sign_in(SignIn::Local(vec![developer(), admin()]));
    let env = change(builder).start().await?;
    Ok(Stage {
        env,
        upstream,
        idp: (),
    })
}

impl Stage<ScriptedIdp> {
    /// A client that is signed in at `app.example.com`.
    pub async fn signed_in(&self) -> Result<Client> {
        let client = self.env.client()?;
        let reply = client.follow(&self.env.url("app", "/")).await?;
        ensure!(
            reply.status == 200,
            "the sign-in ended with {} at {}:\n{}",
            reply.status,
            reply.url,
            reply.text()
        );
        self.upstream.take_requests();
        Ok(client)
    }
}

impl<I> Stage<I> {
    /// Asks as a program that wants JSON.
    pub async fn api(&self, client: &Client, name: &str, path: &str) -> Result<Reply> {
        client
            .get_with(&self.env.url(name, path), &[("accept", "application/json")])
            .await
    }
}

/// The payload of a JWT, unverified.
pub fn payload(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap_or_default();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
