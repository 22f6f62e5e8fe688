//! HTTP/3 beside HTTP/2: CPU of the proxy per authorised request, the same connections, requests and streams.
//!
//! h2load of Debian speaks no HTTP/3, so that side's load is made here; what the load costs is not counted.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use pomerium_testing::{Authority, Environment, Http3Client};

use crate::load::{self, CLIENTS, Protocol, Target};
use crate::statistics::median;
use crate::{Size, process, rivals};

/// Requests at a time on one connection, as for HTTP/2.
const STREAMS: u32 = 10;

/// Measures and returns the section as Markdown.
pub async fn run(size: Size) -> Result<String> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let environment = rivals::environment(upstream)?
        .set("codec_type", "http3")
        .start()
        .await?;
    let cookie = rivals::cookie_of(&environment).await?;
    let target = Target {
        url: environment.url("app", "/"),
        port: environment.port(),
        cookie,
    };
    let process = environment.process_id()?;
    let mut costs: [Vec<f64>; 2] = Default::default();
    load::run(&target, Protocol::Http2, size.requests / 10 + CLIENTS).await?;
    load_http3(&environment, &target, size.requests / 10 + CLIENTS).await?;
    for run in 0..size.runs {
        let two = crate::compare::cost(process, &target, Protocol::Http2, size.requests).await?;
        let before = process::cpu(process)?;
        load_http3(&environment, &target, size.requests).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let used = process::cpu(process)?.saturating_sub(before);
        let three = used.as_secs_f64() * 1e6 / f64::from(size.requests);
        eprintln!("run {}: HTTP/2 {two:.1} µs, HTTP/3 {three:.1} µs", run + 1);
        costs[0].push(two);
        costs[1].push(three);
    }
    let [two, three] = costs.map(median);
    let mut text = String::from("### HTTP/3\n\n");
    let _ = writeln!(
        text,
        "- an authorised request, CPU of the proxy: {two:.1} µs over HTTP/2, {three:.1} µs over HTTP/3; {:.2} ×, goal at \
         most 2 ×\n",
        three / two
    );
    Ok(text)
}

/// Sends `requests` requests over [`CLIENTS`] connections. Every answer must be a 2xx.
async fn load_http3(environment: &Environment, target: &Target, requests: u32) -> Result<()> {
    let left = Arc::new(AtomicU32::new(requests));
    let mut workers = tokio::task::JoinSet::new();
    let authority = environment.authority_of("app");
    let host = authority.split(':').next().unwrap_or_default().to_owned();
    let address = SocketAddr::from(([127, 0, 0, 1], target.port));
    for _ in 0..CLIENTS {
        let client = Arc::new(connect(address, environment.authority(), &host).await?);
        for _ in 0..STREAMS {
            let (client, left, target) = (client.clone(), left.clone(), target.clone());
            workers.spawn(async move { ask(&client, &left, &target).await });
        }
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

async fn connect(address: SocketAddr, authority: &Authority, host: &str) -> Result<Http3Client> {
    Http3Client::connect(address, authority, host)
        .await
        .context("a connection for the load")
}

/// Asks until none is left.
async fn ask(client: &Http3Client, left: &AtomicU32, target: &Target) -> Result<()> {
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
    {
        let request = Request::get(&target.url)
            .header("accept", "text/html")
            .header("cookie", &target.cookie)
            .body(Bytes::new())?;
        let reply = client.send(request).await?;
        ensure!(reply.status.is_success(), "HTTP/3: {}", reply.status);
    }
    Ok(())
}
