//! What ten thousand routes keep in memory, stage by stage, and what a load of them takes: bytes and blocks asked of
//! the allocator, live and at the peak, and resident memory beside them.
//!
//! `cargo run -p pomerium-proxy --example many_routes`; the times count in a release build only. The figures that the
//! project promises come from `cargo xtask bench --part many`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a tool that prints, over numbers that are far from any limit"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use allocation_counter::{AllocationInfo, measure};
use pomerium_config::Loader;
use pomerium_proxy::Snapshot;

const MANY: usize = 10_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let top = "authenticate_service_url: https://auth.example.com\nidp_provider: local\n";
    // What the first load of a process makes once.
    let loader = Loader::new(Some(&file), &BTreeMap::new()).dry_run();
    std::fs::write(&file, configuration(top, 2, "one")).unwrap();
    let warm = loader.load().unwrap().settings;
    drop(Snapshot::build(&warm, None).unwrap());
    let loader = Loader::new(Some(&file), &BTreeMap::new()).dry_run();
    std::fs::write(&file, configuration(top, MANY, "one")).unwrap();
    let before = resident();
    let (settings, info) = counted(|| loader.load().unwrap().settings);
    report("load", info, before);
    let (first, info) = counted(|| Snapshot::build(&settings, None).unwrap());
    report("snapshot", info, before);
    std::fs::write(&file, configuration(top, MANY, "two")).unwrap();
    let (changed, info) = counted(|| loader.load().unwrap().settings);
    report("load again", info, before);
    let (second, info) = counted(|| Snapshot::build(&changed, Some(&first)).unwrap());
    report("snapshot again", info, before);
    let ((), info) = counted(|| drop((settings, first)));
    report("drop the first", info, before);
    let ((), info) = counted(|| drop(second));
    report("drop snapshot", info, before);
    let ((), info) = counted(|| drop(changed));
    report("drop settings", info, before);
    let ((), info) = counted(|| drop(loader));
    report("drop loader", info, before);
}

fn counted<T>(work: impl FnOnce() -> T) -> (T, (AllocationInfo, f64)) {
    let mut result = None;
    let begin = Instant::now();
    let info = measure(|| result = Some(work()));
    (result.unwrap(), (info, begin.elapsed().as_secs_f64() * 1e3))
}

fn report(name: &str, (info, ms): (AllocationInfo, f64), before: i64) {
    let each = |n: i64| n / MANY as i64;
    println!(
        "{name:>16}: {ms:7.1} ms; live {:6} B in {:4} blocks a route; peak {:6} B; allocated {:6} B in {:4}; resident {:6} B a route",
        each(info.bytes_current),
        info.count_current as f64 / MANY as f64,
        each(info.bytes_max as i64),
        each(info.bytes_total as i64),
        each(info.count_total as i64),
        each(resident() - before),
    );
}

fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kb: i64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb * 1024
}

fn configuration(top: &str, count: usize, answer: &str) -> String {
    let mut text = format!("{top}routes:\n");
    for index in 0..count - 1 {
        let matcher = match index % 100 {
            50 => format!("regex: ^/app{index}/[a-z0-9]+/edit$"),
            _ => format!("prefix: /app{index}/"),
        };
        let _ = write!(
            text,
            "- from: https://host{index}.example.com\n  name: application-{index}\n  to: http://10.0.{}.{}:8080\n  \
             {matcher}\n  policy:\n  - allow:\n      or:\n      - email:\n          is: user{index}@example.com\n      \
             - domain:\n          is: team{index}.example.com\n",
            index / 250,
            index % 250 + 1,
        );
    }
    let _ = write!(
        text,
        "- from: https://public.example.com\n  response: {{status: 200, body: {answer}}}\n  \
         allow_public_unauthenticated_access: true\n"
    );
    text
}
