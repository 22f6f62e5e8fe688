//! `KEY=VALUE` files: `#` comments, `export` prefixes, single and double quotes.

use super::super::node::{Entry, Node, Value};
use super::{SyntaxError, at};

/// Reads a file; every value is text.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let place = at(index + 1, line.len() - line.trim_start().len() + 1);
        let assignment = trimmed.strip_prefix("export ").unwrap_or(trimmed);
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(SyntaxError::new(place, "a line must be KEY=VALUE"));
        };
        let node = Node::new(Value::Text(unquote(value.trim())), place);
        entries.push(Entry {
            key: key.trim().to_owned(),
            place,
            node,
        });
    }
    Ok(Node::new(Value::Map(entries), at(1, 1)))
}

fn unquote(text: &str) -> String {
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.to_owned();
    }
    if let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return inner
            .replace("\\n", "\n")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\");
    }
    match text.find(" #") {
        Some(at) => text[..at].trim_end().to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_forms() {
        let tree = parse("# c\nexport ADDRESS=:80 # x\nA='b # c'\nC=\"d\\ne\"\n").unwrap();
        assert_eq!(tree.get("address").unwrap().value, Value::Text(":80".into()));
        assert_eq!(tree.get("a").unwrap().value, Value::Text("b # c".into()));
        assert_eq!(tree.get("c").unwrap().value, Value::Text("d\ne".into()));
    }

    #[test]
    fn a_line_without_equals_is_refused() {
        assert_eq!(parse("A=1\noops\n").unwrap_err().place.line, 2);
    }
}
