//! A session that is revoked at one process ends what is open in its name at every proxy, within a second.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use pomerium_testing::{Client, Postgres, RawClient, within};
use pomerium_tests::apart::{Apart, as_it_is};

use crate::websocket::{Socket, echoes, open_with_handle};

/// What is promised (docs/services.md).
const PROMISE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn what_is_open_ends_at_every_proxy_within_a_second() -> Result<()> {
    everything_ends(&Apart::start(&as_it_is).await?).await
}

#[tokio::test]
async fn what_is_open_ends_within_a_second_with_databrokers_over_postgresql() -> Result<()> {
    let postgres = Postgres::start()?;
    everything_ends(&Apart::over_postgres(&postgres.connection("postgres"), &as_it_is).await?).await
}

/// A request that is being answered and a WebSocket, at one proxy.
struct Open {
    request: RawClient,
    socket: Socket,
}

impl Open {
    async fn at(apart: &Apart, proxy: usize, handle: &str, whose: &str) -> Result<Open> {
        let name = format!("{whose}-{proxy}");
        let gate = apart.upstream.gate(&name);
        let mut request = apart.proxies[proxy].raw("app").await?;
        let host = apart.proxies[proxy].authority_of("app");
        let head =
            format!("GET /gated/{name} HTTP/1.1\r\nHost: {host}\r\nCookie: _pomerium={handle}\r\n\r\n");
        request.send(head).await?;
        gate.send("begun").await?;
        request.wait_for_bytes(b"begun").await?;
        // The upstream would go on for ever.
        tokio::spawn(async move { gate.abandoned().await });
        let mut socket = open_with_handle(&apart.proxies[proxy], handle).await?;
        echoes(&mut socket, "begun").await?;
        Ok(Open { request, socket })
    }

    /// Waits until both are cut.
    async fn ends(&mut self) -> Result<()> {
        let socket = within("the end of the WebSocket", async {
            while self.socket.next().await.is_some_and(|message| message.is_ok()) {}
        });
        let (rest, socket) = tokio::join!(self.request.read_to_close(), socket);
        ensure!(!rest?.ends_with(b"0\r\n\r\n"), "the answer was ended, not cut");
        socket
    }
}

async fn everything_ends(apart: &Apart) -> Result<()> {
    let (client, other) = (apart.signed_in().await?, apart.signed_in().await?);
    let handle = |client: &Client| client.cookie(&apart.url(0, "app", "/"), "_pomerium");
    let (handle, stays) = (
        handle(&client).unwrap_or_default(),
        handle(&other).unwrap_or_default(),
    );
    let mut ending = Vec::new();
    let mut staying = Vec::new();
    for proxy in [0, 1] {
        ending.push(Open::at(apart, proxy, &handle, "ending").await?);
        staying.push(Open::at(apart, proxy, &stays, "staying").await?);
    }
    let asked = Instant::now();
    apart.sign_out(&client).await?;
    let revoked = Instant::now();
    let ends = ending.iter_mut().map(Open::ends);
    futures_util::future::try_join_all(ends).await?;
    let (took, whole) = (revoked.elapsed(), asked.elapsed());
    writeln!(
        std::io::stderr(),
        "ended at all proxies {took:?} after it was revoked at one, {whole:?} after that was asked for"
    )?;
    ensure!(took < PROMISE, "it took {took:?}");
    // Nobody else is disturbed, another session of the same person neither.
    for open in &mut staying {
        echoes(&mut open.socket, "still here").await?;
    }
    for proxy in [0, 1] {
        ensure!(apart.status(&other, proxy, "app").await? == 200);
        client.set_cookie(&apart.url(proxy, "app", "/"), "_pomerium", &handle)?;
        ensure!(apart.status(&client, proxy, "app").await? == 401);
    }
    Ok(())
}
