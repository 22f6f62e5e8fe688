//! Processes that are started from the files of `deploy/`, on one machine.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pomerium_testing::{
    Authority, Client, ClientOptions, Environment, EnvironmentBuilder, Port, Reply, ScriptedIdp, Upstream,
    lease,
};
use tempfile::TempDir;

/// Where the files have what only the machine can have.
const ETC: &str = "/etc/pomerium/";
const VAR: &str = "/var/lib/pomerium";

/// One installation: what its processes share.
pub struct Site {
    etc: TempDir,
    /// Signs everyone in who comes.
    pub idp: ScriptedIdp,
    /// The application behind the route.
    pub upstream: Upstream,
    redirects: Vec<Port>,
    sign_in: Option<u16>,
    databrokers: Vec<Port>,
}

impl Site {
    /// What the processes know each other by, in base64.
    pub const SHARED_SECRET: &str = "c2hhcmVkIHNlY3JldCBvZiBleGFjdGx5IDMyIGJ5dGU=";

    /// With the secrets and the certificate that the guide tells to make.
    pub async fn new() -> Result<Site> {
        let etc = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(etc.path().join(name), text);
        write("shared_secret", Self::SHARED_SECRET)?;
        write("cookie_secret", "Y29va2llIHNlY3JldCBvZiBleGFjdGx5IDMyIGJ5dGU=")?;
        write("idp_client_secret", "a client secret")?;
        std::fs::create_dir(etc.path().join("tls"))?;
        let leaf = Authority::new()?.issue(&["*.example.com"])?;
        write("tls/fullchain.pem", &leaf.certificate_pem)?;
        write("tls/privkey.pem", &leaf.key_pem)?;
        Ok(Site {
            etc,
            idp: ScriptedIdp::start().await?,
            upstream: Upstream::start().await?,
            redirects: Vec::new(),
            sign_in: None,
            databrokers: Vec::new(),
        })
    }

    /// Writes the connection string of PostgreSQL where the files have it.
    pub fn postgres(&self, connection: &str) -> Result<()> {
        Ok(std::fs::write(self.etc.path().join("postgres"), connection)?)
    }

    /// Starts a databroker from `file`.
    pub async fn databroker(&mut self, file: &str) -> Result<Environment> {
        let port = lease()?;
        let number = port.number();
        self.databrokers.push(port);
        let text = Text::read(file)?.with(
            "grpc_address: :5443",
            &format!("grpc_address: 127.0.0.1:{number}"),
        )?;
        self.start(Environment::builder()?, text).await
    }

    /// Starts an authenticate service from `file`, or all services at once; people are sent to the first.
    pub async fn authenticate(&mut self, file: &str) -> Result<Environment> {
        let builder = Environment::builder()?;
        self.sign_in = self.sign_in.or(Some(builder.port()));
        let text = self.listening(Text::read(file)?, builder.port())?;
        self.start(builder, text).await
    }

    /// Starts a proxy from `file`.
    pub async fn proxy(&mut self, file: &str) -> Result<Environment> {
        let builder = Environment::builder()?;
        let text = self.listening(Text::read(file)?, builder.port())?;
        self.start(builder, text).await
    }

    fn listening(&mut self, text: Text, port: u16) -> Result<Text> {
        let redirect = lease()?;
        let text = text
            .with("\naddress: :443", &format!("\naddress: 127.0.0.1:{port}"))?
            .with(
                "http_redirect_addr: :80",
                &format!("http_redirect_addr: 127.0.0.1:{}", redirect.number()),
            )?;
        self.redirects.push(redirect);
        Ok(text.if_any(
            "https://wiki.example.com",
            &format!("https://wiki.example.com:{port}"),
        ))
    }

    /// With the addresses of this site instead of those of the files, and nothing else changed.
    async fn start(&self, builder: EnvironmentBuilder, text: Text) -> Result<Environment> {
        let home = builder.folder().join("data");
        let port = self.sign_in.unwrap_or(443);
        let mut text = text
            .with(ETC, &format!("{}/", self.etc.path().display()))?
            .with(VAR, &home.display().to_string())?
            .with(
                "https://authenticate.example.com",
                &format!("https://authenticate.example.com:{port}"),
            )?
            .if_any("https://login.example.com", &self.idp.issuer())
            .if_any("http://wiki.internal.example.com:8080", &self.upstream.url());
        let names = ["databroker.", "databroker-1.", "databroker-2."];
        for name in names {
            let place = format!("https://{name}internal.example.com:5443");
            let port = match name {
                "databroker-2." => self.databrokers.get(1),
                _ => self.databrokers.first(),
            };
            if let Some(port) = port {
                text = text.if_any(&place, &format!("https://127.0.0.1:{}", port.number()));
            }
        }
        builder.configuration(text.0).start().await
    }

    /// Where the first databroker listens.
    pub fn grpc_port(&self) -> Result<u16> {
        Ok(self.databrokers.first().context("a databroker")?.number())
    }

    /// A client that trusts every listener.
    pub fn client(&self) -> Result<Client> {
        Client::new(&ClientOptions {
            trust_anyone: true,
            ..ClientOptions::default()
        })
    }

    /// Somebody new asks for the application at `proxy` and is signed in; where that ended.
    pub async fn sign_in(&self, proxy: &Environment) -> Result<(Client, Reply)> {
        let client = self.client()?;
        let reply = client.follow(&proxy.url("wiki", "/page")).await?;
        Ok((client, reply))
    }

    /// As [`Self::sign_in`], which must end at the application.
    pub async fn signed_in(&self, proxy: &Environment) -> Result<Client> {
        let (client, reply) = self.sign_in(proxy).await?;
        ensure!(
            reply.status == 200,
            "{} at {}: {}",
            reply.status,
            reply.url,
            reply.text()
        );
        Ok(client)
    }
}

/// The text of a file of `deploy/`.
struct Text(String);

impl Text {
    fn read(file: &str) -> Result<Text> {
        let package = std::env::var("CARGO_MANIFEST_DIR")?;
        let path = Path::new(&package).join("../deploy").join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Text(text))
    }

    /// `new` for `old`, which must be there.
    fn with(self, old: &str, new: &str) -> Result<Text> {
        ensure!(self.0.contains(old), "{old} is not in the file:\n{}", self.0);
        Ok(self.if_any(old, new))
    }

    fn if_any(self, old: &str, new: &str) -> Text {
        Text(self.0.replace(old, new))
    }
}
