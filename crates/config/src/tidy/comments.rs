//! The comments of a YAML document.

use granit_parser::{Event, Parser, Placement};

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comment {
    /// Its line, from 1.
    pub(super) line: u32,
    /// Whether something stands before it on its line.
    pub(super) trailing: bool,
    /// The text behind `#`, without blanks at its ends.
    pub(super) text: String,
}

/// Errors when the document cannot be read.
pub(super) fn read(text: &str) -> Result<Vec<Comment>, String> {
    let options = granit_parser::options! { emit_comments: true };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut comments = Vec::new();
    for event in parser {
        let (event, span) = event.map_err(|error| error.info())?;
        if let Event::Comment(comment, placement) = event {
            comments.push(Comment {
                line: u32::try_from(span.start.line()).unwrap_or(u32::MAX),
                trailing: matches!(placement, Placement::Right),
                text: comment.trim().to_owned(),
            });
        }
    }
    Ok(comments)
}
