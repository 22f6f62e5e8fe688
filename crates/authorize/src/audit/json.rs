//! JSON on one line in which nothing can end the line, move a cursor or turn the reading direction.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use crate::text::is_mark;

/// Appends `value`, and no line end.
pub(super) fn append(out: &mut Vec<u8>, value: &impl Serialize) {
    // A Vec takes everything, and the types of this module hold nothing that JSON cannot.
    let _ = value.serialize(&mut Serializer::with_formatter(out, OneLine));
}

/// Escapes direction marks and the like, which JSON lets through.
struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\x7f') {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, mark)) = rest.char_indices().find(|(_, c)| is_mark(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(mark))?;
            rest = &rest[at + mark.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_line_or_turns_it_round() {
        let text = "a\"\\\n\r\t\0\u{1b}[2J\u{7f}\u{85}\u{2028}\u{202e}b\u{feff}é😀";
        let mut out = Vec::new();
        append(&mut out, &text);
        let line = String::from_utf8(out).unwrap();
        assert!(line.chars().all(|c| !is_mark(c)), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        assert!(line.ends_with("é😀\""));
    }
}
