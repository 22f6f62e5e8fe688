//! YAML: parser events become a tree. Anchors, aliases and `<<` merges work; duplicate keys are errors; what
//! aliases copy is counted, so that a small file cannot grow into a huge tree.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Tag};

use super::super::node::{Entry, Node, Value};
use super::{FEW, MAX_DEPTH, SyntaxError, at, duplicate, scalar};
use crate::diagnostic::Place;

/// How many nodes all aliases together may copy.
const ALIAS_BUDGET: usize = 200_000;

/// Reads the first document; an empty text is null.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder {
        parser: events(text, options),
        anchors: HashMap::new(),
        copied: 0,
        last: at(1, 1),
    };
    loop {
        match builder.next()? {
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, place) => return Ok(Node::new(Value::Null, place)),
            (event, place) => return builder.node(event, place, 0),
        }
    }
}

fn events(text: &str, options: Options) -> Parser<'_, granit_parser::StrInput<'_>> {
    Parser::new_from_str_with_options(text, options)
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    last: Place,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.last = place(&span.start);
                Ok((event, self.last))
            }
            Some(Err(error)) => Err(SyntaxError::new(place(error.marker()), error.info())),
            None => Ok((Event::StreamEnd, self.last)),
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(SyntaxError::new(
                place,
                format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        let (node, anchor) = match event {
            Event::Alias(id) => return self.alias(id, place),
            Event::Scalar(text, style, anchor, tag) => (
                Node::new(scalar_value(&text, style, tag.as_deref(), place)?, place),
                anchor,
            ),
            Event::SequenceStart(_, anchor, _) => (self.list(place, depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(place, depth)?, anchor),
            _ => return Err(SyntaxError::new(place, "a value is missing here")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(SyntaxError::new(
                place,
                "this alias is used inside its own anchor",
            ));
        };
        self.copied += node.size();
        if self.copied > ALIAS_BUDGET {
            return Err(
                SyntaxError::new(place, format!("aliases copy more than {ALIAS_BUDGET} values"))
                    .help("write the parts out, or use fewer aliases of aliases"),
            );
        }
        Ok(node.clone())
    }

    fn list(&mut self, place: Place, depth: usize) -> Result<Node, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::new(Value::List(items), place)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, place: Place, depth: usize) -> Result<Node, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = HashSet::new();
        let mut merges = Vec::new();
        loop {
            let (event, key_place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            let key = key_text(self.node(event, key_place, depth + 1)?, key_place)?;
            let (event, value_place) = self.next()?;
            let node = self.node(event, value_place, depth + 1)?;
            if merge {
                merges.push(node);
            } else if is_new(&key, &entries, &mut seen) {
                entries.push(Entry {
                    key,
                    place: key_place,
                    node,
                });
            } else {
                return Err(duplicate(&key, key_place));
            }
        }
        for merge in merges {
            merge_into(&mut entries, merge)?;
        }
        Ok(Node::new(Value::Map(entries), place))
    }
}

/// Whether a key is none of the `entries`; `seen` holds them where they are many.
fn is_new(key: &str, entries: &[Entry], seen: &mut HashSet<String>) -> bool {
    match entries.len() {
        ..FEW => entries.iter().all(|entry| entry.key != key),
        FEW => {
            seen.extend(entries.iter().map(|entry| entry.key.clone()));
            seen.insert(key.to_owned())
        }
        _ => seen.insert(key.to_owned()),
    }
}

/// `<<`: keys that are not there yet.
fn merge_into(entries: &mut Vec<Entry>, merge: Node) -> Result<(), SyntaxError> {
    match merge.value {
        Value::Map(more) => {
            for entry in more {
                if !entries.iter().any(|have| have.key == entry.key) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Value::List(items) => items.into_iter().try_for_each(|item| merge_into(entries, item)),
        _ => Err(SyntaxError::new(
            merge.place,
            "`<<` takes a map or a list of maps",
        )),
    }
}

fn key_text(node: Node, place: Place) -> Result<String, SyntaxError> {
    Ok(match node.value {
        Value::Text(text) => text,
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Null => String::new(),
        Value::List(_) | Value::Map(_) => {
            return Err(
                SyntaxError::new(place, "a key must be a word, not a list or a map")
                    .help("quote values that begin with `{` or `[`"),
            );
        }
    })
}

fn scalar_value(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    place: Place,
) -> Result<Value, SyntaxError> {
    match tag
        .and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"))
        .as_deref()
    {
        Some("str") => return Ok(Value::Text(text.to_owned())),
        Some("binary") => {
            let packed: String = text.split_whitespace().collect();
            let bytes = crate::spec::base64_std(&packed).ok();
            return bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map(Value::Text)
                .ok_or_else(|| SyntaxError::new(place, "!!binary is not base64 of text"));
        }
        Some("int" | "float" | "bool" | "null") => return Ok(scalar::resolve(text)),
        _ => {}
    }
    Ok(match style {
        ScalarStyle::Plain => scalar::resolve(text),
        _ => Value::Text(text.to_owned()),
    })
}

fn place(marker: &Marker) -> Place {
    at(marker.line(), marker.col() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_and_merges() {
        let tree = parse("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n").unwrap();
        let b = tree.get("b").unwrap();
        assert_eq!(b.get("p").unwrap().value, Value::Int(1));
        assert_eq!(b.get("q").unwrap().value, Value::Int(3));
    }

    #[test]
    fn quoted_words_are_text() {
        let tree = parse("a: '443'\nb: 443\nc: \"true\"\nd: !!str 5\n").unwrap();
        assert_eq!(tree.get("a").unwrap().value, Value::Text("443".into()));
        assert_eq!(tree.get("b").unwrap().value, Value::Int(443));
        assert_eq!(tree.get("c").unwrap().value, Value::Text("true".into()));
        assert_eq!(tree.get("d").unwrap().value, Value::Text("5".into()));
    }

    #[test]
    fn duplicate_keys_are_refused_with_their_line() {
        assert_eq!(parse("a: 1\nb: 2\na: 3\n").unwrap_err().place.line, 3);
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let before = format!("*a{}", n - 1);
            text.push_str(&format!("a{n}: &a{n} [{}]\n", vec![before; 10].join(", ")));
        }
        assert!(parse(&text).unwrap_err().message.contains("aliases copy"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(150), "]".repeat(150))).is_err());
    }

    #[test]
    fn only_the_first_document_counts() {
        let tree = parse("a: 1\n---\nb: 2\n").unwrap();
        assert!(tree.get("b").is_none());
    }

    #[test]
    fn broken_text_names_its_line() {
        assert!(parse("a: 1\nb: [\n").unwrap_err().place.line >= 2);
    }
}
