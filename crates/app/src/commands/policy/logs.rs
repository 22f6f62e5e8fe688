//! Audit logs: where they are, and what a line of them says in short.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pomerium_authorize::audit::read::{Decision, Line, Lines};
use pomerium_config::settings::AuditTarget;

use super::source::Routes;
use crate::audit::numbered;

/// The decision about a request.
pub(super) fn find(id: &str, log: Option<&Path>, routes: Option<&Routes>) -> anyhow::Result<Decision> {
    let files = match (log, routes) {
        (Some(log), _) => vec![log.to_owned()],
        (None, Some(routes)) => files(routes),
        (None, None) => Vec::new(),
    };
    if files.is_empty() {
        bail!(
            "name the audit log with --log FILE, or a configuration with an `audit` file with --config FILE"
        );
    }
    for file in &files {
        if let Some(found) = find_in(id, file)? {
            return Ok(found);
        }
    }
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    bail!("no request {id:?} is in {}", names.join(", "))
}

/// The audit files of a configuration, newest first, as far as they are there.
fn files(routes: &Routes) -> Vec<PathBuf> {
    let targets = routes
        .settings
        .audit
        .iter()
        .filter_map(|sink| match &sink.target {
            AuditTarget::File(file) => Some(file),
            AuditTarget::Http(_) => None,
        });
    let all = targets.flat_map(|file| {
        let old = (1..=file.keep).map(|number| numbered(&file.path, number));
        std::iter::once(file.path.clone()).chain(old)
    });
    all.filter(|path| path.exists()).collect()
}

fn find_in(id: &str, file: &Path) -> anyhow::Result<Option<Decision>> {
    let cannot = || format!("{} cannot be read", file.display());
    let mut lines = Lines::new(BufReader::new(File::open(file).with_context(cannot)?));
    while let Some((_, line)) = lines.next_line().with_context(cannot)? {
        if let Line::Decision(decision) = line
            && decision.request_id == id
        {
            return Ok(Some(*decision));
        }
    }
    Ok(None)
}

/// Request id, who and what, on one line.
pub(super) fn summary(decision: &Decision) -> String {
    let who = match &decision.user {
        None => "nobody",
        Some(user) if user.email.is_empty() => &user.id,
        Some(user) => &user.email,
    };
    format!(
        "{} {}: {} {}{}",
        plain(&decision.request_id),
        plain(who),
        plain(&decision.method),
        plain(&decision.host),
        plain(&decision.path)
    )
}

/// A text of a log, in which nothing can end the line or move a cursor.
pub(super) fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}
