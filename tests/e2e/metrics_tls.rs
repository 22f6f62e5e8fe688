//! The metrics listener over TLS, as curl sees it.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result};
use pomerium_testing::{Authority, Environment, Route, Upstream, lease, tools};
use tokio::process::Command;

/// Files of one test: the certificates of the listener and of its clients.
struct Files<'a> {
    folder: &'a Path,
    url: String,
}

impl Files<'_> {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// Asks for the metrics, trusting `ca`, showing `client` if any.
    async fn ask(&self, ca: &str, client: Option<&str>) -> Result<Output> {
        let mut curl = Command::new(tools::find("curl")?);
        curl.args(["--silent", "--show-error", "--fail", "--cacert", &self.path(ca)]);
        if let Some(client) = client {
            curl.args(["--cert", &self.path(client)]);
            curl.args(["--key", &self.path(&format!("{client}.key"))]);
        }
        Ok(curl.arg(&self.url).output().await?)
    }
}

fn write(folder: &Path, authority: &Authority, name: &str) -> Result<()> {
    let leaf = authority.issue(&["127.0.0.1"])?;
    std::fs::write(folder.join(name), leaf.certificate_pem)?;
    std::fs::write(folder.join(format!("{name}.key")), leaf.key_pem)?;
    Ok(())
}

#[tokio::test]
async fn metrics_want_a_certificate_of_the_client_ca_and_change_live() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let (servers, clients, strangers) = (Authority::new()?, Authority::new()?, Authority::new()?);
    write(folder, &servers, "server")?;
    write(folder, &clients, "scraper")?;
    write(folder, &strangers, "stranger")?;
    std::fs::write(folder.join("servers"), servers.pem())?;
    std::fs::write(folder.join("clients"), clients.pem())?;
    let port = lease()?;
    let files = Files {
        folder,
        url: format!("https://127.0.0.1:{}/metrics", port.number()),
    };
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .set("metrics_address", format!("127.0.0.1:{}", port.number()))
        .set("metrics_certificate_file", files.path("server"))
        .set("metrics_certificate_key_file", files.path("server.key"))
        .set("metrics_client_ca_file", files.path("clients"))
        .start()
        .await?;

    let right = files.ask("servers", Some("scraper")).await?;
    assert!(
        right.status.success(),
        "{}",
        String::from_utf8_lossy(&right.stderr)
    );
    assert!(String::from_utf8_lossy(&right.stdout).contains("pomerium_build_info"));
    for client in [None, Some("stranger")] {
        let refused = files.ask("servers", client).await?;
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{client:?}"
        );
    }
    let plain = Files {
        folder,
        url: files.url.replace("https", "http"),
    };
    assert!(
        !plain.ask("servers", None).await?.status.success(),
        "no plain HTTP"
    );

    // Another certificate of the listener and another client CA, without a restart.
    let renewed = Authority::new()?;
    write(folder, &renewed, "renewed")?;
    std::fs::write(folder.join("renewed.ca"), renewed.pem())?;
    std::fs::write(folder.join("strangers"), strangers.pem())?;
    let mark = env.log().mark();
    let (certificate, key, ca) = (
        files.path("renewed"),
        files.path("renewed.key"),
        files.path("strangers"),
    );
    env.rewrite_config(|config| {
        config["metrics_certificate_file"] = certificate.into();
        config["metrics_certificate_key_file"] = key.into();
        config["metrics_client_ca_file"] = ca.into();
    })?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await
        .context("the reload")?;
    let changed = files.ask("renewed.ca", Some("stranger")).await?;
    assert!(
        changed.status.success(),
        "{}",
        String::from_utf8_lossy(&changed.stderr)
    );
    assert!(!files.ask("renewed.ca", Some("scraper")).await?.status.success());
    Ok(())
}
