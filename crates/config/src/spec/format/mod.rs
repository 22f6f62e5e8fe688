//! Reading a file into a tree with positions: one file per format. No meaning is given to keys here.

use std::path::Path;

use super::node::{Node, Value};
use crate::diagnostic::{Origin, Place};

mod dotenv;
mod json;
mod scalar;
mod toml;
mod yaml;

pub use json::parse as parse_json;
pub(crate) use scalar::integer;
pub use yaml::parse as parse_yaml;

/// Largest config file, bytes.
pub const MAX_FILE: u64 = 16 << 20;
/// Deepest nesting of any format.
pub(crate) const MAX_DEPTH: usize = 100;

/// Up to so many keys each is compared with each; hashing them takes longer.
pub(crate) const FEW: usize = 16;

/// A file that cannot be read into a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
    /// Remedy, may be empty.
    pub help: String,
}

impl SyntaxError {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
            help: String::new(),
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// A position in the file.
pub(crate) fn at(line: usize, column: usize) -> Place {
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        origin: Origin::File,
        line: clamp(line),
        column: clamp(column),
    }
}

/// Line and column (from 1) of a byte offset.
pub(crate) fn at_offset(text: &str, offset: usize) -> Place {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    at(line, column)
}

/// Reads text by the extension of its file (spec config.md 3); the top level is a map with lower-case keys.
pub fn parse_file(path: &Path, text: &str) -> Result<Node, SyntaxError> {
    let extension = path
        .extension()
        .and_then(|ext| ext.to_str())
        .unwrap_or_default()
        .to_lowercase();
    let tree = match extension.as_str() {
        "yaml" | "yml" => yaml::parse(text)?,
        "json" => json::parse(text)?,
        "toml" => toml::parse(text)?,
        "env" | "dotenv" => dotenv::parse(text)?,
        other => {
            return Err(
                SyntaxError::new(Place::default(), format!("Unsupported Config Type \"{other}\""))
                    .help("name the file .yaml, .json, .toml or .env"),
            );
        }
    };
    let mut tree = match tree.value {
        Value::Null => Node::new(Value::Map(Vec::new()), tree.place),
        Value::Map(_) => tree,
        _ => {
            return Err(SyntaxError::new(
                tree.place,
                format!("the top level must be a map of options, it is {}", tree.kind()),
            )
            .help("write `key: value` lines, for instance `address: \":443\"`"));
        }
    };
    lower_keys(&mut tree)?;
    Ok(tree)
}

/// Lower-cases every map key, at every depth; two keys that differ only in case are a mistake.
fn lower_keys(node: &mut Node) -> Result<(), SyntaxError> {
    match &mut node.value {
        Value::List(items) => items.iter_mut().try_for_each(lower_keys),
        Value::Map(entries) => {
            let mut seen = std::collections::HashSet::new();
            let many = entries.len() > FEW;
            for at in 0..entries.len() {
                let (before, rest) = entries.split_at_mut(at);
                let entry = &mut rest[0];
                let lowered = entry.key.to_lowercase();
                let twice = match many {
                    true => !seen.insert(lowered.clone()),
                    false => before.iter().any(|before| before.key == lowered),
                };
                if twice {
                    return Err(duplicate(&entry.key, entry.place));
                }
                entry.key = lowered;
                lower_keys(&mut entry.node)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(crate) fn duplicate(key: &str, place: Place) -> SyntaxError {
    SyntaxError::new(place, format!("the key \"{key}\" is written twice"))
        .help("keep one of them; keys are compared without case")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_cases_keys_inside_lists() {
        let tree = parse_file(Path::new("a.yaml"), "Routes:\n- From: X\n").unwrap();
        let routes = tree.get("routes").unwrap();
        let Value::List(items) = &routes.value else {
            panic!("{routes:?}")
        };
        let Value::Map(entries) = &items[0].value else {
            panic!()
        };
        assert_eq!(entries[0].key, "from");
        assert_eq!(entries[0].node.value, Value::Text("X".into()));
        assert_eq!((entries[0].node.place.line, entries[0].node.place.column), (2, 9));
    }

    #[test]
    fn keys_that_differ_in_case_only_are_refused() {
        let error = parse_file(Path::new("a.yaml"), "address: a\nADDRESS: b\n").unwrap_err();
        assert_eq!(error.place.line, 2);
    }

    #[test]
    fn an_empty_file_is_an_empty_map() {
        for name in ["a.yaml", "a.toml", "a.env"] {
            assert_eq!(
                parse_file(Path::new(name), "").unwrap().value,
                Value::Map(Vec::new()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_list_at_the_top_is_refused() {
        assert!(
            parse_file(Path::new("a.yaml"), "- 1\n")
                .unwrap_err()
                .message
                .contains("top level")
        );
    }
}
