//! Trees as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::comments::Comment;
use crate::spec::format::parse_yaml;
use crate::spec::node::{Node, Value};

/// JSON, two spaces a level, in the order of the tree.
pub(super) fn json(tree: &Node) -> String {
    let mut out = String::new();
    write_json(&mut out, tree, 0);
    out.push('\n');
    out
}

fn write_json(out: &mut String, node: &Node, depth: usize) {
    let (open, close, count) = match &node.value {
        Value::List(items) => ('[', ']', items.len()),
        Value::Map(entries) => ('{', '}', entries.len()),
        _ => {
            out.push_str(&node.to_json().to_string());
            return;
        }
    };
    out.push(open);
    for index in 0..count {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\n{}", "  ".repeat(depth + 1));
        match &node.value {
            Value::Map(entries) => {
                let _ = write!(out, "{}: ", quoted(&entries[index].key));
                write_json(out, &entries[index].node, depth + 1);
            }
            Value::List(items) => write_json(out, &items[index], depth + 1),
            _ => {}
        }
    }
    if count > 0 {
        let _ = write!(out, "\n{}", "  ".repeat(depth));
    }
    out.push(close);
}

/// YAML with comments.
pub(super) fn yaml(tree: &Node, comments: &[Comment]) -> String {
    let mut lines = BTreeSet::new();
    collect_lines(tree, &mut lines);
    let mut writer = Writer::new(&lines, comments);
    match &tree.value {
        Value::List(items) if !items.is_empty() => writer.block(tree, 0),
        Value::Map(entries) if !entries.is_empty() => writer.block(tree, 0),
        _ => {
            writer.leading(0, 0);
            let text = scalar(tree);
            writer.out.push_str(&text);
            writer.end_line();
        }
    }
    writer.rest();
    writer.out
}

/// The lines that something of the tree stands on.
fn collect_lines(node: &Node, lines: &mut BTreeSet<u32>) {
    match &node.value {
        Value::List(items) => {
            for item in items {
                lines.insert(item.place.line);
                collect_lines(item, lines);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                lines.insert(entry.place.line);
                collect_lines(&entry.node, lines);
            }
        }
        _ => {}
    }
}

struct Writer {
    out: String,
    /// Comments of their own lines, by the line of what they stand before.
    before: BTreeMap<u32, Vec<String>>,
    /// Comments behind something, by its line.
    behind: BTreeMap<u32, Vec<String>>,
    /// Those of the line that is being written.
    pending: Vec<String>,
}

impl Writer {
    fn new(lines: &BTreeSet<u32>, comments: &[Comment]) -> Self {
        let mut writer = Self {
            out: String::new(),
            before: BTreeMap::new(),
            behind: BTreeMap::new(),
            pending: Vec::new(),
        };
        for comment in comments {
            if comment.trailing && lines.contains(&comment.line) {
                let at = writer.behind.entry(comment.line).or_default();
                at.push(comment.text.clone());
                continue;
            }
            let next = lines.range(comment.line..).find(|line| **line > comment.line);
            let at = writer
                .before
                .entry(next.copied().unwrap_or(u32::MAX))
                .or_default();
            at.push(comment.text.clone());
        }
        writer
    }

    /// The comments before what stands on `line`.
    fn leading(&mut self, line: u32, indent: usize) {
        for text in self.before.remove(&line).unwrap_or_default() {
            self.comment_line(&text, indent);
        }
        self.pending.extend(self.behind.remove(&line).unwrap_or_default());
    }

    fn comment_line(&mut self, text: &str, indent: usize) {
        let space = if text.is_empty() { "" } else { " " };
        let _ = writeln!(self.out, "{}#{space}{text}", " ".repeat(indent));
    }

    fn end_line(&mut self) {
        for text in std::mem::take(&mut self.pending) {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(self.out, " #{space}{text}");
        }
        self.out.push('\n');
    }

    /// What is left: comments behind everything.
    fn rest(&mut self) {
        let left: Vec<String> = std::mem::take(&mut self.before).into_values().flatten().collect();
        for text in left {
            self.comment_line(&text, 0);
        }
    }

    /// A list or map with something in it, each part on lines of its own.
    fn block(&mut self, node: &Node, indent: usize) {
        match &node.value {
            Value::List(items) => {
                for item in items {
                    self.leading(item.place.line, indent);
                    self.item(item, indent);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    self.leading(entry.place.line, indent);
                    let _ = write!(self.out, "{}", " ".repeat(indent));
                    self.entry(&entry.key, &entry.node, indent);
                }
            }
            _ => {}
        }
    }

    fn item(&mut self, item: &Node, indent: usize) {
        let _ = write!(self.out, "{}-", " ".repeat(indent));
        match &item.value {
            Value::Map(entries) if !entries.is_empty() => {
                for (index, entry) in entries.iter().enumerate() {
                    if index == 0 {
                        self.pending
                            .extend(self.behind.remove(&entry.place.line).unwrap_or_default());
                        self.out.push(' ');
                    } else {
                        self.leading(entry.place.line, indent + 2);
                        let _ = write!(self.out, "{}", " ".repeat(indent + 2));
                    }
                    self.entry(&entry.key, &entry.node, indent + 2);
                }
            }
            Value::List(items) if !items.is_empty() => {
                self.end_line();
                self.block(item, indent + 2);
            }
            _ => {
                let _ = write!(self.out, " {}", scalar(item));
                self.end_line();
            }
        }
    }

    /// A key and its value; the cursor stands where the key begins.
    fn entry(&mut self, key: &str, node: &Node, indent: usize) {
        let _ = write!(self.out, "{}:", key_text(key));
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                self.end_line();
                self.block(node, indent + 2);
            }
            Value::Map(entries) if !entries.is_empty() => {
                self.end_line();
                self.block(node, indent + 2);
            }
            Value::Text(text) if is_block(text) => {
                self.out.push_str(" |");
                self.end_line();
                for line in text.lines() {
                    let pad = if line.is_empty() { 0 } else { indent + 2 };
                    let _ = writeln!(self.out, "{}{line}", " ".repeat(pad));
                }
            }
            _ => {
                let _ = write!(self.out, " {}", scalar(node));
                self.end_line();
            }
        }
    }
}

/// Whether a text can stand as a block of lines.
fn is_block(text: &str) -> bool {
    let lines = text.strip_suffix('\n');
    lines.is_some_and(|lines| {
        lines.contains('\n')
            && !lines.ends_with('\n')
            && !lines.starts_with([' ', '\n'])
            && text.chars().all(|c| c == '\n' || !c.is_control())
            && text.is_ascii()
    })
}

fn scalar(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".into(),
        Value::List(_) => "[]".into(),
        Value::Map(_) => "{}".into(),
        Value::Float(number) if number.fract() == 0.0 && number.is_finite() => format!("{number:.1}"),
        Value::Text(text) if is_plain(text) => text.clone(),
        Value::Text(text) => quoted(text),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => node.to_json().to_string(),
    }
}

/// Whether a text reads as itself without quotes.
fn is_plain(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "_@./+-:".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/')
        && text.chars().all(word)
        && !text.ends_with(':')
        && parse_yaml(text).is_ok_and(|node| node.value == Value::Text(text.to_owned()))
}

fn key_text(key: &str) -> String {
    if is_plain(key) && !key.contains(':') {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// In double quotes, in which nothing but what YAML and JSON both know stands behind a backslash.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
