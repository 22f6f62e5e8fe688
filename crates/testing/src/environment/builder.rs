//! Describes an [`Environment`](super::Environment).

use std::process::ExitStatus;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::server::Server;
use super::{Environment, write_config};
use crate::{Account, Authority, Lines, OidcProvider, Port, Program, lease, tools};

/// 32 bytes each, for tests only.
const SHARED_SECRET: &str = "dGVzdHMgb25seTogdGhlIHNoYXJlZCBzZWNyZXQgISE=";
const COOKIE_SECRET: &str = "dGVzdHMgb25seTogdGhlIGNvb2tpZSBzZWNyZXQgISE=";

/// How people sign in.
#[derive(Debug, Clone)]
pub enum SignIn {
    /// Not at all: only public routes.
    Nobody,
    /// At an OpenID Connect provider with this issuer and the client of [`OidcProvider`].
    Oidc(String),
    /// At the built-in provider, by e-mail address.
    Local(Vec<Account>),
}

/// A route of the configuration.
#[derive(Debug, Clone)]
pub struct Route {
    name: String,
    settings: Value,
}

impl Route {
    /// `https://<name>.example.com` goes to `to`; nobody may, until something says so.
    pub fn new(name: &str, to: &str) -> Route {
        Route {
            name: name.into(),
            settings: json!({ "to": to }),
        }
    }

    /// Sets a key of the route.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Route {
        self.settings[key] = value.into();
        self
    }

    /// Everyone may, signed in or not.
    #[must_use]
    pub fn public(self) -> Route {
        self.set("allow_public_unauthenticated_access", true)
    }

    /// Everyone who is signed in may.
    #[must_use]
    pub fn any_user(self) -> Route {
        self.set("allow_any_authenticated_user", true)
    }

    /// A policy, in PPL.
    #[must_use]
    pub fn policy(self, policy: Value) -> Route {
        self.set("policy", policy)
    }

    /// The upstream gets the assertion and the claim headers.
    #[must_use]
    pub fn identity(self) -> Route {
        self.set("pass_identity_headers", true)
    }
}

/// Describes an environment; ports and authority are there from the start.
#[derive(Debug)]
pub struct EnvironmentBuilder {
    folder: TempDir,
    authority: Authority,
    port: Port,
    health: Port,
    config: Value,
    text: Option<String>,
    variables: Vec<(String, String)>,
    sign_in: SignIn,
    log_to_file: bool,
}

impl EnvironmentBuilder {
    pub(super) fn new() -> Result<EnvironmentBuilder> {
        let (port, health) = (lease()?, lease()?);
        let folder = tempfile::tempdir()?;
        let config = json!({
            "address": format!("127.0.0.1:{}", port.number()),
            "health_check_addr": format!("127.0.0.1:{}", health.number()),
            "authenticate_service_url": format!("https://auth.example.com:{}", port.number()),
            "certificate_file": folder.path().join("server.pem"),
            "certificate_key_file": folder.path().join("server.key"),
            "shared_secret": SHARED_SECRET,
            "cookie_secret": COOKIE_SECRET,
            "data_dir": folder.path().join("data"),
            "log_level": "debug",
            "routes": [],
        });
        let authority = Authority::new()?;
        Ok(EnvironmentBuilder {
            folder,
            authority,
            port,
            health,
            config,
            text: None,
            variables: Vec::new(),
            sign_in: SignIn::Nobody,
            log_to_file: false,
        })
    }

    /// Where the provider sends people back to.
    pub fn callback_url(&self) -> String {
        format!("https://auth.example.com:{}/oauth2/callback", self.port.number())
    }

    /// The folder with `config.yaml`.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The authority of the listener's certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The port of the main listener.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How people sign in.
    #[must_use]
    pub fn sign_in(mut self, sign_in: SignIn) -> Self {
        self.sign_in = sign_in;
        self
    }

