//! What people are told about a config with mistakes: each `tests/golden/NAME.yaml` has its expected text in
//! `NAME.yaml.txt`. Run with `UPDATE_GOLDEN=1` to write the texts anew, then read the difference.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use pomerium_config::Loader;

fn told(path: &Path) -> String {
    let data = tempfile::tempdir().unwrap();
    let env = BTreeMap::from([(
        "DATA_DIR".to_owned(),
        data.path().join("data").to_string_lossy().into_owned(),
    )]);
    let mut text = String::new();
    match Loader::new(Some(path), &env).dry_run().load() {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(text, "warning: {warning}").unwrap();
            }
            for refusal in &loaded.refusals {
                writeln!(text, "cannot start: {refusal}").unwrap();
            }
        }
        Err(errors) => {
            writeln!(text, "{errors}").unwrap();
            for warning in &errors.warnings {
                writeln!(text, "warning: {warning}").unwrap();
            }
        }
    }
    let folder = format!("{}/", path.parent().unwrap().display());
    text.replace(&folder, "")
}

#[test]
fn texts_are_as_committed() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension == "txt") {
            continue;
        }
        seen += 1;
        let found = told(&path);
        let golden = folder.join(format!("{}.txt", path.file_name().unwrap().to_string_lossy()));
        if update {
            std::fs::write(&golden, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(found, expected, "{}", path.display());
    }
    assert!(seen >= 5, "the golden files are found");
}
