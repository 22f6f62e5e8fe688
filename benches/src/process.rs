//! What a process and its children have used, from /proc.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time of one tick. Linux reports in 1/100 s to user space on every architecture we build for.
const TICK: Duration = Duration::from_millis(10);

/// CPU time that a process and its living children have used, user and system.
pub fn cpu(root: u32) -> Result<Duration> {
    let ticks: u64 = family(root)?.into_iter().filter_map(ticks).sum();
    Ok(TICK * u32::try_from(ticks)?)
}

/// Resident memory of a process and its living children, in bytes. Pages they share count once for
/// each, except that children of one program count in proportion (`Pss`).
pub fn resident(root: u32) -> Result<u64> {
    let family = family(root)?;
    let field = if family.len() == 1 { "Rss:" } else { "Pss:" };
    Ok(family
        .into_iter()
        .filter_map(|process| memory(process, field))
        .sum())
}

/// What a process keeps in memory of its own, in bytes: resident pages that are no part of a file. Those of the
/// program's file come as its code is used, and are the kernel's to take back.
pub fn own(process: u32) -> Result<u64> {
    status(process, "RssAnon:").context("the process has ended, or this kernel does not tell RssAnon")
}

/// Begins a new measure of [`peak`].
pub fn forget_peak(root: u32) -> Result<()> {
    for process in family(root)? {
        fs::write(format!("/proc/{process}/clear_refs"), "5")
            .context("the peak of memory cannot be reset")?;
    }
    Ok(())
}

/// The most resident memory of a process and its living children since [`forget_peak`], in bytes, pages they
/// share counted once for each.
pub fn peak(root: u32) -> Result<u64> {
    Ok(family(root)?
        .into_iter()
        .filter_map(|process| status(process, "VmHWM:"))
        .sum())
}

/// A field of /proc/<pid>/status, in bytes.
fn status(process: u32, field: &str) -> Option<u64> {
    kilobytes(
        &fs::read_to_string(format!("/proc/{process}/status")).ok()?,
        field,
    )
}

fn family(root: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").context("/proc: this benchmark needs Linux")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = stat(process).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(process) = family.get(next) {
        family.extend(children.remove(process).unwrap_or_default());
        next += 1;
    }
    Ok(family)
}

/// The fields of /proc/<pid>/stat behind the name: state, parent, …
fn stat(process: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn ticks(process: u32) -> Option<u64> {
    let fields = stat(process)?;
    // utime and stime are fields 14 and 15 of the whole line; two stand before the name's end.
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn memory(process: u32, field: &str) -> Option<u64> {
    kilobytes(
        &fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?,
        field,
    )
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_knows_its_parent() {
        let me = std::process::id();
        assert!(resident(me).unwrap() > 100_000);
        assert!((1..=resident(me).unwrap()).contains(&own(me).unwrap()));
        assert!(cpu(me).is_ok());
        let parent: u32 = stat(me).unwrap()[1].parse().unwrap();
        assert!(family(parent).unwrap().contains(&me));
    }
}
