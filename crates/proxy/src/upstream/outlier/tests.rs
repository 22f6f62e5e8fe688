//! The detector against examples, and against a model that keeps everything and counts naively.

use std::time::Duration;

use pomerium_config::settings::OutlierDetection;
use proptest::prelude::*;

use super::detector::{Change, Detector, HostId};
use super::monitor::{Cause, Monitor, Sample, Seen};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn always(_: u64) -> u64 {
    0
}

fn roomy() -> OutlierDetection {
    OutlierDetection {
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    }
}

fn detector(hosts: u64) -> Detector {
    let mut detector = Detector::default();
    detector.members(0..hosts);
    detector
}

fn fail(detector: &mut Detector, rules: &OutlierDetection, id: HostId, now: u64) -> Option<Change> {
    detector.reached(rules, (id, Cause::Consecutive5xx), secs(now), &mut always)
}

fn back(detector: &mut Detector, rules: &OutlierDetection, now: u64) -> Vec<Change> {
    detector.tick(rules, &[], secs(now), &mut always)
}

#[test]
fn a_host_is_out_longer_each_time_and_forgiven_in_good_intervals() {
    let rules = roomy();
    let mut detector = detector(2);
    for (ejected, returned, term) in [(0, 30, 30), (31, 91, 60), (92, 182, 90)] {
        let change = fail(&mut detector, &rules, 0, ejected);
        assert_eq!(change, Some(Change::Eject(0, Cause::Consecutive5xx, secs(term))));
        assert_eq!(fail(&mut detector, &rules, 0, ejected), None, "it is out already");
        assert_eq!(back(&mut detector, &rules, returned - 1), []);
        assert_eq!(back(&mut detector, &rules, returned), [Change::Return(0)]);
    }
    for interval in 0..3 {
        back(&mut detector, &rules, 200 + interval);
    }
    let change = fail(&mut detector, &rules, 0, 300);
    assert_eq!(change, Some(Change::Eject(0, Cause::Consecutive5xx, secs(30))));
}

#[test]
fn nobody_is_out_longer_than_the_longest_time() {
    let rules = OutlierDetection {
        max_ejection_time: secs(70),
        ..roomy()
    };
    let mut detector = detector(1);
    let mut now = 0;
    for term in [30, 60, 70, 70] {
        let change = fail(&mut detector, &rules, 0, now);
        assert_eq!(change, Some(Change::Eject(0, Cause::Consecutive5xx, secs(term))));
        now += term;
        assert_eq!(back(&mut detector, &rules, now), [Change::Return(0)]);
    }
    let long = OutlierDetection {
        base_ejection_time: secs(400),
        ..roomy()
    };
    let change = fail(&mut self::detector(1), &long, 0, 0);
    assert_eq!(change, Some(Change::Eject(0, Cause::Consecutive5xx, secs(400))));
}

#[test]
fn jitter_lengthens_the_time() {
    let rules = OutlierDetection {
        max_ejection_time_jitter: secs(5),
        ..roomy()
    };
    let mut detector = detector(1);
    let mut draws = [0, 5_000].into_iter();
    let mut below = |_: u64| draws.next().unwrap_or(0);
    let change = detector.reached(&rules, (0, Cause::Consecutive5xx), secs(0), &mut below);
    assert_eq!(change, Some(Change::Eject(0, Cause::Consecutive5xx, secs(35))));
    assert_eq!(back(&mut detector, &rules, 34), []);
    assert_eq!(back(&mut detector, &rules, 35), [Change::Return(0)]);
}

#[test]
fn only_a_share_of_the_hosts_may_be_out() {
    let rules = OutlierDetection::default();
    assert_eq!(
        fail(&mut detector(9), &rules, 0, 0),
        None,
        "1 of 9 is more than 10 %"
    );
    let mut ten = detector(10);
    assert!(fail(&mut ten, &rules, 0, 0).is_some());
    assert_eq!(fail(&mut ten, &rules, 1, 0), None);
    let one = OutlierDetection {
        always_eject_one_host: true,
        max_ejection_percent: 0,
        ..rules
    };
    let mut two = detector(2);
    assert!(fail(&mut two, &one, 0, 0).is_some());
    assert_eq!(fail(&mut two, &one, 1, 0), None);
}

