//! Large bodies: CPU per byte beside nginx, and how far the memory rises meanwhile.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use pomerium_testing::tools;
use tokio::process::Command;

use crate::load::{Protocol, Target};
use crate::rivals::{self, Ground, Rival};
use crate::statistics::median;
use crate::{Size, process};

/// One body.
const BYTES: u64 = 1 << 30;

/// Measures and returns the section as Markdown.
pub async fn run(size: Size) -> Result<String> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let ground = Ground::new(upstream)?;
    let ours = rivals::pomerium(upstream).await?;
    let field = [
        (rivals::nginx(&ground).await?, "app.example.com".to_owned()),
        (ours.rival, ours.authority),
    ];
    let mut text =
        String::from("### Large bodies\n\n1 GiB from the upstream to the client, one connection.\n\n");
    text.push_str("| proxy | HTTP/1.1 TLS, ns per KB | HTTP/2 TLS, ns per KB | memory rises by, MB |\n|---|---:|---:|---:|\n");
    let rows = measure(size, &field, &ours.cookie).await?;
    for ((rival, _), row) in field.iter().zip(&rows) {
        let [one, two] = row.cost.clone().map(median);
        let _ = writeln!(
            text,
            "| {} | {one:.0} | {two:.0} | {:.1} |",
            rival.name,
            median(row.rise.clone())
        );
    }
    let ratio = |at: usize| median(rows[1].cost[at].clone()) / median(rows[0].cost[at].clone());
    let _ = writeln!(
        text,
        "\n- against nginx: {:.2} × (HTTP/1.1), {:.2} × (HTTP/2); goal at most 1.2 ×, memory flat\n",
        ratio(0),
        ratio(1)
    );
    Ok(text)
}

#[derive(Default)]
struct Row {
    /// Nanoseconds of CPU per 1000 bytes, by protocol.
    cost: [Vec<f64>; 2],
    /// Peak minus resident memory before, MB.
    rise: Vec<f64>,
}

async fn measure(size: Size, field: &[(Rival, String)], cookie: &str) -> Result<[Row; 2]> {
    let mut rows = [Row::default(), Row::default()];
    for run in 0..size.runs.min(3) {
        for protocol in Protocol::ALL {
            for ((rival, authority), row) in field.iter().zip(&mut rows) {
                let target = Target {
                    url: format!("https://{authority}/bytes/{BYTES}"),
                    port: rival.port,
                    cookie: cookie.to_owned(),
                };
                process::forget_peak(rival.process)?;
                let before = process::peak(rival.process)?;
                let used = process::cpu(rival.process)?;
                download(&target, protocol, BYTES)
                    .await
                    .with_context(|| format!("through {}", rival.name))?;
                let used = process::cpu(rival.process)?.saturating_sub(used);
                let peak = process::peak(rival.process)?;
                #[allow(clippy::cast_precision_loss, reason = "figures are far below 2^52")]
                let (cost, rise) = (
                    used.as_secs_f64() * 1e12 / BYTES as f64,
                    peak.saturating_sub(before) as f64 / 1e6,
                );
                eprintln!(
                    "bodies {}: {} {protocol:?}: {cost:.0} ns/KB, +{rise:.1} MB",
                    run + 1,
                    rival.name
                );
                row.cost[protocol as usize].push(cost);
                row.rise.push(rise);
            }
        }
    }
    Ok(rows)
}

/// One download of `bytes` with curl, thrown away as it comes.
pub async fn download(target: &Target, protocol: Protocol, bytes: u64) -> Result<()> {
    let url: http::Uri = target.url.parse()?;
    let host = url.host().context("a URL with a host")?.to_owned();
    let named = url.port_u16().unwrap_or(443);
    let output = Command::new(tools::find("curl")?)
        .args(["--silent", "--show-error", "--insecure", "--output", "/dev/null"])
        .arg(match protocol {
            Protocol::Http1 => "--http1.1",
            Protocol::Http2 => "--http2",
        })
        .args([
            "--connect-to",
            &format!("{host}:{named}:127.0.0.1:{}", target.port),
        ])
        .args(["--header", &format!("cookie: {}", target.cookie)])
        .args(["--write-out", "%{http_code} %{size_download}"])
        .arg(&target.url)
        .output()
        .await
        .context("curl does not start")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        said == format!("200 {bytes}"),
        "the body did not come whole: {said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
