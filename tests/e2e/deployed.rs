//! The files of `deploy/`, as `docs/deployment.md` tells to use them: started, and signed in through.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_crypto::{encoding, service_token};
use pomerium_testing::{Client, Environment, Postgres, Program, tools, within};
use pomerium_tests::deployed::Site;
use tokio::process::Command;

/// The name of the certificate of the databroker, in the files.
const NAME: &str = "databroker.internal.example.com";

async fn status(client: &Client, proxy: &Environment) -> Result<u16> {
    let reply = client
        .get_with(&proxy.url("wiki", "/page"), &[("accept", "application/json")])
        .await?;
    Ok(reply.status.as_u16())
}

#[tokio::test]
async fn one_box() -> Result<()> {
    let mut site = Site::new().await?;
    let pomerium = site.authenticate("one-box/config.yaml").await?;
    site.signed_in(&pomerium).await?;
    ensure!(
        site.upstream
            .requests()
            .iter()
            .any(|request| request.target == "/page")
    );
    Ok(())
}

#[tokio::test]
async fn split() -> Result<()> {
    let mut site = Site::new().await?;
    let mut databroker = site.databroker("split/databroker.yaml").await?;
    let _authenticate = site.authenticate("split/authenticate.yaml").await?;
    let proxy = site.proxy("split/proxy.yaml").await?;
    let client = site.signed_in(&proxy).await?;
    databroker.kill().await?;
    ensure!(status(&client, &proxy).await? == 200, "people work on");
    databroker.start_again().await?;
    within("a sign-in after the databroker is back", async {
        while site.sign_in(&proxy).await?.1.status != 200 {}
        anyhow::Ok(())
    })
    .await??;
    ensure!(status(&client, &proxy).await? == 200, "sessions are in files");
    Ok(())
}

/// Runs the program with the configuration of `databroker`; what it says, once it has done what it was told.
async fn told(databroker: &Environment, args: &[&str]) -> Result<String> {
    let mut command = Command::new(tools::server()?);
    command
        .args(args)
        .arg("--config")
        .arg(databroker.folder().join("config.yaml"));
    let mut program = Program::start(command)?;
    let status = program.wait().await?;
    let said = program.output().tail(40);
    ensure!(status.success(), "{args:?}: {said}");
    Ok(said)
}

/// The databroker runs, has a certificate for a name that is not its address, and wants one of whoever comes.
#[tokio::test]
async fn the_records_of_a_split_installation_are_backed_up() -> Result<()> {
    let mut site = Site::new().await?;
    let databroker = site.databroker("split/databroker.yaml").await?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    told(&databroker, &["databroker", "backup", &file("found")]).await?;
    let url = format!("https://127.0.0.1:{}", site.grpc_port()?);
    told(
        &databroker,
        &["databroker", "backup", &file("told"), "--from", &url],
    )
    .await?;
    for name in ["found", "told"] {
        told(&databroker, &["databroker", "check", &file(name)]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_health_of_a_split_installation_is_watched_with_the_secret_alone() -> Result<()> {
    let mut site = Site::new().await?;
    let databroker = site.databroker("split/databroker.yaml").await?;
    let address = format!("https://127.0.0.1:{}", site.grpc_port()?);
    let config = databroker.folder().join("config.yaml").display().to_string();
    for (more, secret) in [
        (["--server-name", NAME], Site::SHARED_SECRET),
        (["--config", &config], ""),
    ] {
        let mut watch = Command::new(tools::server()?);
        watch
            .args(["health", "watch", "-a", &address])
            .args(more)
            .env("SHARED_SECRET", secret);
        let watching = Program::start(watch)?;
        let running = |line: &str| line.contains("storage.backend: running");
        watching.output().wait("its health", running).await?;
    }
    Ok(())
}

/// `curl` has what it needs after one command.
#[tokio::test]
async fn the_management_api_of_a_split_installation_is_asked_with_a_certificate() -> Result<()> {
    let mut site = Site::new().await?;
    let databroker = site.databroker("split/databroker.yaml").await?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("tool");
    let make = [
        "databroker",
        "certificate",
        "--out",
        out.to_str().context("a path")?,
    ];
    let said = told(&databroker, &make).await?;
    ensure!(said.contains("client-key.pem"), "{said}");
    let key = out.join("client-key.pem");
    let mode = std::fs::metadata(&key)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    ensure!(told(&databroker, &make).await.is_err(), "nothing is replaced");

    let secret = encoding::base64_decode(Site::SHARED_SECRET)?;
    let secret: [u8; 32] = secret.try_into().ok().context("32 bytes")?;
    let token = service_token::sign(&secret, SystemClock.now().as_second());
    let port = site.grpc_port()?;
    let ask = |certificate: bool| {
        let mut curl = Command::new(tools::find("curl")?);
        curl.args(["--silent", "--show-error", "--fail-with-body", "--data", "{}"])
            .args(["--header", "Content-Type: application/json"])
            .arg("--header")
            .arg(format!("Authorization: Bearer Pomerium-{token}"))
            .arg("--resolve")
            .arg(format!("{NAME}:{port}:127.0.0.1"))
            .arg("--cacert")
            .arg(out.join("ca.pem"));
        if certificate {
            curl.arg("--cert")
                .arg(out.join("client.pem"))
                .arg("--key")
                .arg(&key);
        }
        curl.arg(format!(
            "https://{NAME}:{port}/pomerium.config.ConfigService/ListRoutes"
        ));
        anyhow::Ok(curl)
    };
    let answer = ask(true)?.output().await?;
    let said = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
    ensure!(answer.status.success(), "{said}");
    ensure!(!ask(false)?.output().await?.status.success(), "who shows none");
    Ok(())
}

#[tokio::test]
async fn the_certificate_of_a_tool_is_made_of_the_secret_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let make = |secret: &str| -> Result<Command> {
        let mut command = Command::new(tools::server()?);
        command
            .args(["databroker", "certificate", "--out"])
            .arg(folder.path().join("tool"))
            .env("SHARED_SECRET", secret);
        Ok(command)
    };
    for (secret, why) in [("short", "32 bytes"), ("", "is needed")] {
        let wrong = make(secret)?.output().await?;
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        ensure!(!wrong.status.success() && said.contains(why), "{said}");
    }
    ensure!(!folder.path().join("tool").exists());
    let made = make(Site::SHARED_SECRET)?.output().await?;
    ensure!(made.status.success());
    let authority = std::fs::read_to_string(folder.path().join("tool/ca.pem"))?;
    ensure!(
        authority.starts_with("-----BEGIN CERTIFICATE-----"),
        "{authority}"
    );
    Ok(())
}

#[tokio::test]
async fn replicated() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut site = Site::new().await?;
    site.postgres(&postgres.connection("postgres"))?;
    let mut databrokers = [
        site.databroker("replicated/databroker.yaml").await?,
        site.databroker("replicated/databroker.yaml").await?,
    ];
    let _authenticate = site.authenticate("replicated/authenticate.yaml").await?;
    let proxies = [
        site.proxy("replicated/proxy.yaml").await?,
        site.proxy("replicated/proxy.yaml").await?,
    ];
    let mut people = vec![site.signed_in(&proxies[0]).await?];
    databrokers[0].kill().await?;
    within("a sign-in by way of the other databroker", async {
        loop {
            let (client, reply) = site.sign_in(&proxies[0]).await?;
            if reply.status == 200 {
                people.push(client);
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    for client in &people {
        for proxy in &proxies {
            let status = status(client, proxy).await?;
            ensure!(status == 200, "{status} at {}", proxy.address());
        }
    }
    Ok(())
}
