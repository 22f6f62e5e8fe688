//! Results as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::Size;
use crate::compare::Row;
use crate::load::Protocol;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// The table of the comparison.
pub fn comparison(rows: &[(&'static str, Row)], size: Size) -> String {
    let mut text = String::from("### CPU per request and memory\n\n");
    let _ = writeln!(
        text,
        "{} requests a run, median of {} interleaved runs.\n",
        size.requests, size.runs
    );
    text.push_str("| proxy | HTTP/1.1 TLS, µs | HTTP/2 TLS, µs | resident, MB |\n|---|---:|---:|---:|\n");
    for (name, row) in rows {
        let [one, two] = Protocol::ALL.map(|protocol| row.cpu(protocol));
        let _ = writeln!(text, "| {name} | {one:.1} | {two:.1} | {:.1} |", row.resident());
    }
    text.push('\n');
    text.push_str(&ratios(rows));
    text
}

/// How Pomerium stands to the two it is measured against.
fn ratios(rows: &[(&'static str, Row)]) -> String {
    let row = |part: &str| {
        rows.iter()
            .find(|(name, _)| name.contains(part))
            .map(|(_, row)| row)
    };
    let (Some(ours), mut text) = (row("Pomerium"), String::new()) else {
        return String::new();
    };
    for (part, against, goal) in [
        ("nginx", "nginx's plain proxying", "below 1, at most 1.2"),
        ("ext_authz", "Envoy with ext_authz", "at most 0.17"),
        ("authorizer", "Envoy with its authorizer", "none"),
    ] {
        if let Some(theirs) = row(part) {
            let [one, two] = Protocol::ALL.map(|protocol| ours.cpu(protocol) / theirs.cpu(protocol));
            let _ = writeln!(
                text,
                "- against {against}: {one:.2} × (HTTP/1.1), {two:.2} × (HTTP/2); goal {goal} ×"
            );
        }
    }
    text.push('\n');
    text
}

/// Replaces the measured section of a document, or appends one.
pub fn write(file: &Path, text: &str) -> Result<()> {
    let before = std::fs::read_to_string(file).unwrap_or_else(|_| "# Performance\n\n".into());
    std::fs::write(file, replaced(&before, text)).with_context(|| format!("cannot write {}", file.display()))
}

fn replaced(document: &str, text: &str) -> String {
    let section = format!("{BEGIN}\n\n{}\n\n{END}", text.trim());
    match (document.find(BEGIN), document.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{section}{}", &document[..begin], &document[end + END.len()..])
        }
        _ => format!("{}\n\n{section}\n", document.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_section_changes() {
        let first = replaced("# Title\n\nText.\n", "one");
        assert_eq!(first, format!("# Title\n\nText.\n\n{BEGIN}\n\none\n\n{END}\n"));
        assert_eq!(replaced(&first, "two\n"), first.replace("one", "two"));
    }
}
