//! `pomerium policy replay`: an audit log judged again by another configuration. One line of the log is in memory at a
//! time, whatever its size.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use pomerium_authorize::audit::read::{Decision, Line, Lines};
use pomerium_authorize::audit::replay::{self, Replayed, came_to};
use serde_json::json;

use super::super::{print, print_error};
use super::args::ReplayArgs;
use super::logs;
use super::source::{Answering, Routes};

/// How many reasons not to judge are told apart.
const MOST_REASONS: usize = 200;
/// How many broken lines are named.
const MOST_BROKEN: u64 = 20;

#[derive(Default)]
struct Count {
    same: u64,
    differ: u64,
    cannot: u64,
    other: u64,
    broken: u64,
    missing: u64,
    /// By what is missing in the log.
    reasons: BTreeMap<String, u64>,
    /// By route, from what to what.
    changes: BTreeMap<String, u64>,
}

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let routes = Routes::load(&args.config, false)?;
    let mut count = Count::default();
    for log in &args.logs {
        let cannot = || format!("{} cannot be read", log.display());
        let source: Box<dyn BufRead> = if log == Path::new("-") {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(BufReader::with_capacity(
                1 << 16,
                File::open(log).with_context(cannot)?,
            ))
        };
        let mut lines = Lines::new(source);
        while let Some((number, line)) = lines.next_line().with_context(cannot)? {
            count.line(&format!("{}:{number}", log.display()), line, &routes, args);
        }
    }
    count.summary(args.json);
    Ok(super::code(count.is_proof()))
}

impl Count {
    fn line(&mut self, at: &str, line: Line, routes: &Routes, args: &ReplayArgs) {
        match line {
            Line::Other => self.other += 1,
            Line::Mark => {}
            Line::Gap(dropped) => self.missing += dropped,
            Line::Broken(problem) => {
                self.broken += 1;
                if self.broken <= MOST_BROKEN {
                    print_error(&format!("{at}: a broken record: {problem}"));
                }
            }
            Line::Decision(decision) => self.decision(&decision, routes, args),
        }
    }

    fn decision(&mut self, logged: &Decision, routes: &Routes, args: &ReplayArgs) {
        let answering = routes.answering(&logged.host, &logged.path);
        let (program, name) = match &answering {
            Answering::Route(route) => {
                let settings = &route.settings;
                let name = if settings.name.is_empty() {
                    &settings.from
                } else {
                    &settings.name
                };
                (Some(&settings.policy), &**name)
            }
            Answering::Nothing => (None, "no route"),
            Answering::Own => {
                self.cannot(&["a rule: the address is one of Pomerium's own pages now".to_owned()]);
                return;
            }
        };
        match replay::judge(logged, program) {
            Replayed::Same => self.same += 1,
            Replayed::CannotJudge(missing) => self.cannot(&missing),
            Replayed::Differs { decision, grounds } => {
                self.differ += 1;
                let (before, after) = (logged.came_to(), came_to(&decision));
                let change = format!("{name}: {} -> {after}", logs::plain(&before));
                bounded(&mut self.changes, change);
                if self.differ > args.limit {
                    return;
                }
                let why = format!("{}: {}", grounds.rule, grounds.criteria.join(", "));
                if args.json {
                    print(
                        &json!({
                            "time": logged.time,
                            "request_id": logged.request_id,
                            "user": logged.user.as_ref().map(|user| &user.id),
                            "method": logged.method,
                            "host": logged.host,
                            "path": logged.path,
                            "route": name,
                            "before": before,
                            "after": after,
                            "rule": grounds.rule,
                            "criteria": grounds.criteria,
                        })
                        .to_string(),
                    );
                } else {
                    let summary = logs::summary(logged);
                    let before = logs::plain(&before);
                    print(&format!("{} {summary}: {before} -> {after} ({why})", logged.time));
                }
            }
        }
    }

    fn cannot(&mut self, missing: &[String]) {
        self.cannot += 1;
        for what in missing {
            bounded(&mut self.reasons, logs::plain(what));
        }
    }

    /// Whether the log proves that nothing changes.
    fn is_proof(&self) -> bool {
        self.differ + self.cannot + self.broken + self.missing == 0 && self.same > 0
    }

    fn summary(&self, as_json: bool) {
        if as_json {
            print(
                &json!({
                    "same": self.same,
                    "differ": self.differ,
                    "cannot_judge": self.cannot,
                    "not_logged": self.reasons,
                    "changes": self.changes,
                    "broken": self.broken,
                    "missing_records": self.missing,
                    "other_lines": self.other,
                })
                .to_string(),
            );
            return;
        }
        for (change, count) in &self.changes {
            print(&format!("{count} × {change}"));
        }
        for (reason, count) in &self.reasons {
            print(&format!("{count} × cannot judge: the log does not hold {reason}"));
        }
        if self.broken > 0 {
            print(&format!("{} broken records were passed over", self.broken));
        }
        if self.missing > 0 {
            print(&format!("{} records are missing in the log", self.missing));
        }
        print(&format!(
            "{} same, {} differ, {} cannot be judged ({} other lines)",
            self.same, self.differ, self.cannot, self.other
        ));
    }
}

/// Counts a word; when there are too many different ones, under a common one.
fn bounded(counts: &mut BTreeMap<String, u64>, word: String) {
    if counts.len() >= MOST_REASONS && !counts.contains_key(&word) {
        *counts.entry("(others)".into()).or_default() += 1;
    } else {
        *counts.entry(word).or_default() += 1;
    }
}
