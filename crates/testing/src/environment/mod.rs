//! The real program with a configuration of its own, ready to be asked.

mod builder;
mod server;

pub use builder::{EnvironmentBuilder, Route, SignIn};
pub(crate) use server::Server;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Authority, Client, ClientOptions, Lines, Port, RawClient};

/// A running `pomerium` with its folder, its authority and its ports. Ends when dropped.
#[derive(Debug)]
pub struct Environment {
    pub(super) folder: TempDir,
    pub(super) authority: Authority,
    pub(super) port: Port,
    pub(super) health: Port,
    pub(super) config: Value,
    pub(super) variables: Vec<(String, String)>,
    pub(super) server: Server,
}

impl Environment {
    /// Starts to describe one.
    ///
    /// # Errors
    /// No ports, no temporary folder, no randomness.
    pub fn builder() -> Result<EnvironmentBuilder> {
        EnvironmentBuilder::new()
    }

    /// Where the main listener is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// Port of the main listener.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `<name>.example.com:<port>`.
    pub fn authority_of(&self, name: &str) -> String {
        format!("{name}.example.com:{}", self.port.number())
    }

    /// `https://<name>.example.com:<port><path>`.
    pub fn url(&self, name: &str, path: &str) -> String {
        format!("https://{}{path}", self.authority_of(name))
    }

    /// `http://127.0.0.1:<health port><path>`.
    pub fn health_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.health.number())
    }

    /// The authority of the listener's certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The folder with `config.yaml` and the data folder `data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client with an empty jar, HTTP/2 when offered.
    ///
    /// # Errors
    /// Never in practice.
    pub fn client(&self) -> Result<Client> {
        self.client_with(&ClientOptions::default())
    }

    /// As [`Environment::client`], HTTP/1.1 only.
    ///
    /// # Errors
    /// Never in practice.
    pub fn http1_client(&self) -> Result<Client> {
        self.client_with(&ClientOptions {
            http1_only: true,
            ..ClientOptions::default()
        })
    }

    /// A client with options; it trusts the environment's authority.
    ///
    /// # Errors
    /// Never in practice.
    pub fn client_with(&self, options: &ClientOptions) -> Result<Client> {
        let authority_pem = Some(self.authority.pem().to_owned());
        Client::new(&ClientOptions {
            authority_pem,
            ..options.clone()
        })
    }

    /// A raw HTTP/1.1 connection over TLS with `<name>.example.com` in SNI.
    ///
    /// # Errors
    /// The handshake fails.
    pub async fn raw(&self, name: &str) -> Result<RawClient> {
        self.raw_from(name, None).await
    }

    /// As [`Environment::raw`], from another local address.
    ///
    /// # Errors
    /// The handshake fails.
    pub async fn raw_from(&self, name: &str, source: Option<IpAddr>) -> Result<RawClient> {
        let server_name = format!("{name}.example.com");
        RawClient::connect_tls(
            self.address(),
            source,
            &self.authority,
            &server_name,
            &["http/1.1"],
        )
        .await
    }

    /// What the program wrote since it was started last.
    pub fn log(&self) -> &Lines {
        self.server.output()
    }

    /// The access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        self.log()
            .json()
            .into_iter()
            .filter(|line| line["message"] == "http-request")
            .collect()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.server.kill().await
    }

    /// Sends a signal by name.
    ///
    /// # Errors
    /// The program has ended.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        self.server.signal(signal).await
    }

    /// Waits until the program has ended, for instance after a signal.
    ///
    /// # Errors
    /// It goes on.
    pub async fn ended(&mut self) -> Result<()> {
        self.server.ended().await
    }

    /// Starts again after [`Environment::kill`], with the same folder and ports.
    ///
    /// # Errors
    /// The program does not become ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.server = Server::start(self.folder.path(), self.health.number(), &self.variables).await?;
        Ok(())
    }

    /// The command that starts this program, for those who watch the start itself.
    ///
    /// # Errors
    /// The program does not build.
    pub fn command(&self) -> Result<tokio::process::Command> {
        server::command(self.folder.path(), &self.variables)
    }

    /// The configuration as it was last written.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Changes the configuration file; the program watches it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn rewrite_config(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        change(&mut self.config);
        write_config(self.folder.path(), &self.config)
    }

    /// The process id.
    ///
    /// # Errors
    /// The program has ended.
    pub fn process_id(&self) -> Result<u32> {
        self.server.id().context("the program has ended")
    }
}

/// Writes `config.yaml` (JSON is YAML) and moves it into place whole, as editors do.
pub(crate) fn write_config(folder: &Path, config: &Value) -> Result<()> {
    let beside = folder.join("config.yaml.new");
    std::fs::write(&beside, serde_json::to_string_pretty(config)?)?;
    Ok(std::fs::rename(beside, folder.join("config.yaml"))?)
}
