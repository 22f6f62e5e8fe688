//! JSON with positions. `serde_json` judges the syntax; a small reader walks the same text for the positions.
//! A key that is written twice is an error, as in YAML.

use super::super::node::{Entry, Node, Value};
use super::{MAX_DEPTH, SyntaxError, at, duplicate};

/// Reads a document; an empty text is null.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(Node::new(Value::Null, at(1, 1)));
    }
    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    if let Err(error) = checked {
        return Err(SyntaxError::new(
            at(error.line(), error.column()),
            error.to_string(),
        ));
    }
    Reader {
        text,
        at: 0,
        line: 1,
        line_start: 0,
    }
    .value(0)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
}

impl Reader<'_> {
    fn skip(&mut self, extra: &[u8]) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if byte == b'\n' {
                self.line += 1;
                self.line_start = self.at + 1;
            } else if !byte.is_ascii_whitespace() && !extra.contains(&byte) {
                break;
            }
            self.at += 1;
        }
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn place(&self) -> crate::diagnostic::Place {
        at(self.line, self.text[self.line_start..self.at].chars().count() + 1)
    }

    /// The slice of one string or bare word; the text is known to be valid.
    fn token(&mut self) -> &str {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if self.peek() == b'"' {
            self.at += 1;
            while self.at < bytes.len() && bytes[self.at] != b'"' {
                self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
            }
            self.at += 1;
        } else {
            while self.at < bytes.len()
                && !matches!(bytes[self.at], b',' | b']' | b'}' | b':')
                && !bytes[self.at].is_ascii_whitespace()
            {
                self.at += 1;
            }
        }
        &self.text[start..self.at.min(bytes.len())]
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        self.skip(b"");
        let place = self.place();
        if depth > MAX_DEPTH {
            return Err(SyntaxError::new(
                place,
                format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        let value = match self.peek() {
            b'{' => self.map(depth)?,
            b'[' => self.list(depth)?,
            _ => scalar(self.token())
                .ok_or_else(|| SyntaxError::new(place, "this number does not fit in 64 bits"))?,
        };
        Ok(Node::new(value, place))
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip(b",");
            if self.peek() == b']' {
                self.at += 1;
                return Ok(Value::List(items));
            }
            items.push(self.value(depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            self.skip(b",");
            if self.peek() == b'}' {
                self.at += 1;
                return Ok(Value::Map(entries));
            }
            let place = self.place();
            let key: String = serde_json::from_str(self.token()).unwrap_or_default();
            if entries.iter().any(|entry| entry.key == key) {
                return Err(duplicate(&key, place));
            }
            self.skip(b":");
            entries.push(Entry {
                key,
                place,
                node: self.value(depth + 1)?,
            });
        }
    }
}

fn scalar(token: &str) -> Option<Value> {
    Some(match serde_json::from_str(token).ok()? {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value.into()),
            (None, Some(value)) => Value::Int(value.into()),
            _ => Value::Float(number.as_f64()?),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_positions_and_values() {
        let tree = parse("{\n  \"a\": [1, 2.5, \"x\\\"y\", null, true],\n  \"b\": {}\n}\n").unwrap();
        let Value::List(items) = &tree.get("a").unwrap().value else {
            panic!()
        };
        assert_eq!(items.len(), 5);
        assert_eq!(items[2].value, Value::Text("x\"y".into()));
        assert_eq!((items[0].place.line, items[0].place.column), (2, 9));
        assert_eq!(tree.get("b").unwrap().place.line, 3);
    }

    #[test]
    fn broken_text_names_its_line() {
        assert_eq!(parse("{\n\"a\": }\n").unwrap_err().place.line, 2);
    }

    #[test]
    fn duplicate_keys_are_refused() {
        assert_eq!(parse("{\"a\": 1,\n\"a\": 2}").unwrap_err().place.line, 2);
    }
}
