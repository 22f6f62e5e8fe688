//! Outliers by their rates: success rate against the spread of the others, and plain failure percentage.

use pomerium_config::settings::OutlierDetection;

use super::detector::HostId;
use super::monitor::{Cause, Sample};

/// The hosts whose rates of the last interval are too bad. `hosts`: how many the cluster has; `rates`:
/// those of the hosts that are in and had requests; `local`: connections instead of answers.
pub fn outliers(
    rules: &OutlierDetection,
    hosts: usize,
    rates: &[(HostId, Sample)],
    local: bool,
) -> Vec<(HostId, Cause)> {
    if local && !rules.split_external_local_origin_errors {
        return Vec::new();
    }
    let mut found = by_spread(rules, hosts, rates, local);
    found.extend(by_percentage(rules, hosts, rates, local));
    found
}

fn by_spread(
    rules: &OutlierDetection,
    hosts: usize,
    rates: &[(HostId, Sample)],
    local: bool,
) -> Vec<(HostId, Cause)> {
    let cause = if local {
        Cause::LocalOriginSuccessRate
    } else {
        Cause::SuccessRate
    };
    let minimum = rules.success_rate_minimum_hosts as usize;
    let judged = enough(rates, rules.success_rate_request_volume);
    if hosts < minimum || judged.is_empty() || judged.len() < minimum {
        return Vec::new();
    }
    let Some(limit) = spread_limit(&judged, rules.success_rate_stdev_factor) else {
        return Vec::new();
    };
    let below = judged.into_iter().filter(|(_, rate)| *rate < limit);
    below.map(|(id, _)| (id, cause)).collect()
}

fn by_percentage(
    rules: &OutlierDetection,
    hosts: usize,
    rates: &[(HostId, Sample)],
    local: bool,
) -> Vec<(HostId, Cause)> {
    let cause = if local {
        Cause::LocalOriginFailurePercentage
    } else {
        Cause::FailurePercentage
    };
    let minimum = rules.failure_percentage_minimum_hosts as usize;
    let judged = enough(rates, rules.failure_percentage_request_volume);
    if hosts < minimum || judged.is_empty() || judged.len() < minimum {
        return Vec::new();
    }
    let threshold = f64::from(rules.failure_percentage_threshold);
    let above = judged.into_iter().filter(|(_, rate)| 100.0 - rate >= threshold);
    above.map(|(id, _)| (id, cause)).collect()
}

/// Success rates in percent of the hosts with enough requests to be judged.
fn enough(rates: &[(HostId, Sample)], volume: u32) -> Vec<(HostId, f64)> {
    rates
        .iter()
        .filter(|(_, sample)| sample.total > 0 && sample.total >= u64::from(volume))
        .map(|(id, sample)| (*id, percent(*sample)))
        .collect()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "requests of one interval: far below 2^52"
)]
fn percent(sample: Sample) -> f64 {
    sample.good as f64 * 100.0 / sample.total as f64
}

/// Mean minus `factor` thousandths of the standard deviation (of the population).
#[allow(clippy::cast_precision_loss, reason = "hosts of one cluster: far below 2^52")]
fn spread_limit(judged: &[(HostId, f64)], factor: u32) -> Option<f64> {
    let count = judged.len() as f64;
    if judged.is_empty() {
        return None;
    }
    let mean = judged.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = judged.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    Some(mean - f64::from(factor) / 1000.0 * variance.sqrt())
}
