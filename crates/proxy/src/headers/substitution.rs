//! Substitutions as RE2 writes them (`\1`), for an engine that writes `${1}`.

/// Translates a substitution: `\N` is a group, `\\` a backslash, everything else stands for itself.
pub(super) fn translate(substitution: &str) -> String {
    let mut out = String::with_capacity(substitution.len() + 8);
    let mut characters = substitution.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '$' => out.push_str("$$"),
            '\\' => match characters.peek().copied() {
                Some(digit @ '0'..='9') => {
                    characters.next();
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some('\\') => {
                    characters.next();
                    out.push('\\');
                }
                _ => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_dollars_and_backslashes() {
        for (from, to) in [
            (r"\2/instance/\1", "${2}/instance/${1}"),
            (r"\10", "${1}0"),
            ("$1", "$$1"),
            (r"a\\1", r"a\1"),
            (r"\x\", r"\x\"),
        ] {
            assert_eq!(translate(from), to, "{from}");
        }
    }
}
