//! Datagrams that only want to cost (QUIC floods, version garbage, amplification, early data): nobody else notices,
//! the log stays short, and a forged address gets no more than three times what was sent in its name
//! (RFC 9000 section 8.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Environment, Http3Client, PATIENCE, Route, Upstream};
use tokio::net::UdpSocket;

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set("codec_type", "http3")
        .set("log_level", "info")
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    Ok((env, upstream))
}

async fn client(env: &Environment) -> Result<Http3Client> {
    Http3Client::connect(env.address(), env.authority(), "open.example.com").await
}

/// Resident memory in bytes.
fn resident(env: &Environment) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", env.process_id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line
        .and_then(|line| line.split_whitespace().next())
        .context("VmRSS")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// An Initial of QUIC version 1 with connection ids of its own and a body that decrypts to nothing.
fn initial(number: u32, size: usize) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend_from_slice(
        &u64::from(number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_be_bytes(),
    );
    packet.extend_from_slice(&[4, 1, 2, 3, 4, 0]);
    packet.extend_from_slice(&(0x4000 | u16::try_from(size.max(40) - 22).unwrap_or(1178)).to_be_bytes());
    packet.resize(size, 0x5a);
    packet
}

#[tokio::test]
async fn a_flood_of_forged_handshakes_and_noise_costs_no_memory_and_no_log() -> Result<()> {
    let (env, _upstream) = stage().await?;
    let url = env.url("open", "/");
    let friend = client(&env).await?;
    ensure!(friend.get(&url).await?.status == 200);
    let (memory, lines) = (resident(&env)?, env.log().all().len());
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let sizes = [1200, 1199, 21, 7, 1452, 60];
    for number in 0..30_000_u32 {
        let mut packet = initial(number, sizes[number as usize % sizes.len()]);
        match number % 5 {
            0 => packet[1..5].copy_from_slice(&[0x0a, 0x1a, 0x2a, 0x3a]),
            1 => packet[0] = 0x43,
            2 => packet[1..5].copy_from_slice(&[0; 4]),
            _ => {}
        }
        socket.send_to(&packet, env.address()).await?;
        if number % 3000 == 0 {
            ensure!(friend.get(&url).await?.status == 200);
        }
    }
    ensure!(
        client(&env).await?.get(&url).await?.status == 200,
        "newcomers are served"
    );
    let grown = resident(&env)?.saturating_sub(memory);
    ensure!(grown < 40_000_000, "memory grew by {grown} bytes");
    let told = env.log().all().len() - lines;
    ensure!(told < 100, "{told} lines of log");
    Ok(())
}

#[tokio::test]
async fn a_forged_address_gets_at_most_three_times_what_was_sent() -> Result<()> {
    let (env, _upstream) = stage().await?;
    // A client that sends its first flight through us and never hears an answer.
    let middle = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    let outside = UdpSocket::bind("127.0.0.1:0").await?;
    let towards = middle.local_addr()?;
    let proxy: SocketAddr = env.address();
    let authority_roots = env.authority().roots()?;
    let handshake = tokio::spawn(async move {
        let mut tls = rustls::ClientConfig::builder()
            .with_root_certificates(authority_roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let _ = endpoint.connect(towards, "open.example.com")?.await;
        anyhow::Ok(())
    });
    let mut buffer = [0; 2000];
    let (size, _) = tokio::time::timeout(PATIENCE, middle.recv_from(&mut buffer)).await??;
    ensure!(size >= 1200, "a first flight fills a datagram: {size}");
    outside.send_to(&buffer[..size], proxy).await?;
    let mut received = 0;
    // The server repeats itself after a second or so, and may not go beyond the limit then either.
    let until = tokio::time::Instant::now() + Duration::from_secs(4);
    while let Ok(answer) = tokio::time::timeout_at(until, outside.recv(&mut buffer)).await {
        received += answer?;
    }
    ensure!(received > 0, "the server answers");
    ensure!(received <= 3 * size, "{received} bytes for {size}");
    handshake.abort();
    Ok(())
}