#[test]
fn a_host_that_leaves_makes_room_and_is_forgotten() {
    let rules = OutlierDetection {
        max_ejection_percent: 50,
        ..roomy()
    };
    let mut detector = detector(2);
    assert!(fail(&mut detector, &rules, 0, 0).is_some());
    assert_eq!(fail(&mut detector, &rules, 1, 0), None);
    detector.members([1, 2]);
    assert!(fail(&mut detector, &rules, 1, 0).is_some());
    detector.members([0, 1, 2]);
    assert!(!detector.is_ejected(0) && detector.is_ejected(1));
    assert_eq!(fail(&mut detector, &rules, 7, 0), None, "nobody knows host 7");
}

#[test]
fn enforcement_is_a_matter_of_chance() {
    let rules = OutlierDetection {
        enforcing_consecutive_5xx: 30,
        ..roomy()
    };
    let drawn = |number: u64| {
        let mut below = move |_: u64| number;
        detector(1).reached(&rules, (0, Cause::Consecutive5xx), secs(0), &mut below)
    };
    assert!(drawn(29).is_some() && drawn(30).is_none());
    let gateway = detector(1).reached(&rules, (0, Cause::GatewayFailure), secs(0), &mut always);
    assert_eq!(gateway, None, "not enforced unless asked for");
}

#[test]
fn a_good_active_check_brings_a_host_back() {
    let rules = roomy();
    let mut detector = detector(1);
    fail(&mut detector, &rules, 0, 0);
    let off = OutlierDetection {
        successful_active_health_check_uneject_host: false,
        ..roomy()
    };
    assert_eq!(detector.passed(&off, 0), None);
    assert_eq!(detector.passed(&rules, 0), Some(Change::Return(0)));
    assert_eq!(detector.passed(&rules, 0), None);
}

fn rates(good: &[u64], total: u64) -> Vec<(HostId, Sample, Sample)> {
    (0..)
        .zip(good)
        .map(|(id, good)| (id, Sample { total, good: *good }, Sample::default()))
        .collect()
}

fn causes(changes: &[Change]) -> Vec<(HostId, Cause)> {
    let one = |change: &Change| match change {
        Change::Eject(id, cause, _) => Some((*id, *cause)),
        Change::Return(_) => None,
    };
    changes.iter().filter_map(one).collect()
}

#[test]
fn a_host_far_below_the_others_is_out() {
    let rules = roomy();
    // Mean 84, deviation 32: the limit is 84 − 1.9 × 32 = 23.2.
    let samples = rates(&[100, 100, 100, 100, 20], 100);
    let changes = detector(5).tick(&rules, &samples, secs(10), &mut always);
    assert_eq!(causes(&changes), [(4, Cause::SuccessRate)]);
    let even = rates(&[60, 60, 60, 60, 60], 100);
    assert_eq!(detector(5).tick(&rules, &even, secs(10), &mut always), []);
    let few = rates(&[99, 99, 99, 99, 19], 99);
    assert_eq!(
        detector(5).tick(&rules, &few, secs(10), &mut always),
        [],
        "too few requests"
    );
    let small = rates(&[100, 100, 100, 20], 100);
    assert_eq!(
        detector(4).tick(&rules, &small, secs(10), &mut always),
        [],
        "too few hosts"
    );
}

#[test]
fn a_host_that_mostly_fails_is_out_when_enforced() {
    let rules = OutlierDetection {
        enforcing_failure_percentage: 100,
        enforcing_success_rate: 0,
        ..roomy()
    };
    let samples = rates(&[15, 16, 50, 50, 0], 100);
    let mut detector = detector(5);
    let changes = detector.tick(&rules, &samples, secs(10), &mut always);
    let expected = [(0, Cause::FailurePercentage), (4, Cause::FailurePercentage)];
    assert_eq!(causes(&changes), expected);
    // Those that are out are judged no more: three are left, too few.
    let changes = detector.tick(&rules, &samples, secs(11), &mut always);
    assert_eq!(changes, []);
}

