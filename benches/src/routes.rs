//! What the number of routes costs: 10 against 10 000, the request for the last one.

use std::fmt::Write as _;

use anyhow::Result;
use pomerium_testing::{Environment, Route};

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
    let mut text = String::from("### Number of routes\n\n");
    let _ = writeln!(
        text,
        "- a public route, HTTP/1.1 over TLS, CPU per request: {few:.1} µs as the last of 10, {many:.1} µs as the \
         last of 10 000; {:.2} ×, goal at most 1.2 ×\n",
        many / few
    );
    Ok(text)
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
