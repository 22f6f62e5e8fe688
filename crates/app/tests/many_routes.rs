//! Ten thousand routes, of which one changes: everything else is taken over as it is. How long that takes is measured
//! by `cargo xtask bench`; that no work is done for what has not changed is seen here.
#![allow(clippy::unwrap_used, reason = "a test: what is missing shows at once")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use pomerium_config::Loader;
use pomerium_config::settings::Settings;
use pomerium_proxy::Snapshot;

const ROUTES: usize = 10_000;

/// Hosts and prefixes, a policy each; one in a hundred has a regular expression.
fn configuration(prefix_of_the_last: &str) -> String {
    let mut text = String::from("routes:\n");
    for number in 0..ROUTES {
        let path = match number {
            last if last == ROUTES - 1 => format!("prefix: {prefix_of_the_last}"),
            number if number % 100 == 0 => format!("regex: '^/v[0-9]+/{number}/'"),
            _ => "prefix: /app".to_owned(),
        };
        let policy = format!("[{{allow: {{or: [{{email: {{is: user{number}@example.com}}}}]}}}}]");
        let _ = writeln!(
            text,
            "- {{from: 'https://app{number}.example.com', to: 'http://10.0.0.1:8080', {path}, policy: {policy}}}"
        );
    }
    text
}

fn anew<T>(before: &[Arc<T>], after: &[Arc<T>]) -> usize {
    assert_eq!(before.len(), after.len());
    let pairs = before.iter().zip(after);
    pairs
        .filter(|(before, after)| !Arc::ptr_eq(before, after))
        .count()
}

#[test]
fn one_of_ten_thousand_changes_and_one_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let loader = Loader::new(Some(&file), &BTreeMap::new()).dry_run();
    let load = |text: &str| -> Settings {
        let head = "authenticate_service_url: https://auth.example.com\nidp_provider: local\n";
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        loader.load().unwrap().settings
    };
    let before = load(&configuration("/app"));
    let running = Snapshot::build(&before, None).unwrap();
    let after = load(&configuration("/other"));
    assert_eq!(anew(&before.routes, &after.routes), 1);
    let next = Snapshot::build(&after, Some(&running)).unwrap();
    assert_eq!(anew(&running.routes, &next.routes), 1);
}
