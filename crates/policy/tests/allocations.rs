//! Judging does not allocate, whatever the criteria, on the way in and on the way out.

#![allow(
    clippy::unwrap_used,
    reason = "tests: short helpers that stop at the first surprise"
)]

mod support;

use pomerium_policy::Program;
use pomerium_policy::ppl::Policy;
use serde_json::json;

use support::{CRITERIA, Facts};

#[test]
fn no_decision_allocates() {
    let facts = Facts::rich();
    let input = facts.input();
    for data in CRITERIA.iter().map(|criterion| criterion()) {
        // Verifying a signature does allocate; it happens once per login, not per request.
        if data.get("ssh_ca").is_some() {
            continue;
        }
        let policy = json!([{"allow": {"or": [data]}}, {"deny": {"not": [data]}}]);
        let program = Program::compile(&Policy::parse(&policy).unwrap()).unwrap();
        // The first use of a time zone may read its rules.
        let expected = program.evaluate(&input);
        let counted = allocation_counter::measure(|| {
            assert_eq!(program.evaluate(&input), expected);
        });
        assert_eq!(counted.count_total, 0, "{data}");
    }
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(vec![1_u8; 100]));
    assert_eq!(counted.count_total, 1);
}
