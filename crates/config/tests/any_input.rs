//! Whatever a file holds, reading it ends with a tree or an error, never with a panic.

use std::path::Path;

use pomerium_config::spec::go_url::GoUrl;
use pomerium_config::spec::{duration, format};
use proptest::prelude::*;

/// Text that looks a little like a config file.
fn configish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("routes:\n".to_owned()),
        Just("- from: ".to_owned()),
        Just("  policy: &a {allow: {or: [".to_owned()),
        Just("*a\n".to_owned()),
        Just("<<: ".to_owned()),
        Just("\"\\u00e9\"".to_owned()),
        Just("2020-1-2T3:4:5+".to_owned()),
        "[\\[\\]{},:\"'\n #=]{1,6}",
        "\\PC{0,8}",
        "[0-9_.eExXo+-]{1,10}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn files(text in configish()) {
        for name in ["a.yaml", "a.json", "a.toml", "a.env"] {
            let _ = format::parse_file(Path::new(name), &text);
        }
    }

    #[test]
    fn urls(text in "([a-z]{0,4}:)?(//)?[\\PC]{0,24}") {
        if let Ok(url) = GoUrl::parse(&text) {
            let again = GoUrl::parse(&url.text());
            prop_assert!(again.is_ok(), "{} from {}", url.text(), text);
        }
    }

    #[test]
    fn durations(nanos in any::<i64>(), text in "[-+]?[0-9.]{0,6}[hmsnuµ]{0,3}[0-9]{0,3}\\PC?") {
        prop_assert_eq!(duration::parse(&duration::format(nanos)), Ok(nanos));
        let _ = duration::parse(&text);
    }
}
