//! The status of certificates (OCSP): stapled into handshakes, kept, and what follows from it. The responder is
//! openssl's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pomerium_testing::{Environment, Pebble, PebbleOptions, Program, Shown, lease, shown, tools, within};
use serde_json::json;

use crate::acme::{look, obtained, route, stored, with};

/// A responder by openssl for what `issuer` issues.
async fn responder(
    folder: &std::path::Path,
    port: u16,
    issuer: (&str, &str),
    index: &str,
) -> Result<Program> {
    std::fs::write(folder.join("issuer.pem"), issuer.0)?;
    std::fs::write(folder.join("issuer.key"), issuer.1)?;
    std::fs::write(folder.join("index"), index)?;
    let mut command = tokio::process::Command::new(tools::find("openssl")?);
    command
        .current_dir(folder)
        .args([
            "ocsp",
            "-index",
            "index",
            "-CA",
            "issuer.pem",
            "-rsigner",
            "issuer.pem",
            "-rkey",
            "issuer.key",
        ])
        .args(["-port", &port.to_string(), "-ndays", "2", "-ignore_err"]);
    let program = Program::start(command)?;
    let waiting = |line: &str| line.contains("waiting for OCSP client connections");
    program.output().wait("the responder", waiting).await?;
    Ok(program)
}

async fn openssl(folder: &std::path::Path, arguments: &[&str]) -> Result<String> {
    let done = tokio::process::Command::new(tools::find("openssl")?)
        .current_dir(folder)
        .args(arguments)
        .output()
        .await?;
    anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?)
}

async fn stapled(env: &Environment, name: &str, root: &str) -> Result<Shown> {
    let stapled = async {
        loop {
            let seen = shown(env.address(), name, root).await?;
            if !seen.staple.is_empty() {
                return anyhow::Ok(seen);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let found = within("a staple", stapled).await.and_then(|found| found);
    let said = env
        .log()
        .all()
        .into_iter()
        .filter(|line| line.contains("autocert"));
    found.with_context(|| said.collect::<Vec<_>>().join("\n"))
}

#[tokio::test]
async fn a_status_is_stapled_and_a_revoked_certificate_is_replaced() -> Result<()> {
    let builder = Environment::builder()?;
    let port = lease()?;
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        ocsp_responder: Some(format!("http://127.0.0.1:{}", port.number())),
        ..PebbleOptions::default()
    })
    .await?;
    let mut env = with(builder, &pebble)
        .set("authenticate_service_url", json!(null))
        .route(route("app"))
        .start()
        .await?;
    obtained(&env, "app.example.com").await?;
    let root = pebble.root_pem().await?;
    let first = look(&env, &pebble, "app.example.com").await?;
    assert!(first.staple.is_empty(), "nobody answers yet");
    env.kill().await?;

    let folder = tempfile::tempdir()?;
    let chain = stored(&env, "app.example.com", "crt")?.display().to_string();
    let serial = openssl(folder.path(), &["x509", "-in", &chain, "-noout", "-serial"]).await?;
    let serial = serial.trim().trim_start_matches("serial=").to_owned();
    let (issuer, key) = pebble.intermediate().await?;
    let valid = format!("V\t400101000000Z\t\t{serial}\tunknown\t/CN=app\n");
    let mut answering = responder(folder.path(), port.number(), (&issuer, &key), &valid).await?;
    env.start_again().await?;
    let good = stapled(&env, "app.example.com", &root).await?;
    assert_eq!(good.chain, first.chain);
    std::fs::write(folder.path().join("staple"), &good.staple)?;
    std::fs::write(folder.path().join("leaf.pem"), std::fs::read(&chain)?)?;
    let said = openssl(
        folder.path(),
        &[
            "ocsp",
            "-issuer",
            "issuer.pem",
            "-cert",
            "leaf.pem",
            "-respin",
            "staple",
            "-CAfile",
            "issuer.pem",
            "-partial_chain",
        ],
    )
    .await?;
    assert!(said.contains("leaf.pem: good"), "{said}");

    // The staple is kept: without a responder the next start shows it in its first handshake.
    answering.kill().await?;
    env.kill().await?;
    env.start_again().await?;
    assert_eq!(look(&env, &pebble, "app.example.com").await?.staple, good.staple);
    env.kill().await?;

    let kept = env.folder().join("data/autocert/ocsp");
    std::fs::remove_dir_all(kept)?;
    let revoked = format!("R\t400101000000Z\t250101000000Z,keyCompromise\t{serial}\tunknown\t/CN=app\n");
    let _answering = responder(folder.path(), port.number(), (&issuer, &key), &revoked).await?;
    env.start_again().await?;
    env.log()
        .wait("an alarm", |line| line.contains("has been revoked"))
        .await?;
    obtained(&env, "app.example.com").await?;
    let replaced = look(&env, &pebble, "app.example.com").await?;
    assert!(replaced.trusted);
    assert_ne!(replaced.chain[0], first.chain[0]);
    Ok(())
}

/// A certificate of one's own, made by openssl: `own.pem` with its issuer below, `own.key`, `issuer.pem`.
async fn must_staple(folder: &std::path::Path, responder: u16) -> Result<()> {
    std::fs::write(
        folder.join("own.ext"),
        format!(
            "subjectAltName=DNS:own.example.com\ntlsfeature=status_request\n\
             authorityInfoAccess=OCSP;URI:http://127.0.0.1:{responder}\n"
        ),
    )?;
    for command in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout issuer.key -out issuer.pem \
         -subj /CN=Issuer -days 30",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.csr -subj /CN=own.example.com",
        "x509 -req -in own.csr -CA issuer.pem -CAkey issuer.key -days 30 -set_serial 0x1234 -extfile own.ext -out leaf.pem",
    ] {
        openssl(folder, &command.split_whitespace().collect::<Vec<_>>()).await?;
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    std::fs::write(folder.join("own.pem"), read("leaf.pem")? + &read("issuer.pem")?)?;
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_ones_own_that_demands_a_status_gets_one_or_is_refused() -> Result<()> {
    let (folder, port) = (tempfile::tempdir()?, lease()?);
    must_staple(folder.path(), port.number()).await?;
    let file = |name: &str| folder.path().join(name);
    let pair = json!([{ "cert": file("own.pem"), "key": file("own.key") }]);
    let (status, output) = Environment::builder()?
        .set("certificates", pair.clone())
        .refused()
        .await?;
    let said = output.tail(50);
    ensure!(
        !status.success() && said.contains("own.pem") && said.contains("autocert"),
        "nobody would staple it: {said}"
    );

    let issuer = (
        std::fs::read_to_string(file("issuer.pem"))?,
        std::fs::read_to_string(file("issuer.key"))?,
    );
    let valid = "V\t400101000000Z\t\t1234\tunknown\t/CN=own.example.com\n";
    let _answering = responder(folder.path(), port.number(), (&issuer.0, &issuer.1), valid).await?;
    let pebble = Pebble::start(&PebbleOptions::default()).await?;
    let env = with(Environment::builder()?, &pebble)
        .set("authenticate_service_url", json!(null))
        .set("certificates", pair)
        .route(route("own"))
        .start()
        .await?;
    let seen = stapled(&env, "own.example.com", &issuer.0).await?;
    ensure!(seen.trusted, "{}", seen.doubt);
    ensure!(pebble.orders() == 0, "it is there already");
    Ok(())
}
