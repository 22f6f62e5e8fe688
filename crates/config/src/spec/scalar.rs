//! The loose typing of single values (spec config.md 4.1): numbers as text, text as numbers, and so on.

use super::duration;
use super::format::integer;
use super::node::{Node, Value};

fn wrong(expected: &str, node: &Node) -> String {
    let found = match &node.value {
        Value::Text(text) => format!("\"{}\"", shorten(text)),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        _ => node.kind().to_owned(),
    };
    format!("expected {expected}, found {found}")
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(40).collect::<String>())
    }
}

/// Boolean.
pub(super) fn boolean(node: &Node) -> Result<bool, String> {
    let bad = || wrong("true or false", node);
    match &node.value {
        Value::Bool(value) => Ok(*value),
        Value::Int(number) => Ok(*number != 0),
        Value::Float(number) => Ok(*number != 0.0),
        Value::Text(text) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(bad()),
        },
        _ => Err(bad()),
    }
}

/// Text.
pub(super) fn text(node: &Node) -> Result<String, String> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(if *value { "1" } else { "0" }.to_owned()),
        Value::Int(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        _ => Err(wrong("text", node)),
    }
}

/// Whole number within bounds.
pub(super) fn number(node: &Node, min: i64, max: i64) -> Result<i64, String> {
    let value = match &node.value {
        Value::Int(number) => *number,
        Value::Bool(value) => i128::from(*value),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a fraction is cut off; the range is checked below"
        )]
        Value::Float(number) if number.is_finite() => number.trunc() as i128,
        Value::Text(text) if text.is_empty() => 0,
        Value::Text(text) => integer(text).ok_or_else(|| wrong("a whole number", node))?,
        _ => return Err(wrong("a whole number", node)),
    };
    i64::try_from(value)
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("{value} is out of range, expected {min} to {max}"))
}

/// Number.
pub(super) fn float(node: &Node) -> Result<f64, String> {
    let value = match &node.value {
        #[allow(
            clippy::cast_precision_loss,
            reason = "ratios and rates; nothing depends on the last digit"
        )]
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Text(text) if text.is_empty() => 0.0,
        Value::Text(text) => text.parse().map_err(|_| wrong("a number", node))?,
        _ => return Err(wrong("a number", node)),
    };
    if value.is_finite() {
        Ok(value)
    } else {
        Err(wrong("a number", node))
    }
}

/// Nanoseconds: text with units, or a bare number of nanoseconds.
pub(super) fn nanoseconds(node: &Node) -> Result<i64, String> {
    match &node.value {
        Value::Text(text) => duration::parse(text),
        Value::Int(_) | Value::Float(_) => number(node, i64::MIN, i64::MAX),
        _ => Err(wrong("a duration", node)),
    }
}

/// Whole milliseconds, as nanoseconds; negative ones count as zero.
pub(super) fn milliseconds(node: &Node) -> Result<i64, String> {
    let bad = || wrong("a whole number of milliseconds", node);
    let millis = match &node.value {
        Value::Int(number) => i64::try_from(*number).map_err(|_| bad())?,
        Value::Text(text) => text.parse::<i64>().map_err(|_| bad())?,
        _ => return Err(bad()),
    };
    Ok(millis.max(0).saturating_mul(1_000_000))
}

/// List of texts: a list, comma separated text (not trimmed), or one scalar.
pub(super) fn texts(node: &Node) -> Result<Vec<String>, String> {
    match &node.value {
        Value::List(items) => items.iter().filter(|item| !item.is_null()).map(text).collect(),
        Value::Text(value) if value.is_empty() => Ok(Vec::new()),
        Value::Text(value) => Ok(value.split(',').map(str::to_owned).collect()),
        Value::Map(_) => Err(wrong("a list", node)),
        _ => Ok(vec![text(node)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;

    fn node(value: Value) -> Node {
        Node::new(value, Place::default())
    }

    fn words(text: &str) -> Node {
        node(Value::Text(text.into()))
    }

    #[test]
    fn booleans() {
        assert_eq!(boolean(&words("T")), Ok(true));
        assert_eq!(boolean(&words("")), Ok(false));
        assert_eq!(boolean(&node(Value::Int(2))), Ok(true));
        assert!(boolean(&words("dog")).is_err());
        assert!(boolean(&words("yes")).is_err());
    }

    #[test]
    fn numbers() {
        assert_eq!(number(&words("0x10"), 0, 100), Ok(16));
        assert_eq!(number(&words(""), 0, 100), Ok(0));
        assert_eq!(number(&node(Value::Float(3.9)), 0, 100), Ok(3));
        assert!(number(&node(Value::Int(-1)), 0, 100).is_err());
        assert!(number(&words("x"), 0, 100).is_err());
    }

    #[test]
    fn lists() {
        assert_eq!(texts(&words("a, b")).unwrap(), ["a", " b"]);
        assert!(texts(&words("")).unwrap().is_empty());
        assert_eq!(texts(&node(Value::Int(5))).unwrap(), ["5"]);
        assert!(texts(&node(Value::Map(Vec::new()))).is_err());
    }

    #[test]
    fn milliseconds_take_whole_numbers_only() {
        assert_eq!(milliseconds(&words("250")), Ok(250_000_000));
        assert_eq!(milliseconds(&node(Value::Int(-5))), Ok(0));
        assert!(milliseconds(&words("5s")).is_err());
    }

    #[test]
    fn text_of_other_scalars() {
        assert_eq!(text(&node(Value::Bool(true))).unwrap(), "1");
        assert_eq!(text(&node(Value::Float(1.5))).unwrap(), "1.5");
        assert!(text(&node(Value::List(Vec::new()))).is_err());
    }
}
