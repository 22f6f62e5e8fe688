//! `pomerium demo`: one command, then a browser.

use anyhow::{Context, Result};
use pomerium_testing::{Browser, Client, ClientOptions, Look, Port, Program, lease, tools};
use tempfile::TempDir;
use tokio::process::Command;

use crate::browser_local::judge_page;

struct Demo {
    program: Program,
    port: Port,
    folder: TempDir,
}

impl Demo {
    async fn start() -> Result<Demo> {
        let folder = tempfile::tempdir()?;
        let port = lease()?;
        let mut command = Command::new(tools::server()?);
        command
            .args(["demo", "--port", &port.number().to_string(), "--data-dir"])
            .arg(folder.path().join("demo"))
            .env("HOME", folder.path());
        let program = Program::start(command)?;
        program
            .output()
            .wait("the last line", |line| line.contains("Ctrl-C"))
            .await?;
        Ok(Demo {
            program,
            port,
            folder,
        })
    }

    fn url(&self, name: &str) -> String {
        format!("https://{name}.localhost:{}/", self.port.number())
    }

    /// The password that the demo printed.
    fn password(&self, user: &str) -> Result<String> {
        let lines = self.program.output().all();
        let line = lines
            .iter()
            .find(|line| line.trim_start().starts_with(user))
            .context("no such user printed")?;
        Ok(line.split_whitespace().last().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn what_the_demo_prints_is_what_there_is() -> Result<()> {
    let demo = Demo::start().await?;
    let said = demo.program.output().all().join("\n");
    for name in ["app", "admin", "public", "ws"] {
        assert!(
            said.contains(demo.url(name).trim_end_matches('/')),
            "{name} is not printed:\n{said}"
        );
    }
    assert!(demo.folder.path().join("demo/config.yaml").is_file());
    // It would outlive the demo, for every port of localhost.
    let options = ClientOptions {
        trust_anyone: true,
        ..ClientOptions::default()
    };
    let reply = Client::new(&options)?.get(&demo.url("public")).await?;
    assert_eq!(reply.header("strict-transport-security"), None);

    let browser = Browser::start().await?;
    let page = browser.open(Look::DESKTOP).await?;
    assert_eq!(page.goto(&demo.url("public")).await?.0, 200);
    assert_eq!(page.text("h1").await?, "Hello.");
    judge_page(&page, "demo-public").await?;

    page.goto(&demo.url("app")).await?;
    page.sign_in("user@example.com", &demo.password("user@example.com")?)
        .await?;
    let text = page.text("main").await?;
    assert!(
        text.contains("its signature verifies") && text.contains("user@example.com"),
        "{text}"
    );
    judge_page(&page, "demo-app").await?;

    assert_eq!(page.goto(&demo.url("admin")).await?.0, 403);
    page.goto(&demo.url("ws")).await?;
    page.fill("#text", "through the proxy").await?;
    page.wait_for("#log:not(:has-text('connecting'))").await?;
    page.click("#echo button").await?;
    page.wait_for("#log:has-text('through the proxy')").await?;

    let admin = browser.open(Look::PHONE).await?;
    admin.goto(&demo.url("admin")).await?;
    admin
        .sign_in("admin@example.com", &demo.password("admin@example.com")?)
        .await?;
    assert!(
        admin.text("h1").await?.contains("Administrator"),
        "{}",
        admin.text("main").await?
    );
    judge_page(&admin, "demo-admin-390").await
}
