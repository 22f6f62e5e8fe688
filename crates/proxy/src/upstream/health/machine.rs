//! One check of one host as a pure state machine: results in, the state of the host and the pause before
//! the next probe out. No clock, no I/O; chance comes in as an argument.
//!
//! Semantics: Envoy 1.37, `config.core.v3.HealthCheck`. The first result decides at once. An answer that
//! says "no" (a wrong status, a missing text, a gRPC status other than SERVING) makes a host unhealthy at
//! once; no answer at all (refused, reset, timed out) and retriable statuses count towards
//! `unhealthy_threshold`.

use std::time::Duration;

use pomerium_config::settings::HealthCheck;

/// A number below its argument, at random; 0 for 0.
pub type Below<'a> = &'a mut dyn FnMut(u64) -> u64;

/// What one probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// As expected.
    Good,
    /// No answer, or one that may be better next time.
    Silent,
    /// An answer that says that the host must not be used.
    Bad,
}

/// What follows from a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The state it changed to; `None` when it stays.
    pub changed: Option<bool>,
    /// Pause before the next probe, chance included.
    pub pause: Duration,
}

/// The state of one check of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Machine {
    /// `None` until the first result.
    healthy: Option<bool>,
    good_in_a_row: u32,
    bad_in_a_row: u32,
}

impl Machine {
    /// What the host is; `None` until the first result.
    pub fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// Pause before the first probe.
    pub fn first_pause(check: &HealthCheck, below: Below<'_>) -> Duration {
        Duration::from_millis(below(millis(check.initial_jitter)))
    }

    /// Takes a result. `traffic`: a connection was made for a request of this cluster, ever.
    pub fn result(&mut self, check: &HealthCheck, finding: Finding, traffic: bool, below: Below<'_>) -> Step {
        let (changed, pending) = match finding {
            Finding::Good => self.good(check.healthy_threshold),
            Finding::Silent => self.bad(check.unhealthy_threshold),
            Finding::Bad => self.bad(1),
        };
        let base = base(check, finding == Finding::Good, pending, traffic);
        Step {
            changed,
            pause: jittered(check, base, below),
        }
    }

    fn good(&mut self, threshold: u32) -> (Option<bool>, bool) {
        self.bad_in_a_row = 0;
        if self.healthy == Some(true) {
            return (None, false);
        }
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        if self.healthy.is_none() || self.good_in_a_row >= threshold {
            self.healthy = Some(true);
            return (Some(true), false);
        }
        (None, true)
    }

    fn bad(&mut self, threshold: u32) -> (Option<bool>, bool) {
        self.good_in_a_row = 0;
        if self.healthy == Some(false) {
            return (None, false);
        }
        self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
        if self.healthy.is_none() || self.bad_in_a_row >= threshold {
            self.healthy = Some(false);
            return (Some(false), false);
        }
        (None, true)
    }
}

/// The interval after a result. `pending`: the state is about to change, the threshold is not reached.
fn base(check: &HealthCheck, good: bool, pending: bool, traffic: bool) -> Duration {
    let unhealthy = check.unhealthy_interval.unwrap_or(check.interval);
    match (traffic, good, pending) {
        (true, true, false) => check.interval,
        (true, true, true) => check.healthy_edge_interval.unwrap_or(check.interval),
        (true, false, false) => unhealthy,
        (true, false, true) => check.unhealthy_edge_interval.unwrap_or(unhealthy),
        (false, true, false) => check
            .no_traffic_healthy_interval
            .unwrap_or(check.no_traffic_interval),
        (false, _, _) => check.no_traffic_interval,
    }
}

