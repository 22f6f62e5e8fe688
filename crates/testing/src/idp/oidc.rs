//! The certified `oidc-provider` package from npm, run by Node (`tests/node/oidc.mjs`).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

use crate::{Program, tools};

/// A person known to the provider.
#[derive(Debug, Clone)]
pub struct Account {
    login: String,
    password: String,
    claims: serde_json::Map<String, Value>,
}

impl Account {
    /// `login` signs in with `password`; `sub` is `id-<login>`, the address `<login>@example.com`.
    pub fn new(login: &str, password: &str) -> Account {
        let claims = json!({
            "sub": format!("id-{login}"),
            "email": format!("{login}@example.com"),
            "email_verified": true,
            "name": login,
        });
        let claims = claims.as_object().cloned().unwrap_or_default();
        Account {
            login: login.into(),
            password: password.into(),
            claims,
        }
    }

    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Account {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Sets the claim `groups`.
    #[must_use]
    pub fn groups(self, groups: &[&str]) -> Account {
        self.claim(
            "groups",
            groups.iter().map(|group| Value::from(*group)).collect::<Vec<_>>(),
        )
    }

    /// The claim `groups` as names.
    pub fn group_names(&self) -> Vec<String> {
        let groups = self.claims.get("groups").and_then(Value::as_array);
        groups
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }

    /// The login name.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

/// A running provider on 127.0.0.1, over plain HTTP.
#[derive(Debug)]
pub struct OidcProvider {
    program: Program,
    stdin: ChildStdin,
    issuer: String,
}

impl OidcProvider {
    /// The client that tests use.
    pub const CLIENT_ID: &'static str = "pomerium";
    /// Its secret.
    pub const CLIENT_SECRET: &'static str = "the-secret-of-the-client-of-the-tests";

    /// Starts a provider that redirects to any of `redirect_uris` and nowhere else.
    ///
    /// # Errors
    /// Node or its packages are missing, or the provider does not start.
    pub async fn start(redirect_uris: &[String], accounts: &[Account]) -> Result<OidcProvider> {
        let client = json!({
            "client_id": Self::CLIENT_ID,
            "client_secret": Self::CLIENT_SECRET,
            "redirect_uris": redirect_uris,
            "post_logout_redirect_uris": redirect_uris
                .iter()
                .map(|uri| uri.replace("/oauth2/callback", "/.pomerium/signed_out"))
                .collect::<Vec<_>>(),
            "grant_types": ["authorization_code", "refresh_token"],
        });
        let options = json!({ "clients": [client], "users": users(accounts) });
        let mut command = tools::node("oidc.mjs")?;
        command.env("OIDC_OPTIONS", options.to_string());
        let mut program = Program::start(command)?;
        let stdin = program.take_stdin().context("no standard input")?;
        let ready = program
            .output()
            .wait_json(0, "the provider's port", |line| line["port"].is_u64())
            .await?;
        let issuer = format!("http://127.0.0.1:{}", ready["port"]);
        Ok(OidcProvider {
            program,
            stdin,
            issuer,
        })
    }

    /// The issuer, also the base URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Replaces the people; sessions and tokens already given stay.
    ///
    /// # Errors
    /// The provider has ended.
    pub async fn set_accounts(&mut self, accounts: &[Account]) -> Result<()> {
        self.change(&json!({ "users": users(accounts) })).await
    }

    /// Signs everyone in as `login` without a page; `None` brings the page back.
    ///
    /// # Errors
    /// The provider has ended.
    pub async fn sign_in_as(&mut self, login: Option<&str>) -> Result<()> {
        self.change(&json!({ "auto": login })).await
    }

    /// From now on whoever signs in did so this long ago: what time does to a sign-in, without waiting for it.
    ///
    /// # Errors
    /// The provider has ended.
    pub async fn signs_in_seconds_ago(&mut self, age: u64) -> Result<()> {
        self.change(&json!({ "age": age })).await
    }

    async fn change(&mut self, change: &Value) -> Result<()> {
        let mark = self.program.output().mark();
        self.stdin.write_all(format!("{change}\n").as_bytes()).await?;
        self.program
            .output()
            .wait_json(mark, "the provider's answer", |line| line["done"] == true)
            .await?;
        Ok(())
    }
}

fn users(accounts: &[Account]) -> BTreeMap<&str, Value> {
    accounts
        .iter()
        .map(|account| {
            (
                account.login.as_str(),
                json!({ "password": account.password, "claims": account.claims }),
            )
        })
        .collect()
}
