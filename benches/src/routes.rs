//! What the number of routes costs: 10 against 10 000; the request for the last one, and the match alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, anyhow};
use pomerium_config::Loader;
use pomerium_proxy::RouteTable;
use pomerium_testing::{Environment, Route};
use serde_json::json;

use crate::Size;
use crate::compare::cost;
use crate::load::{self, Protocol, Target};
use crate::rivals;
use crate::statistics::median;

/// Measures and returns the section as Markdown.
pub async fn run(size: Size) -> Result<String> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let few = start(10, upstream).await?;
    let many = start(10_000, upstream).await?;
    let mut costs = [Vec::new(), Vec::new()];
    for run in 0..=size.runs {
        for (index, (environment, last)) in [&few, &many].into_iter().enumerate() {
            let target = Target {
                url: environment.url(last, "/"),
                port: environment.port(),
                cookie: "a=b".into(),
            };
            if run == 0 {
                load::run(&target, Protocol::Http1, size.requests / 10 + load::CLIENTS).await?;
                continue;
            }
            let cost = cost(environment.process_id()?, &target, Protocol::Http1, size.requests).await?;
            eprintln!("run {run}: last of {} routes: {cost:.1} µs", [10, 10_000][index]);
            costs[index].push(cost);
        }
    }
    let [few, many] = costs.map(median);
    let [few_match, many_match] = matches(size)?;
    let mut text = String::from("### Number of routes\n\n");
    let _ = writeln!(
        text,
        "- the match alone: {few_match:.0} ns among 10, {many_match:.0} ns among 10 000; {:.2} ×, goal at most 1.2 ×",
        many_match / few_match
    );
    let _ = writeln!(
        text,
        "- a public route, HTTP/1.1 over TLS, CPU per request: {few:.1} µs as the last of 10, {many:.1} µs as the \
         last of 10 000; {:.2} ×, goal at most 1.2 ×\n",
        many / few
    );
    Ok(text)
}

/// Nanoseconds of one match among 10 and among 10 000 routes, hosts in turn, measured interleaved.
fn matches(size: Size) -> Result<[f64; 2]> {
    const MATCHES: u32 = 200_000;
    let tables = [Table::new(10)?, Table::new(10_000)?];
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..=size.runs {
        for (table, costs) in tables.iter().zip(&mut costs) {
            let begin = Instant::now();
            for index in 0..MATCHES {
                black_box(
                    table
                        .table
                        .find(&table.hosts[index as usize % table.hosts.len()], "/some/path"),
                );
            }
            costs.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(MATCHES));
        }
    }
    Ok(costs.map(median))
}

struct Table {
    table: RouteTable,
    /// Ten hosts spread over the table: the same working set for every size, the lookup itself is measured.
    hosts: Vec<String>,
}

impl Table {
    /// Routes as the loader makes them from a file.
    fn new(count: usize) -> Result<Table> {
        let folder = tempfile::tempdir()?;
        let host = |index: usize| format!("r{index}.example.com");
        let routes: Vec<_> = (0..count)
            .map(|index| {
                json!({
                    "from": format!("https://{}", host(index)),
                    "to": "http://127.0.0.1:9",
                    "allow_public_unauthenticated_access": true,
                })
            })
            .collect();
        let file = folder.path().join("config.json");
        std::fs::write(
            &file,
            json!({ "routes": routes, "data_dir": folder.path() }).to_string(),
        )?;
        let loaded = Loader::new(Some(&file), &BTreeMap::new())
            .dry_run()
            .load()
            .map_err(|errors| anyhow!("{errors}"))?;
        let table = RouteTable::build(&loaded.settings.routes, &[], true)?;
        Ok(Table {
            table,
            hosts: (0..10).map(|n| host(n * (count / 10) + count / 10 - 1)).collect(),
        })
    }
}

/// The program with this many public routes on hosts of their own; the name of the last one.
async fn start(count: usize, upstream: u16) -> Result<(Environment, String)> {
    let mut builder = Environment::builder()?.set("log_level", "info").log_to_file();
    let to = format!("http://127.0.0.1:{upstream}");
    for index in 0..count {
        builder = builder.route(Route::new(&format!("r{index}"), &to).public());
    }
    Ok((builder.start().await?, format!("r{}", count - 1)))
}
