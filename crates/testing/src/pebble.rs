//! A certificate authority that speaks ACME: Debian's `pebble`, with `pebble-challtestsrv` as the name server it asks.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Authority, Client, ClientOptions, PATIENCE, Port, Program, lease, tools};

/// How often a starting program is asked.
const ASK: Duration = Duration::from_millis(20);

/// How the authority behaves.
#[derive(Debug, Clone, Default)]
pub struct PebbleOptions {
    /// Where it looks for TLS-ALPN-01 (on 127.0.0.1); nowhere when 0.
    pub tls_port: u16,
    /// Where it looks for HTTP-01; nowhere when 0.
    pub http_port: u16,
    /// How long certificates live; five years unless given.
    pub validity: Option<Duration>,
    /// The responder that certificates name.
    pub ocsp_responder: Option<String>,
    /// Accounts need one of these: key id, and key as base64url.
    pub external_accounts: Vec<(String, String)>,
    /// The name server it asks, instead of one that answers 127.0.0.1 to everything.
    pub name_server: Option<SocketAddr>,
}

/// A running authority. Ends when dropped.
#[derive(Debug)]
pub struct Pebble {
    program: Program,
    names: Program,
    management: Port,
    names_management: Port,
    port: Port,
    authority: Authority,
    client: Client,
    _folder: TempDir,
    _names: Port,
    _nowhere: Port,
}

impl Pebble {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub async fn start(options: &PebbleOptions) -> Result<Pebble> {
        let folder = tempfile::tempdir()?;
        let (port, management, nowhere) = (lease()?, lease()?, lease()?);
        let (dns, names_management) = (lease()?, lease()?);
        let authority = Authority::new()?;
        let leaf = authority.issue(&["127.0.0.1", "localhost"])?;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert.pem"), &leaf.certificate_pem)?;
        std::fs::write(path("key.pem"), &leaf.key_pem)?;
        let or_nowhere = |port: u16| if port == 0 { nowhere.number() } else { port };
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{}", port.number()),
            "managementListenAddress": format!("127.0.0.1:{}", management.number()),
            "certificate": path("cert.pem"),
            "privateKey": path("key.pem"),
            "httpPort": or_nowhere(options.http_port),
            "tlsPort": or_nowhere(options.tls_port),
            "ocspResponderURL": options.ocsp_responder.as_deref().unwrap_or(""),
            "externalAccountBindingRequired": !options.external_accounts.is_empty(),
            "externalAccountMACKeys": options.external_accounts.iter().cloned().collect::<std::collections::HashMap<_, _>>(),
        });
        if let Some(validity) = options.validity {
            config["certificateValidityPeriod"] = validity.as_secs().into();
        }
        std::fs::write(path("config.json"), json!({ "pebble": config }).to_string())?;
        let names = start_names(&dns, &names_management)?;
        let asked = options
            .name_server
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], dns.number())));
        let mut command = Command::new(tools::find("pebble")?);
        command
            .arg("-config")
            .arg(path("config.json"))
            .args(["-dnsserver", &asked.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0");
        let program = Program::start(command)?;
        let client = Client::new(&ClientOptions {
            authority_pem: Some(authority.pem().to_owned()),
            ..ClientOptions::default()
        })?;
        let pebble = Pebble {
            program,
            names,
            management,
            names_management,
            port,
            authority,
            client,
            _folder: folder,
            _names: dns,
            _nowhere: nowhere,
        };
        pebble.ready().await?;
        Ok(pebble)
    }

    async fn ready(&self) -> Result<()> {
        let ready = async {
            while self.client.get(&self.directory()).await.is_err() {
                tokio::time::sleep(ASK).await;
            }
            let names = format!("http://127.0.0.1:{}/", self.names_management.number());
            while self.client.get(&names).await.is_err() {
                tokio::time::sleep(ASK).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .with_context(|| format!("pebble does not answer:\n{}", self.program.output().tail(20)))
    }

    /// The address of its directory.
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port.number())
    }

    /// What its own listener's certificate is signed by, PEM.
    pub fn authority_pem(&self) -> &str {
        self.authority.pem()
    }

    /// What the certificates that it issues are signed by in the end, PEM.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn root_pem(&self) -> Result<String> {
        self.managed("roots/0").await
    }

    /// The authority right above the certificates, with its key, PEM.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn intermediate(&self) -> Result<(String, String)> {
        Ok((
            self.managed("intermediates/0").await?,
            self.managed("intermediate-keys/0").await?,
        ))
    }

    async fn managed(&self, path: &str) -> Result<String> {
        let url = format!("https://127.0.0.1:{}/{path}", self.management.number());
        Ok(self.client.get(&url).await?.text())
    }

    /// How many orders it has taken. It refuses one request in twenty for its nonce, to see whether clients
    /// send them again: such a request is none.
    pub fn orders(&self) -> usize {
        let lines = self.program.output().all();
        lines.iter().filter(|line| line.contains("Added order ")).count()
    }

    /// A command that sets or clears a TXT record of the name server: arguments `present|cleanup <fqdn> <value>`.
    pub fn record_script(&self) -> String {
        format!(
            "#!/bin/sh\n\
             case \"$1\" in present) path=set-txt;; cleanup) path=clear-txt;; *) exit 2;; esac\n\
             exec curl -sf -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" http://127.0.0.1:{}/$path\n",
            self.names_management.number()
        )
    }

    /// Stops it, as a failure would.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.program.kill().await?;
        self.names.kill().await
    }

    /// What it wrote.
    pub fn output(&self) -> &crate::Lines {
        self.program.output()
    }

    /// The settings of a server that gets its certificates here: `autocert`, `autocert_ca` and the trust in it.
    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        vec![
            ("certificate_file", Value::Null),
            ("certificate_key_file", Value::Null),
            ("autocert", true.into()),
            ("autocert_ca", self.directory().into()),
            (
                "autocert_trusted_ca",
                BASE64_STANDARD.encode(self.authority_pem()).into(),
            ),
        ]
    }
}

fn start_names(dns: &Port, management: &Port) -> Result<Program> {
    let mut command = Command::new(tools::find("pebble-challtestsrv")?);
    command
        .args(["-dns01", &format!("127.0.0.1:{}", dns.number())])
        .args(["-management", &format!("127.0.0.1:{}", management.number())])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
        .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
    Program::start(command)
}