fn jittered(check: &HealthCheck, base: Duration, below: Below<'_>) -> Duration {
    let percent = millis(base).saturating_mul(u64::from(check.interval_jitter_percent)) / 100;
    let extra = below(percent).saturating_add(below(millis(check.interval_jitter)));
    base.saturating_add(Duration::from_millis(extra))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use pomerium_config::settings::Probe;
    use proptest::prelude::*;

    use super::*;

    fn check(unhealthy: u32, healthy: u32) -> HealthCheck {
        let seconds = Duration::from_secs;
        HealthCheck {
            timeout: seconds(1),
            interval: seconds(10),
            initial_jitter: Duration::ZERO,
            interval_jitter: Duration::ZERO,
            interval_jitter_percent: 0,
            unhealthy_threshold: unhealthy,
            healthy_threshold: healthy,
            alt_port: None,
            reuse_connection: true,
            no_traffic_interval: seconds(60),
            no_traffic_healthy_interval: Some(seconds(90)),
            unhealthy_interval: Some(seconds(20)),
            unhealthy_edge_interval: Some(seconds(3)),
            healthy_edge_interval: Some(seconds(4)),
            log_failures: false,
            log_successes: false,
            probe: Probe::Tcp {
                send: Vec::new(),
                receive: Vec::new(),
            },
        }
    }

    fn never(_: u64) -> u64 {
        0
    }

    fn run(check: &HealthCheck, findings: &[Finding], traffic: bool) -> Vec<(Option<bool>, u64)> {
        let mut machine = Machine::default();
        findings
            .iter()
            .map(|finding| {
                let step = machine.result(check, *finding, traffic, &mut never);
                (step.changed, step.pause.as_secs())
            })
            .collect()
    }

    #[test]
    fn the_first_result_decides_at_once() {
        use Finding::{Bad, Good, Silent};
        assert_eq!(run(&check(5, 5), &[Good], true), [(Some(true), 10)]);
        assert_eq!(run(&check(5, 5), &[Silent], true), [(Some(false), 20)]);
        assert_eq!(run(&check(5, 5), &[Bad], true), [(Some(false), 20)]);
        assert_eq!(Machine::default().healthy(), None);
    }

    #[test]
    fn silence_counts_and_a_bad_answer_does_not_wait() {
        use Finding::{Bad, Good, Silent};
        assert_eq!(
            run(&check(3, 2), &[Good, Silent, Silent, Silent, Silent], true),
            [
                (Some(true), 10),
                (None, 3),
                (None, 3),
                (Some(false), 20),
                (None, 20)
            ]
        );
        assert_eq!(
            run(&check(3, 2), &[Good, Bad], true),
            [(Some(true), 10), (Some(false), 20)]
        );
    }

    #[test]
    fn a_good_probe_between_starts_the_count_over() {
        use Finding::{Good, Silent};
        let steps = run(&check(2, 2), &[Good, Silent, Good, Silent, Silent], true);
        let changes: Vec<_> = steps.iter().map(|(changed, _)| *changed).collect();
        assert_eq!(changes, [Some(true), None, None, None, Some(false)]);
    }

    #[test]
    fn recovery_goes_over_the_edge_interval() {
        use Finding::{Good, Silent};
        assert_eq!(
            run(&check(1, 3), &[Silent, Good, Good, Good, Good], true),
            [
                (Some(false), 20),
                (None, 4),
                (None, 4),
                (Some(true), 10),
                (None, 10)
            ]
        );
    }

    #[test]
    fn without_traffic_the_long_intervals_hold() {
        use Finding::{Good, Silent};
        assert_eq!(
            run(&check(2, 2), &[Good, Silent, Silent, Good], false),
            [(Some(true), 90), (None, 60), (Some(false), 60), (None, 60)]
        );
        let mut plain = check(1, 1);
        plain.no_traffic_healthy_interval = None;
        assert_eq!(run(&plain, &[Good], false), [(Some(true), 60)]);
    }

    #[test]
    fn unset_intervals_fall_back() {
        use Finding::{Good, Silent};
        let mut plain = check(2, 2);
        plain.unhealthy_interval = None;
        plain.unhealthy_edge_interval = None;
        plain.healthy_edge_interval = None;
        let pauses: Vec<_> = run(&plain, &[Good, Silent, Silent, Good, Good], true)
            .iter()
            .map(|(_, pause)| *pause)
            .collect();
        assert_eq!(pauses, [10; 5]);
        plain.unhealthy_interval = Some(Duration::from_secs(7));
        let edge = run(&plain, &[Good, Silent], true);
        assert_eq!(
            edge.last(),
            Some(&(None, 7)),
            "the edge falls back to the unhealthy interval"
        );
    }

    #[test]
    fn chance_is_added_in_both_ways() {
        let mut jumpy = check(1, 1);
        jumpy.interval_jitter = Duration::from_secs(2);
        jumpy.interval_jitter_percent = 50;
        jumpy.initial_jitter = Duration::from_secs(9);
        let mut most = |below: u64| below.saturating_sub(1);
        let step = Machine::default().result(&jumpy, Finding::Good, true, &mut most);
        assert_eq!(step.pause, Duration::from_millis(10_000 + 4_999 + 1_999));
        assert_eq!(
            Machine::first_pause(&jumpy, &mut most),
            Duration::from_millis(8_999)
        );
        assert_eq!(Machine::first_pause(&check(1, 1), &mut most), Duration::ZERO);
    }

    proptest! {
        /// The state is what the latest run of equal results says, by the definition of the thresholds.
        #[test]
        fn the_state_follows_from_the_runs(
            results in prop::collection::vec(0_u8..3, 1..60),
            unhealthy in 1_u32..5,
            healthy in 1_u32..5,
        ) {
            let check = check(unhealthy, healthy);
            let mut machine = Machine::default();
            let findings: Vec<_> = results
                .iter()
                .map(|number| [Finding::Good, Finding::Silent, Finding::Bad][usize::from(*number)])
                .collect();
            let mut model: Option<bool> = None;
            for (at, finding) in findings.iter().enumerate() {
                let good = |finding: &Finding| *finding == Finding::Good;
                let run = findings[..=at].iter().rev().take_while(|other| good(other) == good(finding)).count();
                let enough = match finding {
                    Finding::Good => run >= healthy as usize,
                    Finding::Silent => run >= unhealthy as usize,
                    Finding::Bad => true,
                };
                let before = model;
                if model.is_none() || enough {
                    model = Some(good(finding));
                }
                let step = machine.result(&check, *finding, true, &mut never);
                prop_assert_eq!(machine.healthy(), model);
                prop_assert_eq!(step.changed, if before == model { None } else { model });
            }
        }
    }
}
