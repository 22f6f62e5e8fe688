//! Clients that people have: curl and h2load.

use anyhow::Result;
use pomerium_testing::{Environment, Route, Upstream, tools};
use tokio::process::Command;

#[tokio::test]
async fn curl_speaks_both_versions() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let ca = env.folder().join("ca.pem");
    std::fs::write(&ca, env.authority().pem())?;
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let output = Command::new(tools::find("curl")?)
            .args([
                "--silent",
                "--show-error",
                "--fail",
                option,
                "--write-out",
                "\n%{http_version}",
            ])
            .arg("--cacert")
            .arg(&ca)
            .arg("--connect-to")
            .arg(format!("::127.0.0.1:{}", env.port()))
            .arg(env.url("open", "/from-curl"))
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            text.contains("\"target\":\"/from-curl\"") && text.ends_with(&format!("\n{version}")),
            "{text}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn h2load_gets_every_answer() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    for version in [&["--h1"][..], &["-m", "10"]] {
        let output = Command::new(tools::find("h2load")?)
            .args(version)
            .args(["-n", "500", "-c", "10", "-t", "1"])
            .arg(format!("--connect-to=127.0.0.1:{}", env.port()))
            .arg(env.url("open", "/load"))
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("status codes: 500 2xx, 0 3xx, 0 4xx, 0 5xx"),
            "{version:?}\n{text}"
        );
    }
    Ok(())
}
