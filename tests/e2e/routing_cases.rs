//! The routing cases, the given ones and ours, through the real program; what cannot hold yet is listed by name.

use anyhow::Result;
use pomerium_testing::{routing, tools};

/// Cases whose parts are not built.
const NOT_YET: &[&str] = &[
    // Tunnels.
    "tcp-connect",
    "tcp-connect-other-port",
    "tcp-get-on-tcp-host",
    "tcp-bastion",
    "tcp-bastion-proxy-host-not-routable",
    "udp-h1",
    "unauthenticated-connect",
];

#[tokio::test]
async fn every_case_holds_but_the_named_ones() -> Result<()> {
    let mut outcomes = Vec::new();
    for (file, least) in [
        ("routing.json", 100),
        ("routing-more.json", 140),
        ("routing-corners.json", 300),
    ] {
        let file = tools::root().join("tests/cases").join(file);
        let found = Box::pin(routing::run(&file, "", pomerium_tests::records::seed)).await?;
        assert!(
            found.len() > least,
            "only {} cases in {}",
            found.len(),
            file.display()
        );
        outcomes.extend(found);
    }
    let counted = outcomes.iter().filter(|outcome| !outcome.unsure);
    let (passed, failed): (Vec<_>, Vec<_>) = counted.partition(|outcome| outcome.differences.is_empty());
    let listed = |name: &str| NOT_YET.contains(&name);
    let unexpected: Vec<_> = failed.iter().filter(|outcome| !listed(&outcome.name)).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let stale: Vec<_> = passed.iter().filter(|outcome| listed(&outcome.name)).collect();
    assert!(
        stale.is_empty(),
        "these hold by now, take them off the list: {stale:#?}"
    );
    Ok(())
}