#[test]
fn connections_are_judged_apart_when_errors_are_split() {
    let rules = OutlierDetection {
        split_external_local_origin_errors: true,
        enforcing_failure_percentage_local_origin: 100,
        enforcing_local_origin_success_rate: 0,
        ..roomy()
    };
    let bad = Sample { total: 60, good: 0 };
    let samples: Vec<_> = (0..5).map(|id| (id, Sample::default(), bad)).collect();
    let changes = detector(5).tick(&rules, &samples, secs(10), &mut always);
    assert!(changes.len() == 5 && causes(&changes)[0].1 == Cause::LocalOriginFailurePercentage);
    let joined = OutlierDetection {
        split_external_local_origin_errors: false,
        ..rules
    };
    assert_eq!(detector(5).tick(&joined, &samples, secs(10), &mut always), []);
}

#[test]
fn what_counts_as_which_error() {
    let joined = OutlierDetection {
        consecutive_5xx: 2,
        consecutive_gateway_failure: 2,
        consecutive_local_origin_failure: 2,
        ..roomy()
    };
    let split = OutlierDetection {
        split_external_local_origin_errors: true,
        ..joined
    };
    let all = |rules: &OutlierDetection, seen: &[Seen]| {
        let monitor = Monitor::default();
        let notes = seen.iter().map(|seen| monitor.note(rules, *seen).to_vec());
        notes.collect::<Vec<_>>()
    };
    use Cause::{Consecutive5xx, GatewayFailure, LocalOrigin};
    use Seen::{Status, TimedOut, Unreachable};
    let both = vec![GatewayFailure, Consecutive5xx];
    assert_eq!(all(&joined, &[Status(503), Status(502)]), [vec![], both.clone()]);
    assert_eq!(all(&joined, &[Unreachable, TimedOut]), [vec![], both]);
    assert_eq!(
        all(&joined, &[Status(503), Status(500)]),
        [vec![], vec![Consecutive5xx]]
    );
    assert_eq!(
        all(&joined, &[Status(503), Status(404), Status(503)]),
        [vec![], vec![], vec![]]
    );
    assert_eq!(all(&split, &[Unreachable, TimedOut]), [vec![], vec![LocalOrigin]]);
    let answered = all(&split, &[Unreachable, Status(500), Unreachable]);
    assert_eq!(
        answered,
        [vec![], vec![], vec![]],
        "an answer shows that the host is there"
    );
    let one_of_each = all(&split, &[Status(500), Unreachable, Status(500)]);
    assert_eq!(one_of_each, [vec![], vec![], vec![Consecutive5xx]]);
}

/// Everything that ever happened, and the rules read off it anew each time.
#[derive(Default)]
struct Model {
    hosts: Vec<History>,
}

#[derive(Default, Clone)]
struct History {
    /// Answers since the counts last started over, for each consecutive rule.
    errors: Vec<bool>,
    gateway: Vec<bool>,
    interval: Vec<bool>,
    out_since: Option<u64>,
    backoff: u64,
}

fn run(history: &[bool]) -> usize {
    history.iter().rev().take_while(|bad| **bad).count()
}

impl Model {
    fn eject(&mut self, rules: &OutlierDetection, id: usize, now: u64, enforced: u32) {
        let out = self.hosts.iter().filter(|host| host.out_since.is_some()).count() as f64;
        let percent = 100.0 * (out + 1.0) / self.hosts.len() as f64;
        let room =
            percent <= f64::from(rules.max_ejection_percent) || (rules.always_eject_one_host && out == 0.0);
        let host = &mut self.hosts[id];
        if host.out_since.is_none() && room && enforced > 0 {
            let base = rules.base_ejection_time.as_secs();
            if base * host.backoff < rules.max_ejection_time.as_secs() + base {
                host.backoff += 1;
            }
            host.out_since = Some(now);
        }
    }

    fn request(&mut self, rules: &OutlierDetection, id: usize, status: u16, now: u64) {
        let host = &mut self.hosts[id];
        host.interval.push(status < 500);
        host.errors.push(status >= 500);
        host.gateway.push((502..=504).contains(&status));
        let gateway = run(&host.gateway) == rules.consecutive_gateway_failure as usize;
        let errors = run(&host.errors) == rules.consecutive_5xx as usize;
        if gateway {
            self.hosts[id].gateway.clear();
            self.eject(rules, id, now, rules.enforcing_consecutive_gateway_failure);
        }
        if errors {
            self.hosts[id].errors.clear();
            self.eject(rules, id, now, rules.enforcing_consecutive_5xx);
        }
    }

