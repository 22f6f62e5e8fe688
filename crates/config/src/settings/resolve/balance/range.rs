//! Half-open ranges of statuses, `{start, end}`.

use super::message::{expected, whole};
use crate::spec::node::{Node, Value};

/// A range within 100 to 600.
pub(super) fn statuses(node: &Node) -> Result<(u16, u16), String> {
    if !matches!(node.value, Value::Map(_)) {
        return Err(expected("{start, end}", node));
    }
    let number = |name: &str| match node.get(name) {
        None => Ok(0),
        Some(node) => whole(node).ok_or_else(|| format!("{name}: {}", expected("a whole number", node))),
    };
    let (start, end) = (number("start")?, number("end")?);
    let in_range = |number: i64| u16::try_from(number).ok().filter(|n| (100..=600).contains(n));
    match (in_range(start), in_range(end)) {
        (Some(start), Some(end)) if start < end => Ok((start, end)),
        _ => Err(format!(
            "invalid http status range: {start} to {end}; the end is not part of it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_not_part() {
        let range = |text: &str| statuses(&crate::spec::format::parse_yaml(text).unwrap());
        assert_eq!(range("{start: 200, end: 300}"), Ok((200, 300)));
        assert_eq!(range("{start: '200', end: 600}"), Ok((200, 600)));
        for bad in [
            "{start: 200}",
            "{start: 300, end: 200}",
            "{start: 0, end: 200}",
            "5",
            "{start: a, end: 2}",
        ] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
