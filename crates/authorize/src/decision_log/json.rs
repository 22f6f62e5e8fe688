//! Writes one JSON object on one line.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::text;

/// A line under construction in somebody's buffer.
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Line<'a> {
    pub(super) fn start(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub(super) fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// A key of ours, which needs no escapes.
    fn key(&mut self, key: &'static str) {
        debug_assert!(text::is_plain(key.as_bytes()));
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }

    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        string(self.out, value);
    }

    /// A text under a key that is not ours: the name of a header.
    pub(super) fn foreign(&mut self, key: &str, value: &str) {
        self.foreign_key(key);
        string(self.out, value);
    }

    fn foreign_key(&mut self, key: &str) {
        self.comma();
        string(self.out, key);
        self.out.push(b':');
    }

    pub(super) fn optional(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        text::number(self.out, value);
    }

    pub(super) fn ip(&mut self, key: &'static str, value: IpAddr) {
        self.key(key);
        self.out.push(b'"');
        text::ip(self.out, value);
        self.out.push(b'"');
    }

    pub(super) fn time(&mut self, key: &'static str, value: Timestamp) {
        self.key(key);
        self.out.push(b'"');
        text::time(self.out, value);
        self.out.push(b'"');
    }

    pub(super) fn list<'v>(&mut self, key: &'static str, values: impl Iterator<Item = &'v str>) {
        self.key(key);
        self.out.push(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            string(self.out, value);
        }
        self.out.push(b']');
    }

    pub(super) fn json(&mut self, key: &'static str, value: &serde_json::Value) {
        self.key(key);
        json(self.out, value);
    }

    pub(super) fn open(&mut self, key: &'static str) {
        self.key(key);
        self.out.push(b'{');
        self.first = true;
    }

    pub(super) fn close(&mut self) {
        self.out.push(b'}');
        self.first = false;
    }
}

fn json(out: &mut Vec<u8>, value: &serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => string(out, text),
        Value::Array(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json(out, value);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut line = Line::start(out);
            for (key, value) in fields {
                line.foreign_key(key);
                json(line.out, value);
            }
            line.out.push(b'}');
        }
    }
}

/// A JSON string in which nothing can end the line, move a cursor or turn the reading direction.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text::is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            escape(&mut escaped, c);
        }
        out.extend_from_slice(escaped.as_bytes());
    }
    out.push(b'"');
}

fn escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if text::is_mark(c) => {
            // Writing to a String cannot fail; all of these are in the first plane.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}
