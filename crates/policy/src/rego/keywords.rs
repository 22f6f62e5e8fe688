//! What can be told from the words of a script alone: whether it names its package, and whether it uses keywords of
//! the newer language without asking for them. The engine would take `allow if { … }` for two rules, the first of
//! which lets everybody in.

use std::num::NonZeroU32;

use regorus::Source;
use regorus::unstable::{Lexer, Span, TokenKind};

use super::error::Flaw;

/// Longest line, in characters.
pub(super) const MAX_COLUMNS: NonZeroU32 = NonZeroU32::new(16 * 1024).expect("not zero");

/// Names made by this program; scripts may not use them.
pub(super) const RESERVED: &str = "pomerium_negated_";

const KEYWORDS: [&str; 3] = ["if", "every", "in"];

/// Deepest nesting of brackets. The parser tries each kind of bracket in several ways, so that its work doubles with
/// each level.
const MAX_BRACKETS: usize = 12;

/// What the words say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) has_package: bool,
}

pub(super) fn read(text: &str) -> Result<Words, Flaw> {
    let source =
        Source::from_contents("script".into(), text.to_owned()).map_err(|error| Flaw::of_engine(&error))?;
    let mut lexer = Lexer::new(&source);
    lexer.set_max_col(MAX_COLUMNS);
    let mut words: Vec<(String, Span)> = Vec::new();
    loop {
        let token = lexer.next_token().map_err(|error| Flaw::of_engine(&error))?;
        match token.0 {
            TokenKind::Eof => break,
            TokenKind::Ident | TokenKind::Symbol => words.push((token.1.text().to_owned(), token.1)),
            // What stands between quotes is no word.
            _ => words.push((String::new(), token.1)),
        }
    }
    brackets(&words)?;
    let word = |index: usize| words.get(index).map_or("", |(word, _)| word.as_str());
    let has_package = word(0) == "package";
    if !has_package && let Some((_, span)) = words.iter().find(|(word, _)| word == "package") {
        return Err(Flaw::at(span, "`package` has to stand first"));
    }
    let imported = |keyword: &str| {
        (0..words.len())
            .filter(|index| word(*index) == "import")
            .any(|index| {
                let at = |offset: usize| word(index + offset);
                let future = at(1) == "future" && at(3) == "keywords";
                (at(1) == "rego" && at(3) == "v1") || (future && (at(4) != "." || at(5) == keyword))
            })
    };
    for (index, (text, span)) in words.iter().enumerate() {
        if text.starts_with(RESERVED) {
            return Err(Flaw::at(
                span,
                format!("names that begin with `{RESERVED}` are taken; choose another"),
            ));
        }
        let keyword = KEYWORDS.contains(&text.as_str()) && (index == 0 || word(index - 1) != ".");
        if keyword && !imported(text) {
            let problem = format!(
                "`{text}` is a keyword of the newer language only: add `import rego.v1` above the rules"
            );
            return Err(Flaw::at(span, problem));
        }
    }
    Ok(Words { has_package })
}

fn brackets(words: &[(String, Span)]) -> Result<(), Flaw> {
    let mut open = 0_usize;
    for (word, span) in words {
        match word.as_str() {
            "[" | "{" | "(" => open += 1,
            "]" | "}" | ")" => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_BRACKETS {
            let problem = format!(
                "brackets nest deeper than {MAX_BRACKETS} levels; give inner parts rules of their own"
            );
            return Err(Flaw::at(span, problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        read(text).unwrap_err().problem
    }

    #[test]
    fn the_package_is_seen_behind_comments_only() {
        assert!(
            read("# package x\npackage pomerium.policy\nallow = true")
                .unwrap()
                .has_package
        );
        assert!(!read("# package x\nallow = true").unwrap().has_package);
        assert!(!read("allow = x { x := \"package\" }").unwrap().has_package);
        assert!(problem("allow = true\npackage pomerium.policy").contains("has to stand first"));
    }

    #[test]
    fn newer_keywords_have_to_be_asked_for() {
        assert!(problem("allow if { true }").contains("`if` is a keyword"));
        assert!(problem("allow { some x in [1]; x == 1 }").contains("`in` is a keyword"));
        assert!(problem("import future.keywords.in\nallow if { 1 in [1] }").contains("`if` is a keyword"));
        for fine in [
            "import rego.v1\nallow if { 1 in [1] }",
            "import future.keywords\nallow if { 1 in [1] }",
            "import future.keywords.if\nallow if { true }",
            "allow { input.if == \"if\"; input[\"in\"] }",
        ] {
            read(fine).unwrap();
        }
        assert!(problem("pomerium_negated_1 = 2").contains("are taken"));
    }
}
