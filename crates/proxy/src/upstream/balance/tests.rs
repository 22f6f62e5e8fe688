//! Distribution, weights, stability and health, over hosts that nobody dials.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use pomerium_config::settings::LoadBalancing;
use proptest::prelude::*;

use super::*;
use crate::upstream::endpoint::test_endpoint;

fn hosts(weights: &[u32]) -> Arc<[Arc<Host>]> {
    let endpoint = Arc::new(test_endpoint("app.example.com", 80));
    (1..)
        .zip(weights)
        .map(|(last, weight)| {
            let address = [192, 0, 2, last].into();
            Host::new(
                endpoint.clone(),
                [address].into_iter().collect(),
                *weight,
                (Weak::new(), false),
            )
        })
        .collect()
}

fn view(hosts: &Arc<[Arc<Host>]>, policy: LoadBalancing, panic: u8) -> View {
    View::new(hosts.clone(), policy, panic)
}

/// How many of `count` requests each host gets; keys are spread as session ids are.
fn share(view: &View, count: u64) -> HashMap<u64, f64> {
    let mut share = HashMap::new();
    for request in 0..count {
        let host = view.choose(key_of(&request.to_le_bytes()), &[]).unwrap();
        *share.entry(host.id).or_default() += 1.0 / count as f64;
    }
    share
}

fn close(share: &HashMap<u64, f64>, hosts: &[Arc<Host>], within: f64) {
    let total: u32 = hosts.iter().map(|host| host.weight).sum();
    for host in hosts {
        let (got, due) = (
            share.get(&host.id).copied().unwrap_or(0.0),
            f64::from(host.weight) / f64::from(total),
        );
        assert!((got - due).abs() <= within, "{host:?}: {got} instead of {due}");
    }
}

#[test]
fn every_policy_shares_by_weight() {
    use LoadBalancing::{LeastRequest, Maglev, Random, RingHash, RoundRobin};
    let hosts = hosts(&[1, 2, 5]);
    for (policy, within) in [
        (RoundRobin, 0.001),
        (Random, 0.03),
        (Maglev, 0.03),
        // The points of a ring are uneven.
        (RingHash, 0.1),
        (LeastRequest, 0.03),
    ] {
        close(&share(&view(&hosts, policy, 50), 20_000), &hosts, within);
    }
}

