//! `pomerium demo`: one command, then a browser.

use anyhow::{Context, Result};
use pomerium_testing::{Browser, Look, Program, lease, tools};
use tokio::process::Command;

/// The words of a line behind a label, from what the demo prints.
fn after<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.split_once(label))
        .map(|(_, rest)| rest.trim())
}

#[tokio::test]
async fn the_demo_prints_what_to_open_and_it_opens() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = lease()?;
    let mut command = Command::new(tools::server()?);
    command
        .args(["demo", "--port", &port.number().to_string(), "--data-dir"])
        .arg(folder.path().join("demo"))
        .env("HOME", folder.path());
    let program = Program::start(command)?;
    let host = format!("localhost:{}", port.number());
    program
        .output()
        .wait("an address to open", |line| line.contains(&host))
        .await?;
    program
        .output()
        .wait("the configuration", |line| line.contains("config.yaml"))
        .await?;
    let said = program.output().all().join("\n");
    let url = said
        .split_whitespace()
        .find(|word| word.starts_with("https://") && word.contains(&host))
        .with_context(|| format!("no address in:\n{said}"))?
        .trim_end_matches(['.', ','])
        .to_owned();
    assert!(after(&said, "config.yaml").is_some());

    let browser = Browser::start().await?;
    let page = browser.open(Look::DESKTOP).await?;
    let (status, reached) = page.goto(&url).await?;
    assert!(status < 500, "{status} at {reached}");
    page.screenshot("demo-first-page").await?;
    Ok(())
}
