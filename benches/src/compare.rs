//! CPU per request and memory of each proxy, the runs interleaved, the median of several.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::{self, Protocol, Target};
use crate::rivals::{self, Ground, Rival};
use crate::statistics::median;
use crate::{Size, process, report};

/// What was measured of one proxy.
#[derive(Debug, Default)]
pub struct Row {
    /// CPU per request in µs, by protocol, one value per run.
    pub cpu: [Vec<f64>; 2],
    /// Resident memory after the load, in bytes, one value per run.
    pub resident: Vec<f64>,
}

impl Row {
    /// Median CPU per request in µs.
    pub fn cpu(&self, protocol: Protocol) -> f64 {
        median(self.cpu[protocol as usize].clone())
    }

    /// Median resident memory in MB.
    pub fn resident(&self) -> f64 {
        median(self.resident.clone()) / 1e6
    }
}

/// Measures and returns the section as Markdown.
pub async fn run(size: Size, only: &[String]) -> Result<String> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let (authorizing, authorizer) = rivals::helper("authorizer").await?;
    let authorizing = authorizing.id().context("the authorizer has ended")?;
    let ground = Ground::new(upstream)?;
    let wanted = |name: &str| {
        only.is_empty()
            || only
                .iter()
                .any(|part| name.to_lowercase().contains(&part.to_lowercase()))
    };

    let signed_in = if wanted("pomerium") {
        Some(rivals::pomerium(upstream).await?)
    } else {
        None
    };
    // Everyone reads the same cookie, so that all have the same bytes to carry.
    let cookie = signed_in.as_ref().map_or_else(
        || format!("_pomerium={}", "x".repeat(400)),
        |it| it.cookie.clone(),
    );
    let mut field: Vec<(Rival, String)> = Vec::new();
    if wanted("nginx") {
        field.push((rivals::nginx(&ground).await?, "app.example.com".into()));
    }
    if wanted("haproxy") {
        field.push((rivals::haproxy(&ground).await?, "app.example.com".into()));
    }
    if wanted("envoy") {
        let envoys = [
            rivals::envoy(&ground).await?,
            rivals::envoy_with_authorizer(&ground, authorizer).await?,
        ];
        field.extend(
            envoys
                .into_iter()
                .flatten()
                .map(|rival| (rival, "app.example.com".into())),
        );
    }
    field.extend(signed_in.map(|it| (it.rival, it.authority)));

    let rows = measure(size, &field, &cookie, authorizing).await?;
    Ok(report::comparison(&rows, size))
}

/// The row of Envoy that asks the authorizer.
const ASKING: &str = "Envoy + ext_authz";
/// The same with what the authorizer uses.
const WITH_AUTHORIZER: &str = "Envoy and the authorizer";

async fn measure(
    size: Size,
    field: &[(Rival, String)],
    cookie: &str,
    authorizing: u32,
) -> Result<Vec<(&'static str, Row)>> {
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    let mut both = Row::default();
    let target = |rival: &Rival, authority: &str| Target {
        url: format!("https://{authority}/"),
        port: rival.port,
        cookie: cookie.to_owned(),
    };
    for (rival, authority) in field {
        for protocol in Protocol::ALL {
            load::run(
                &target(rival, authority),
                protocol,
                size.requests / 10 + load::CLIENTS,
            )
            .await
            .with_context(|| format!("warming up {}", rival.name))?;
        }
    }
    for run in 0..size.runs {
        for protocol in Protocol::ALL {
            for (index, (rival, authority)) in field.iter().enumerate() {
                let before = process::cpu(authorizing)?;
                let cost = cost(rival.process, &target(rival, authority), protocol, size.requests).await?;
                if rival.name == ASKING {
                    let asked = process::cpu(authorizing)?.saturating_sub(before);
                    both.cpu[protocol as usize]
                        .push(cost + asked.as_secs_f64() * 1e6 / f64::from(size.requests));
                }
                eprintln!("run {}: {} {protocol:?}: {cost:.1} µs", run + 1, rival.name);
                let row = rows.entry(index).or_default();
                row.cpu[protocol as usize].push(cost);
            }
        }
        for (index, (rival, _)) in field.iter().enumerate() {
            #[allow(clippy::cast_precision_loss, reason = "memory in bytes is far below 2^52")]
            let resident = process::resident(rival.process)? as f64;
            rows.entry(index).or_default().resident.push(resident);
            if rival.name == ASKING {
                #[allow(clippy::cast_precision_loss, reason = "memory in bytes is far below 2^52")]
                both.resident
                    .push(resident + process::resident(authorizing)? as f64);
            }
        }
    }
    let mut named: Vec<_> = rows
        .into_iter()
        .map(|(index, row)| (field[index].0.name, row))
        .collect();
    if let Some(at) = named.iter().position(|(name, _)| *name == ASKING) {
        named.insert(at + 1, (WITH_AUTHORIZER, both));
    }
    Ok(named)
}

/// CPU per request in µs of one run.
pub async fn cost(process: u32, target: &Target, protocol: Protocol, requests: u32) -> Result<f64> {
    let before = process::cpu(process)?;
    load::run(target, protocol, requests).await?;
    // The kernel books CPU time in ticks; the last one may come a moment after the last answer.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let used = process::cpu(process)?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / f64::from(requests))
}
