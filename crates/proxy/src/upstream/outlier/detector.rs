//! Who is ejected, for how long, and who comes back: pure, with time and chance as arguments.
//!
//! Semantics: Envoy 1.37, "Outlier detection". Time is a [`Duration`] since any fixed moment.

use std::collections::BTreeMap;
use std::time::Duration;

use pomerium_config::settings::OutlierDetection;

use super::monitor::{Cause, Sample};
use super::rates;
use crate::upstream::health::Below;

/// Names a host within its cluster.
pub type HostId = u64;

/// What is to be done to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is out, for this reason, for the time given (it comes back at the first interval after it).
    Eject(HostId, Cause, Duration),
    /// It is back, and its counts start over.
    Return(HostId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Member {
    /// When and for how much longer than usual it was ejected; `None`: it is in.
    out: Option<(Duration, Duration)>,
    /// How many times the base time it is out for; falls by one in each interval in which it is in.
    backoff: u32,
}

/// The hosts of one cluster and who of them is ejected.
#[derive(Debug, Default)]
pub struct Detector {
    members: BTreeMap<HostId, Member>,
}

impl Detector {
    /// Takes the hosts there are now. Those that stay keep their state; those that are gone are forgotten.
    pub fn members(&mut self, now: impl IntoIterator<Item = HostId>) {
        let before = std::mem::take(&mut self.members);
        for id in now {
            self.members
                .insert(id, before.get(&id).copied().unwrap_or_default());
        }
    }

    /// Whether a host is out.
    pub fn is_ejected(&self, id: HostId) -> bool {
        self.members.get(&id).is_some_and(|member| member.out.is_some())
    }

    /// A consecutive count was reached at `id`.
    pub fn reached(
        &mut self,
        rules: &OutlierDetection,
        (id, cause): (HostId, Cause),
        now: Duration,
        below: Below<'_>,
    ) -> Option<Change> {
        self.eject(rules, (id, cause), now, below)
    }

    /// The end of an interval: who comes back, and who is out by its rates. `samples` are the counts of
    /// the interval: answers, then connections.
    pub fn tick(
        &mut self,
        rules: &OutlierDetection,
        samples: &[(HostId, Sample, Sample)],
        now: Duration,
        below: Below<'_>,
    ) -> Vec<Change> {
        let mut changes = self.returning(rules, now);
        for local in [false, true] {
            let rates: Vec<(HostId, Sample)> = samples
                .iter()
                .filter(|(id, _, _)| self.members.contains_key(id) && !self.is_ejected(*id))
                .map(|(id, answers, connections)| (*id, if local { *connections } else { *answers }))
                .filter(|(_, sample)| sample.total > 0)
                .collect();
            for outlier in rates::outliers(rules, self.members.len(), &rates, local) {
                changes.extend(self.eject(rules, outlier, now, below));
            }
        }
        changes
    }

    /// A host has passed an active check and is healthy.
    pub fn passed(&mut self, rules: &OutlierDetection, id: HostId) -> Option<Change> {
        if !rules.successful_active_health_check_uneject_host {
            return None;
        }
        let member = self.members.get_mut(&id)?;
        member.out.take().map(|_| Change::Return(id))
    }

    fn returning(&mut self, rules: &OutlierDetection, now: Duration) -> Vec<Change> {
        let mut back = Vec::new();
        for (id, member) in &mut self.members {
            match member.out {
                None => member.backoff = member.backoff.saturating_sub(1),
                Some((since, jitter)) => {
                    let term = term(rules, member.backoff).saturating_add(jitter);
                    if now.saturating_sub(since) >= term {
                        member.out = None;
                        back.push(Change::Return(*id));
                    }
                }
            }
        }
        back
    }

    fn eject(
        &mut self,
        rules: &OutlierDetection,
        (id, cause): (HostId, Cause),
        now: Duration,
        below: Below<'_>,
    ) -> Option<Change> {
        let out = self
            .members
            .values()
            .filter(|member| member.out.is_some())
            .count();
        let total = self.members.len();
        let member = self.members.get_mut(&id)?;
        let room = (out + 1) * 100 <= total * rules.max_ejection_percent.min(100) as usize
            || (rules.always_eject_one_host && out == 0);
        if member.out.is_some() || !room || below(100) >= u64::from(enforcing(rules, cause)) {
            return None;
        }
        let longest = longest(rules);
        if rules.base_ejection_time.saturating_mul(member.backoff)
            < longest.saturating_add(rules.base_ejection_time)
        {
            member.backoff = member.backoff.saturating_add(1);
        }
        let jitter = u64::try_from(rules.max_ejection_time_jitter.as_millis()).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(below(jitter.saturating_add(u64::from(jitter > 0))));
        member.out = Some((now, jitter));
        let term = term(rules, member.backoff).saturating_add(jitter);
        Some(Change::Eject(id, cause, term))
    }
}

/// How long a host with this backoff is out.
fn term(rules: &OutlierDetection, backoff: u32) -> Duration {
    rules
        .base_ejection_time
        .saturating_mul(backoff)
        .min(longest(rules))
}

/// A base time above the longest one counts as the longest.
fn longest(rules: &OutlierDetection) -> Duration {
    rules.max_ejection_time.max(rules.base_ejection_time)
}

fn enforcing(rules: &OutlierDetection, cause: Cause) -> u32 {
    match cause {
        Cause::Consecutive5xx => rules.enforcing_consecutive_5xx,
        Cause::GatewayFailure => rules.enforcing_consecutive_gateway_failure,
        Cause::LocalOrigin => rules.enforcing_consecutive_local_origin_failure,
        Cause::SuccessRate => rules.enforcing_success_rate,
        Cause::LocalOriginSuccessRate => rules.enforcing_local_origin_success_rate,
        Cause::FailurePercentage => rules.enforcing_failure_percentage,
        Cause::LocalOriginFailurePercentage => rules.enforcing_failure_percentage_local_origin,
    }
}
