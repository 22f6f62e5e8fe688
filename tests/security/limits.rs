//! Sizes (traefik CVE-2026-26998): headers have a limit, bodies that we read have one. Files: when there are no more of
//! them, the log stays short.

use anyhow::{Result, ensure};
use pomerium_testing::{Environment, Route, Upstream};
use pomerium_tests::scripted;
use tokio::net::TcpStream;
use tokio::process::Command;

#[tokio::test]
async fn oversized_headers_are_a_431() -> Result<()> {
    let stage = scripted().await?;
    let authority = stage.env.authority_of("open");
    let large = format!("X-Large: {}\r\n", "a".repeat(140 * 1024));
    let many: String = (0..1100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("/{}", "a".repeat(140 * 1024));
    for (target, headers) in [("/", large.as_str()), ("/", many.as_str()), (long.as_str(), "")] {
        let mut client = stage.env.raw("open").await?;
        // The answer may come, and the connection close, before all is sent.
        let _ = client
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n"
            ))
            .await;
        let reply = client.reply(false).await?;
        assert!(matches!(reply.status, 431 | 414), "{}", reply.status);
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_endless_provider_is_cut_off() -> Result<()> {
    let stage = scripted().await?;
    stage.idp.script(|script| script.padding = 64 << 20);
    let reply = stage.env.client()?.follow(&stage.env.url("app", "/")).await?;
    assert!(
        reply.status.is_server_error() || reply.status.is_client_error(),
        "{}",
        reply.status
    );
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_large_form_is_refused_by_our_own_pages() -> Result<()> {
    let stage = scripted().await?;
    let url = stage.env.url("auth", "/.pomerium/sign_out");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let reply = stage
        .env
        .client()?
        .send(http::Method::POST, &url, &headers, "a=".repeat(4 << 20))
        .await;
    // Refused with an answer, or cut off while sending.
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status.is_client_error()));
    Ok(())
}

/// Sets the highest number of open files of the program.
async fn limit_files(env: &Environment, most: usize) -> Result<()> {
    let process = env.process_id()?.to_string();
    let limit = format!("--nofile={most}:");
    let set = Command::new("prlimit").args(["--pid", &process, &limit]).status();
    ensure!(set.await?.success(), "prlimit");
    Ok(())
}

#[tokio::test]
async fn without_files_for_more_connections_the_log_stays_short_and_later_all_is_well() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", env.process_id()?))?;
    limit_files(&env, open.count() + 2).await?;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(TcpStream::connect(env.address()).await?);
    }
    // Attempts go on all the time; of nearly all of them nothing is said.
    env.log()
        .wait_json(0, "lines that were left out", |line| {
            line["message"] == "cannot accept a connection" && line["left-out"].as_u64() > Some(0)
        })
        .await?;
    drop(clients);
    limit_files(&env, 1024).await?;
    ensure!(env.client()?.get(&env.url("open", "/")).await?.status == 200);
    Ok(())
}