#[test]
fn turns_are_smooth() {
    assert_eq!(*schedule::turns(&[(0, 5), (1, 1), (2, 1)]), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(*schedule::turns(&[(0, 4), (1, 4)]), [0, 1]);
    assert_eq!(schedule::turns(&[(0, u32::MAX), (1, 1)]).len(), 8192);
    assert!(schedule::turns(&[]).is_empty());
}

#[test]
fn the_less_busy_of_two_is_taken() {
    let hosts = hosts(&[1, 1]);
    let view = view(&hosts, LoadBalancing::LeastRequest, 50);
    for _ in 0..10 {
        hosts[0].began();
    }
    let share = share(&view, 10_000);
    // Only when both draws are the busy one: a quarter.
    assert!((share[&hosts[0].id] - 0.25).abs() < 0.05, "{share:?}");
}

#[test]
fn the_same_key_goes_to_the_same_host() {
    let hosts = hosts(&[1; 7]);
    for policy in [LoadBalancing::RingHash, LoadBalancing::Maglev] {
        let (one, other) = (view(&hosts, policy, 50), view(&hosts, policy, 50));
        for key in 0..1000 {
            let key = key_of(&u64::to_le_bytes(key));
            assert_eq!(
                one.choose(key, &[]).unwrap().id,
                other.choose(key, &[]).unwrap().id
            );
        }
    }
}

/// Part of the keys whose host is another one.
fn moved(before: &View, after: &View) -> f64 {
    let moved = (0..10_000_u64).filter(|key| {
        let key = key_of(&key.to_le_bytes());
        before.choose(key, &[]).unwrap().id != after.choose(key, &[]).unwrap().id
    });
    moved.count() as f64 / 10_000.0
}

#[test]
fn few_keys_move_when_a_host_comes() {
    let all = hosts(&[1; 10]);
    let nine: Arc<[Arc<Host>]> = all[..9].into();
    for (policy, most) in [(LoadBalancing::RingHash, 0.16), (LoadBalancing::Maglev, 0.16)] {
        let moved = moved(&view(&nine, policy, 50), &view(&all, policy, 50));
        assert!(moved > 0.04 && moved < most, "{policy:?}: {moved}");
    }
}

#[test]
fn only_the_keys_of_an_unhealthy_host_move() {
    let keys = || (0..5000_u64).map(|key| key_of(&key.to_le_bytes()));
    let chosen = |view: &View| -> Vec<u64> { keys().map(|key| view.choose(key, &[]).unwrap().id).collect() };
    for policy in [LoadBalancing::RingHash, LoadBalancing::Maglev] {
        let hosts = hosts(&[1; 5]);
        let view = view(&hosts, policy, 50);
        let before = chosen(&view);
        hosts[2].set_active(false);
        let after = chosen(&view.renewed(policy, 50));
        for (was, is) in before.into_iter().zip(after) {
            assert_ne!(is, hosts[2].id);
            assert!(was == is || was == hosts[2].id);
        }
    }
}

#[test]
fn an_unhealthy_host_gets_nothing_and_the_others_share_its_part() {
    use LoadBalancing::{LeastRequest, Maglev, Random, RingHash, RoundRobin};
    for policy in [RoundRobin, LeastRequest, Random, Maglev, RingHash] {
        let hosts = hosts(&[1, 1, 1]);
        hosts[1].set_ejected(true);
        let share = share(&view(&hosts, policy, 50), 10_000);
        assert!(!share.contains_key(&hosts[1].id), "{policy:?}");
        let within = if policy == RingHash { 0.15 } else { 0.05 };
        assert!(
            (share[&hosts[0].id] - 0.5).abs() < within,
            "{policy:?}: {share:?}"
        );
    }
}

#[test]
fn below_the_panic_threshold_health_is_ignored() {
    for policy in [LoadBalancing::RoundRobin, LoadBalancing::Maglev] {
        let hosts = hosts(&[1; 4]);
        for host in &hosts[..3] {
            host.set_active(false);
        }
        assert_eq!(
            share(&view(&hosts, policy, 50), 1000).len(),
            4,
            "{policy:?}: a quarter is healthy"
        );
        assert_eq!(
            share(&view(&hosts, policy, 25), 1000).len(),
            1,
            "{policy:?}: not below a quarter"
        );
        hosts[3].set_active(false);
        assert!(
            view(&hosts, policy, 0).choose(1, &[]).is_none(),
            "{policy:?}: never"
        );
        assert_eq!(share(&view(&hosts, policy, 1), 1000).len(), 4, "{policy:?}");
    }
    let one = hosts(&[1]);
    one[0].set_active(false);
    assert!(view(&one, LoadBalancing::RoundRobin, 50).choose(0, &[]).is_some());
    assert!(view(&one, LoadBalancing::RoundRobin, 0).choose(0, &[]).is_none());
}

fn policy() -> impl Strategy<Value = LoadBalancing> {
    use LoadBalancing::{LeastRequest, Maglev, Random, RingHash, RoundRobin};
    prop::sample::select(vec![RoundRobin, LeastRequest, RingHash, Maglev, Random])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is healthy: trying on and on finds every host that may be used exactly once.
    #[test]
    fn trying_on_visits_every_usable_host_once(
        policy in policy(),
        weights in prop::collection::vec(1_u32..50, 1..9),
        down in prop::collection::vec(any::<bool>(), 9),
        panic in 0_u8..=100,
        key in any::<u64>(),
    ) {
        let hosts = hosts(&weights);
        for (host, down) in hosts.iter().zip(&down) {
            host.set_active(!down);
        }
        let usable = hosts.iter().filter(|host| host.is_usable()).count();
        let in_panic = usable * 100 < usize::from(panic) * hosts.len();
        let view = view(&hosts, policy, panic);
        let mut tried = Vec::new();
        while let Some(host) = view.choose(key, &tried) {
            prop_assert!(in_panic || host.is_usable());
            prop_assert!(!tried.contains(&host.id));
            tried.push(host.id);
        }
        prop_assert_eq!(tried.len(), if in_panic { hosts.len() } else { usable });
    }
}
