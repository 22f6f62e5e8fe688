use proptest::prelude::*;

use super::*;

fn run(raw: &str) -> Result<String, PathError> {
    normalise(raw, &Rules::default()).map(|done| done.path.into_owned())
}

fn with(raw: &str, change: impl FnOnce(&mut Rules)) -> Result<(String, bool), PathError> {
    let mut rules = Rules::default();
    change(&mut rules);
    normalise(raw, &rules).map(|done| (done.path.into_owned(), done.redirect))
}

#[test]
fn a_plain_path_is_borrowed() {
    for raw in ["/", "/a/b.c/~x", "/a;v=1/b", "/a:b@c!$&'()*+,=", "/caf%C3%A9"] {
        let done = normalise(raw, &Rules::default()).expect(raw);
        assert!(matches!(done.path, Cow::Borrowed(_)), "{raw}");
        assert_eq!(done.path, raw);
    }
}

#[test]
fn the_observed_table() {
    for (raw, want) in [
        ("/a/../b/./c", "/b/c"),
        ("//a//b", "/a/b"),
        ("/a\\b", "/a/b"),
        ("/%61%7e%2e%2e/%41b", "/a~../Ab"),
        ("//admin", "/admin"),
        ("//evil.example.com/x", "/evil.example.com/x"),
        ("/..", "/"),
        ("/../../x", "/x"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/%2e%2e/x", "/x"),
        ("/a/%2E%2e\\b", "/b"),
        ("/...", "/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/.../b", "/a/.../b"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/a%20b", "/a%20b"),
        ("/a{b}\"<>", "/a%7Bb%7D%22%3C%3E"),
        ("/é", "/%C3%A9"),
        ("/a%3fb", "/a%3fb"),
    ] {
        assert_eq!(run(raw).as_deref(), Ok(want), "{raw}");
    }
}

#[test]
fn what_is_refused() {
    for (raw, want) in [
        ("", PathError::NotAbsolute),
        ("admin", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("/a%2fb", PathError::EscapedSlash),
        ("/a%2Fb", PathError::EscapedSlash),
        ("/a%5cb", PathError::EscapedSlash),
        ("/a#b", PathError::Fragment),
        ("/a%00b", PathError::Control),
        ("/a%0d%0ab", PathError::Control),
        ("/a\u{0}b", PathError::Control),
        ("/a\tb", PathError::Control),
        ("/a%7fb", PathError::Control),
        ("/a%", PathError::BadEscape),
        ("/a%2", PathError::BadEscape),
        ("/a%zz", PathError::BadEscape),
        ("/a%+1b", PathError::BadEscape),
        ("/a/..;/admin", PathError::DisguisedDots),
        ("/a/..;x=1/admin", PathError::DisguisedDots),
        ("/a/.;/admin", PathError::DisguisedDots),
        ("/a/%2e%2e;/admin", PathError::DisguisedDots),
        ("/a/..%3b/admin", PathError::DisguisedDots),
        ("/a/..%3B/admin", PathError::DisguisedDots),
        ("/;/admin", PathError::DisguisedSlash),
        ("/;x=1/admin", PathError::DisguisedSlash),
        ("/a/%3Bx/b", PathError::DisguisedSlash),
    ] {
        assert_eq!(run(raw), Err(want), "{raw}");
    }
}

#[test]
fn escaped_slashes_by_rule() {
    let keep = |raw| with(raw, |rules| rules.escaped_slashes = EscapedSlashes::Keep);
    assert_eq!(keep("/a%2Fb%5c"), Ok(("/a%2Fb%5c".into(), false)));
    for trick in [
        "/a/..%2fb",
        "/a%2f..",
        "/a%2f..%2fb",
        "/a%5c.%5cb",
        "/x%2f..;a%2fb",
    ] {
        assert_eq!(keep(trick), Err(PathError::DisguisedDots), "{trick}");
    }
    let forward = |raw| {
        with(raw, |rules| {
            rules.escaped_slashes = EscapedSlashes::UnescapeAndForward
        })
    };
    assert_eq!(forward("/a%2Fb%5cc"), Ok(("/a/b/c".into(), false)));
    assert_eq!(forward("/a/..%2f..%2fadmin"), Ok(("/admin".into(), false)));
    assert_eq!(
        forward("/%2f%2fevil.example.com"),
        Ok(("/evil.example.com".into(), false))
    );
    let redirect = |raw| {
        with(raw, |rules| {
            rules.escaped_slashes = EscapedSlashes::UnescapeAndRedirect
        })
    };
    assert_eq!(redirect("/a%2fb"), Ok(("/a/b".into(), true)));
    assert_eq!(redirect("/a/../b"), Ok(("/b".into(), false)));
}

#[test]
fn rules_switched_off() {
    assert_eq!(
        with("//a//b", |rules| rules.merge_slashes = false),
        Ok(("//a//b".into(), false))
    );
    let raw_dots = |raw| with(raw, |rules| rules.normalize_path = false);
    assert_eq!(raw_dots("/a/../%62"), Ok(("/a/../%62".into(), false)));
    assert_eq!(raw_dots("/a//b"), Ok(("/a/b".into(), false)));
    assert_eq!(raw_dots("/a%2fb"), Err(PathError::EscapedSlash));
    assert_eq!(raw_dots("/a%00"), Err(PathError::Control));
}

#[test]
fn decoded_form_for_policy() {
    assert_eq!(decode("/a+b%20c"), "/a+b c");
    assert_eq!(decode("/caf%c3%a9"), "/café");
    assert!(decode("/admin/%ff").starts_with("/admin/"));
    assert_eq!(decode("/%252e"), "/%2e");
}

proptest! {
    #[test]
    fn a_fixed_point_without_disguises(raw in "/([/.a%;\\\\{é]|%2e|%2E|%61|%25|%2f|%5c|%3b|\\.\\.){0,24}") {
        if let Ok(once) = run(&raw) {
            prop_assert_eq!(run(&once), Ok(once.clone()));
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.contains("//"), "{}", once);
            prop_assert!(!once.contains("/../") && !once.ends_with("/.."), "{}", once);
            prop_assert!(!once.contains("/./") && !once.ends_with("/."), "{}", once);
            prop_assert!(!once.to_ascii_lowercase().contains("%2f"), "{}", once);
            prop_assert!(!once.to_ascii_lowercase().contains("%5c"), "{}", once);
            prop_assert!(!once.contains('\\'));
        }
    }

    #[test]
    fn never_panics_under_any_rule(raw in "\\PC{0,40}", merge: bool, dots: bool, slashes in 0u8..4) {
        let rules = Rules {
            merge_slashes: merge,
            normalize_path: dots,
            escaped_slashes: match slashes {
                0 => EscapedSlashes::Keep,
                1 => EscapedSlashes::Reject,
                2 => EscapedSlashes::UnescapeAndRedirect,
                _ => EscapedSlashes::UnescapeAndForward,
            },
            ..Rules::default()
        };
        if let Ok(once) = normalise(&raw, &rules) {
            let again = normalise(&once.path, &rules).expect("a canonical path is accepted again");
            prop_assert_eq!(&again.path, &once.path);
            prop_assert!(!again.redirect);
        }
    }

    #[test]
    fn decoding_the_canonical_path_equals_decoding_what_was_sent(raw in "/[a-z%.~-]{0,6}(%[46][1-9a-f]){0,6}") {
        if let Ok(once) = run(&raw)
            && !raw.contains("/.") && !raw.to_ascii_lowercase().contains("/%2e") {
            prop_assert_eq!(decode(&once), decode(&raw));
        }
    }
}

#[test]
fn parameters_have_their_place() {
    for path in ["/;jsessionid=1", "/a/;x", "/a;x/b;y", "/a;/b"] {
        assert_eq!(run(path).as_deref(), Ok(path), "{path}");
    }
}
