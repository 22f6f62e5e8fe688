//! Regular expressions as RE2 reads them, for an engine that differs in a few places.
//!
//! Deployed files were written for RE2. Most patterns mean the same to both; where they do not, the pattern is
//! rewritten here, once, so that everything behind it sees one dialect. Both engines take linear time.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// Bytes that one compiled pattern may take: more than what RE2 takes, so that its limit is not met here first.
const LARGEST: usize = 64 << 20;

/// Compiles a pattern of this engine's dialect.
///
/// # Errors
/// It is no pattern, or a very large one.
pub fn compile(translated: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(translated).size_limit(LARGEST).build()
}

/// The pattern in the dialect of the engine. What is wrong with a pattern stays wrong.
pub fn translate(pattern: &str) -> Cow<'_, str> {
    let suspect = |byte: u8| matches!(byte, b'{' | b'[' | b'\\');
    if !pattern.bytes().any(suspect) {
        return Cow::Borrowed(pattern);
    }
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => escape(&mut rest, &mut out),
            '[' => class(&mut rest, &mut out),
            // A brace that counts nothing stands for itself.
            '{' if !counts(rest.clone()) => out.push_str(r"\{"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    match rest.next() {
        Some('Q') => quoted(rest, out),
        // One byte; paths are text here, so one character.
        Some('C') => out.push_str("(?s:.)"),
        // The beginning and end of a word to the one engine, plain letters to the other.
        Some(plain @ ('<' | '>')) => out.push(plain),
        Some(letter @ ('p' | 'P' | 'x')) => {
            out.extend(['\\', letter]);
            if rest.peek() == Some(&'{') {
                copy_until(rest, out, '}');
            }
        }
        // Of ASCII only, and not of all the world's letters.
        Some('b') => out.push_str(r"(?-u:\b)"),
        Some(letter) => match ascii(letter) {
            Some(set) => out.push_str(set),
            None => out.extend(['\\', letter]),
        },
        None => out.push('\\'),
    }
}

/// What a set of characters that has a letter holds, also as part of another set.
fn ascii(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        _ => return None,
    })
}

/// `\Q…\E`: everything between stands for itself; without `\E`, everything to the end.
fn quoted(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(letter) = rest.next() {
        if letter == '\\' && rest.peek() == Some(&'E') {
            rest.next();
            break;
        }
        text.push(letter);
    }
    out.push_str(&regex::escape(&text));
}

/// `[…]`. An inner bracket and doubled `&`, `-`, `~` are letters, not operations on sets.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if rest.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    let mut before = ' ';
    while let Some(letter) = rest.next() {
        match letter {
            ']' => {
                out.push(']');
                return;
            }
            // No end of a word here, whatever it is.
            '\\' if rest.next_if_eq(&'b').is_some() => out.push_str(r"\b"),
            '\\' => escape(rest, out),
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                copy_until(rest, out, ']');
            }
            '[' => out.push_str(r"\["),
            '&' | '~' => out.extend(['\\', letter]),
            '-' if before == '-' => out.push_str(r"\-"),
            other => out.push(other),
        }
        before = letter;
    }
}

fn copy_until(rest: &mut Peekable<Chars<'_>>, out: &mut String, end: char) {
    for letter in rest.by_ref() {
        out.push(letter);
        if letter == end {
            return;
        }
    }
}

/// Whether what follows a brace makes it a repetition: `2}`, `2,}`, `2,5}`.
fn counts(mut rest: Peekable<Chars<'_>>) -> bool {
    let mut digits = 0;
    while rest.next_if(char::is_ascii_digit).is_some() {
        digits += 1;
    }
    if rest.next_if_eq(&',').is_some() {
        while rest.next_if(char::is_ascii_digit).is_some() {}
    }
    digits > 0 && rest.next() == Some('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_re2() {
        for (pattern, text, matches) in [
            (r"^/[a-z]{2,3}/.*$", "/ab/x", true),
            (r"^/x{y$", "/x{y", true),
            (r"^/{id}$", "/{id}", true),
            (r"^/a{,2}$", "/a{,2}", true),
            (r"^[^[]+$", "ab", true),
            (r"^[^[]+$", "a[b", false),
            (r"^[[:alpha:]_]+$", "ab_", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[a~~b]+$", "~", true),
            (r"^[]a]+$", "]a", true),
            (r"^[+--]+$", "-,+", true),
            (r"^\Qa.b\E+$", "a.bb", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\Qa.b", "a.bc", true),
            (r"^\<a\>$", "<a>", true),
            (r"^\w\d\s$", "_7 ", true),
            (r"^\w+$", "ä", false),
            (r"^\d$", "٣", false),
            (r"^\W\D\S$", "äää", true),
            (r"^[\w.-]{1,1000}$", "a.b-c_9", true),
            (r"^[\w-.]+$", "a-.", true),
            (r"^[^\W\d]+$", "ab", true),
            (r"^[^\W\d]+$", "a1", false),
            (r"\bab\b", "äab", true),
            (r"^\pL{1,1000}$", "aä", true),
            (r"^\C$", "\n", true),
            (r"^\p{Greek}\x{41}\pL$", "αAb", true),
            (r"^(?i)abc\.d$", "ABC.D", true),
        ] {
            let translated = translate(pattern);
            let regex = compile(&translated).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(
                regex.is_match(text),
                matches,
                "{pattern} as {translated} on {text:?}"
            );
        }
    }

    #[test]
    fn plain_patterns_are_left_alone_and_wrong_ones_stay_wrong() {
        assert!(matches!(translate("^/api/.*$"), Cow::Borrowed(_)));
        for wrong in ["a)(b", "(", "[a", r"\1", r"\Z", r"(?=a)", r"a\"] {
            assert!(Regex::new(&translate(wrong)).is_err(), "{wrong}");
        }
    }
}