    fn tick(&mut self, rules: &OutlierDetection, now: u64) {
        let base = rules.base_ejection_time.as_secs();
        for host in &mut self.hosts {
            match host.out_since {
                None => host.backoff = host.backoff.saturating_sub(1),
                Some(since)
                    if now - since >= (base * host.backoff).min(rules.max_ejection_time.as_secs()) =>
                {
                    host.out_since = None;
                    host.errors.clear();
                    host.gateway.clear();
                }
                Some(_) => {}
            }
        }
        let intervals: Vec<_> = self
            .hosts
            .iter_mut()
            .map(|host| std::mem::take(&mut host.interval))
            .collect();
        let failed = |interval: &Vec<bool>| {
            100 * interval.iter().filter(|good| !**good).count()
                >= rules.failure_percentage_threshold as usize * interval.len()
        };
        let judged: Vec<usize> = (0..self.hosts.len())
            .filter(|id| self.hosts[*id].out_since.is_none() && !intervals[*id].is_empty())
            .filter(|id| intervals[*id].len() >= rules.failure_percentage_request_volume as usize)
            .collect();
        if judged.len() >= rules.failure_percentage_minimum_hosts as usize {
            for id in judged {
                if failed(&intervals[id]) {
                    self.eject(rules, id, now, rules.enforcing_failure_percentage);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Request(usize, u16),
    Tick(u64),
}

const HOSTS: usize = 4;

fn events() -> impl Strategy<Value = Vec<Event>> {
    let status = prop::sample::select(vec![200_u16, 404, 500, 502, 503, 503, 503]);
    let event = prop_oneof![
        8 => (0..HOSTS, status).prop_map(|(host, status)| Event::Request(host, status)),
        1 => (1_u64..30).prop_map(Event::Tick),
    ];
    prop::collection::vec(event, 1..200)
}

fn rules() -> impl Strategy<Value = OutlierDetection> {
    let counts = (1_u32..5, 1_u32..5, prop::bool::ANY, prop::bool::ANY);
    let shares = (0_u32..=100, prop::bool::ANY, prop::bool::ANY, 1_u32..6);
    (counts, shares).prop_map(|((errors, gateway, enforce, enforce_gateway), shares)| {
        let (percent, one, enforce_percentage, volume) = shares;
        let enforcing = |yes: bool| if yes { 100 } else { 0 };
        OutlierDetection {
            consecutive_5xx: errors,
            consecutive_gateway_failure: gateway,
            enforcing_consecutive_5xx: enforcing(enforce),
            enforcing_consecutive_gateway_failure: enforcing(enforce_gateway),
            max_ejection_percent: percent,
            always_eject_one_host: one,
            enforcing_success_rate: 0,
            enforcing_failure_percentage: enforcing(enforce_percentage),
            failure_percentage_minimum_hosts: 2,
            failure_percentage_request_volume: volume,
            failure_percentage_threshold: 60,
            base_ejection_time: secs(7),
            max_ejection_time: secs(20),
            ..OutlierDetection::default()
        }
    })
}

proptest! {
    #[test]
    fn the_detector_agrees_with_the_model(rules in rules(), events in events()) {
        let mut model = Model { hosts: vec![History::default(); HOSTS] };
        let mut detector = detector(HOSTS as u64);
        let monitors: Vec<Monitor> = (0..HOSTS).map(|_| Monitor::default()).collect();
        let mut now = 0;
        for event in events {
            match event {
                Event::Request(id, status) => {
                    model.request(&rules, id, status, now);
                    for cause in monitors[id].note(&rules, Seen::Status(status)) {
                        monitors[id].restart(cause);
                        detector.reached(&rules, (id as u64, cause), secs(now), &mut always);
                    }
                }
                Event::Tick(after) => {
                    now += after;
                    model.tick(&rules, now);
                    let samples: Vec<_> = monitors
                        .iter()
                        .enumerate()
                        .map(|(id, monitor)| { let (answers, local) = monitor.take(); (id as u64, answers, local) })
                        .collect();
                    for change in detector.tick(&rules, &samples, secs(now), &mut always) {
                        if let Change::Return(id) = change {
                            monitors[id as usize].restart_all();
                        }
                    }
                }
            }
            for (id, host) in model.hosts.iter().enumerate() {
                prop_assert_eq!(detector.is_ejected(id as u64), host.out_since.is_some(), "host {} at {}", id, now);
            }
        }
    }
}
