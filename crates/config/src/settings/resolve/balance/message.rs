//! Reading a message in the JSON form of protocol buffers out of a tree, every mistake at its own line: names
//! in snake case, camel case, or camel case that the file reader has lowered; durations as text with `s`.

use std::cell::RefCell;
use std::time::Duration;

use crate::diagnostic::Stage;
use crate::spec::Sink;
use crate::spec::duration;
use crate::spec::keys;
use crate::spec::node::{Entry, Node, Value};

/// One message. Fields that are read are remembered; what is left at the end was not understood.
pub(super) struct Message<'a> {
    node: &'a Node,
    path: String,
    sink: &'a RefCell<Sink>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Message<'a> {
    /// The message in `node`, which must be a map.
    pub fn new(node: &'a Node, path: String, sink: &'a RefCell<Sink>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("expected a map of options, found {}", node.kind());
            sink.borrow_mut().error(node.place, path, message, "");
            return None;
        }
        Some(Self {
            node,
            path,
            sink,
            known: RefCell::default(),
        })
    }

    fn entries(&self) -> &'a [Entry] {
        match &self.node.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a field, if it is set.
    pub fn field(&self, name: &'static str) -> Option<&'a Node> {
        self.known.borrow_mut().push(name);
        let wanted = plain(name);
        self.entries()
            .iter()
            .find(|entry| plain(&entry.key) == wanted)
            .map(|entry| &entry.node)
            .filter(|node| !node.is_null())
    }

    /// The key path of a field.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// Reports a mistake in a field, or in the whole message where the field is missing.
    pub fn error(&self, name: &'static str, stage: Stage, message: impl Into<String>, help: &str) {
        let place = self.field(name).map_or(self.node.place, |node| node.place);
        let mut sink = self.sink.borrow_mut();
        sink.error_at(stage, place, self.key(name), message, help);
    }

    /// Says that a field cannot be honoured.
    pub fn refuse(&self, name: &'static str, why: &str, help: &str) {
        let place = self.field(name).map_or(self.node.place, |node| node.place);
        let mut sink = self.sink.borrow_mut();
        sink.refuse(place, self.key(name), why, help);
    }

    fn read<T>(
        &self,
        name: &'static str,
        help: &str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.field(name)?;
        read(node)
            .map_err(|message| self.error(name, Stage::Load, message, help))
            .ok()
    }

    /// A duration that is not negative.
    pub fn duration(&self, name: &'static str) -> Option<Duration> {
        self.read(name, "write seconds, for instance 90s or 0.5s", |node| {
            let Value::Text(text) = &node.value else {
                return Err(expected("a duration such as 5s", node));
            };
            u64::try_from(seconds(text)?)
                .map(Duration::from_nanos)
                .map_err(|_| format!("a duration must not be negative: \"{text}\""))
        })
    }

    /// A whole number up to `max`.
    pub fn number(&self, name: &'static str, max: u32) -> Option<u32> {
        self.read(name, "write a whole number", |node| {
            let number = whole(node).ok_or_else(|| expected("a whole number", node))?;
            u32::try_from(number)
                .ok()
                .filter(|number| *number <= max)
                .ok_or_else(|| format!("{number} is out of range, expected 0 to {max}"))
        })
    }

    /// A switch.
    pub fn switch(&self, name: &'static str) -> Option<bool> {
        self.read(name, "write true or false", |node| match &node.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(expected("true or false", node)),
        })
    }

    /// Text; empty when it is not set.
    pub fn text(&self, name: &'static str) -> String {
        self.read(name, "", text).unwrap_or_default()
    }

    /// A list, item by item; a mistake in one is reported and the item left out.
    pub fn list<T>(
        &self,
        name: &'static str,
        help: &str,
        item: impl Fn(&Node) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(node) = self.field(name) else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            self.error(name, Stage::Load, expected("a list", node), help);
            return Vec::new();
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            match item(node) {
                Ok(value) => list.push(value),
                Err(message) => {
                    let key = format!("{}[{index}]", self.key(name));
                    self.sink.borrow_mut().error(node.place, key, message, help);
                }
            }
        }
        list
    }

    /// A nested message.
    pub fn message(&self, name: &'static str) -> Option<Message<'a>> {
        Message::new(self.field(name)?, self.key(name), self.sink)
    }

    /// Warns of everything that was not read: the original drops it without a word, a misspelling included.
    pub fn finish(self) {
        let known = self.known.borrow();
        for entry in self.entries().iter().filter(|entry| !entry.node.is_null()) {
            if known.iter().any(|name| plain(name) == plain(&entry.key)) {
                continue;
            }
            let help = keys::nearest(&entry.key, &known)
                .map_or_else(|| "remove it".into(), |near| format!("did you mean `{near}`?"));
            let mut sink = self.sink.borrow_mut();
            sink.warn(
                entry.place,
                self.key(&entry.key),
                "unknown option: it is ignored",
                help,
            );
        }
    }
}

/// Nanoseconds of a duration in the JSON form of protocol buffers, which knows seconds alone: `5s`, `0.5s`.
fn seconds(text: &str) -> Result<i64, String> {
    let number = text.strip_suffix('s').unwrap_or_default();
    let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match duration::parse(text) {
        Ok(nanos) if is_number && !digits.is_empty() => Ok(nanos),
        _ => Err(format!("invalid google.protobuf.Duration value \"{text}\"")),
    }
}

/// `http_health_check`, `httpHealthCheck` and `httphealthcheck` are the same.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| *c != '_')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Whole numbers may be text in this form.
pub(super) fn whole(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Int(number) => i64::try_from(*number).ok(),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "it has no fraction and is in range"
        )]
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => Some(*number as i64),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

pub(super) fn text(node: &Node) -> Result<String, String> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err(expected("text", node)),
    }
}

pub(super) fn expected(what: &str, node: &Node) -> String {
    match &node.value {
        Value::Text(text) if text.chars().count() <= 40 => format!("expected {what}, found \"{text}\""),
        Value::Int(number) => format!("expected {what}, found {number}"),
        Value::Bool(value) => format!("expected {what}, found {value}"),
        _ => format!("expected {what}, found {}", node.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_case() {
        for name in ["http_health_check", "httpHealthCheck", "httphealthcheck"] {
            assert_eq!(plain(name), "httphealthcheck");
        }
    }

    #[test]
    fn durations_are_seconds() {
        for (text, nanos) in [
            ("5s", 5_000_000_000),
            ("90s", 90_000_000_000),
            ("0.5s", 500_000_000),
            ("0s", 0),
            ("-5s", -5_000_000_000),
        ] {
            assert_eq!(seconds(text), Ok(nanos), "{text}");
        }
        for text in [
            "1m", "1m5s", "500ms", "1h", "5", "0", "s", "", "-s", "1..5s", "5 s", "5ss",
        ] {
            let message = format!("invalid google.protobuf.Duration value \"{text}\"");
            assert_eq!(seconds(text), Err(message));
        }
    }
}