    /// Sets a global key; null removes it.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        match value.into() {
            Value::Null => {
                if let Some(config) = self.config.as_object_mut() {
                    config.remove(key);
                }
            }
            value => self.config[key] = value,
        }
        self
    }

    /// Sets an environment variable of the program.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Takes this configuration as it is, and nothing of what is set here but where the health listener is.
    #[must_use]
    pub fn configuration(mut self, text: String) -> Self {
        self.text = Some(text);
        let health = format!("127.0.0.1:{}", self.health.number());
        self.variable("HEALTH_CHECK_ADDR", &health)
    }

    /// Adds a route under its name's host, unless it has a `from` of its own.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        let mut settings = route.settings;
        if settings.get("from").is_none() {
            settings["from"] = format!("https://{}.example.com:{}", route.name, self.port.number()).into();
        }
        settings["name"] = route.name.into();
        if let Some(routes) = self.config["routes"].as_array_mut() {
            routes.push(settings);
        }
        self
    }

    /// The log goes to `<folder>/log.txt`, as in production, and is not collected.
    #[must_use]
    pub fn log_to_file(mut self) -> Self {
        self.log_to_file = true;
        self
    }

    /// Writes the files and starts the program.
    ///
    /// # Errors
    /// It does not become ready; the error holds its last words.
    pub async fn start(mut self) -> Result<Environment> {
        self.write().await?;
        let (folder, health) = (self.folder.path(), self.health.number());
        let server = if self.log_to_file {
            Server::start_into_file(folder, health, &self.variables).await?
        } else {
            Server::start(folder, health, &self.variables).await?
        };
        Ok(Environment {
            folder: self.folder,
            authority: self.authority,
            port: self.port,
            health: self.health,
            config: self.config,
            variables: self.variables,
            server,
        })
    }

    /// Writes the files and starts the program without waiting until it is ready, for one that will not be.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start_unready(mut self) -> Result<Environment> {
        self.write().await?;
        let server = Server::start_unready(self.folder.path(), &self.variables)?;
        Ok(Environment {
            folder: self.folder,
            authority: self.authority,
            port: self.port,
            health: self.health,
            config: self.config,
            variables: self.variables,
            server,
        })
    }

    /// Writes the files and runs the program, which must refuse to start.
    ///
    /// # Errors
    /// It starts.
    pub async fn refused(mut self) -> Result<(ExitStatus, Lines)> {
        self.write().await?;
        Server::refused(self.folder.path(), &self.variables).await
    }

    async fn write(&mut self) -> Result<()> {
        let leaf = self
            .authority
            .issue(&["*.example.com", "example.com", "localhost", "127.0.0.1"])?;
        std::fs::write(self.folder.path().join("server.pem"), &leaf.certificate_pem)?;
        std::fs::write(self.folder.path().join("server.key"), &leaf.key_pem)?;
        match self.sign_in.clone() {
            SignIn::Nobody => {}
            SignIn::Oidc(issuer) => self.write_oidc(&issuer),
            SignIn::Local(accounts) => self.write_local(&accounts).await?,
        }
        match &self.text {
            Some(text) => Ok(std::fs::write(self.folder.path().join("config.yaml"), text)?),
            None => write_config(self.folder.path(), &self.config),
        }
    }

    fn write_oidc(&mut self, issuer: &str) {
        self.default("idp_provider", "oidc");
        self.default("idp_provider_url", issuer);
        self.default("idp_client_id", OidcProvider::CLIENT_ID);
        self.default("idp_client_secret", OidcProvider::CLIENT_SECRET);
        self.default(
            "idp_scopes",
            json!(["openid", "profile", "email", "groups", "offline_access"]),
        );
    }

    /// Adds the people with the program's own command, as an administrator would.
    async fn write_local(&mut self, accounts: &[Account]) -> Result<()> {
        let file = self.folder.path().join("users.yaml");
        for account in accounts {
            let mut command = Command::new(tools::server()?);
            command.args([
                "user",
                "add",
                &format!("{}@example.com", account.login()),
                "--name",
                account.login(),
            ]);
            for group in account.group_names() {
                command.args(["--group", &group]);
            }
            command.arg("--users-file").arg(&file);
            let mut program = Program::start(command)?;
            let mut stdin = program.take_stdin().context("no standard input")?;
            stdin
                .write_all(format!("{}\n", account.password()).as_bytes())
                .await?;
            drop(stdin);
            let status = program.wait().await?;
            anyhow::ensure!(
                status.success(),
                "`pomerium user add` failed:\n{}",
                program.output().tail(20)
            );
        }
        self.default("idp_provider", "local");
        self.default("local_idp", json!({ "users_file": file }));
        Ok(())
    }

    fn default(&mut self, key: &str, value: impl Into<Value>) {
        if self.config.get(key).is_none() {
            self.config[key] = value.into();
        }
    }
}
