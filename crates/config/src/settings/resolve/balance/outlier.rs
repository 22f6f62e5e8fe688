//! `outlier_detection` (spec proxy.md 6.6).

use super::super::Cx;
use super::message::Message;
use crate::diagnostic::Stage;
use crate::settings::OutlierDetection;
use crate::spec::values::Values;

const NAME: &str = "outlier_detection";
const PERCENT: u32 = 100;

/// `{}` is the defaults; unset is off.
pub(super) fn resolve(route: &Values, cx: &mut Cx<'_>) -> Option<OutlierDetection> {
    let node = route.free(NAME)?;
    cx.shared_sink(|sink| {
        let message = Message::new(node, route.key(NAME), sink)?;
        let found = read(&message);
        message.finish();
        Some(found)
    })
}

fn read(message: &Message<'_>) -> OutlierDetection {
    let defaults = OutlierDetection::default();
    let number = |name, default| message.number(name, u32::MAX).unwrap_or(default);
    let percent = |name, default| message.number(name, PERCENT).unwrap_or(default);
    let switch = |name, default| message.switch(name).unwrap_or(default);
    let time = |name, default| {
        let given = message.duration(name);
        if given.is_some_and(|time| time.is_zero()) {
            message.error(
                name,
                Stage::DataPlane,
                "must be more than zero",
                "write for instance 10s",
            );
        }
        given.unwrap_or(default)
    };
    let base_ejection_time = time("base_ejection_time", defaults.base_ejection_time);
    OutlierDetection {
        consecutive_5xx: number("consecutive_5xx", defaults.consecutive_5xx),
        interval: time("interval", defaults.interval),
        base_ejection_time,
        max_ejection_percent: percent("max_ejection_percent", defaults.max_ejection_percent),
        enforcing_consecutive_5xx: percent("enforcing_consecutive_5xx", defaults.enforcing_consecutive_5xx),
        consecutive_gateway_failure: number(
            "consecutive_gateway_failure",
            defaults.consecutive_gateway_failure,
        ),
        enforcing_consecutive_gateway_failure: percent(
            "enforcing_consecutive_gateway_failure",
            defaults.enforcing_consecutive_gateway_failure,
        ),
        enforcing_success_rate: percent("enforcing_success_rate", defaults.enforcing_success_rate),
        success_rate_minimum_hosts: number("success_rate_minimum_hosts", defaults.success_rate_minimum_hosts),
        success_rate_request_volume: number(
            "success_rate_request_volume",
            defaults.success_rate_request_volume,
        ),
        success_rate_stdev_factor: number("success_rate_stdev_factor", defaults.success_rate_stdev_factor),
        split_external_local_origin_errors: switch("split_external_local_origin_errors", false),
        consecutive_local_origin_failure: number(
            "consecutive_local_origin_failure",
            defaults.consecutive_local_origin_failure,
        ),
        enforcing_consecutive_local_origin_failure: percent(
            "enforcing_consecutive_local_origin_failure",
            defaults.enforcing_consecutive_local_origin_failure,
        ),
        enforcing_local_origin_success_rate: percent(
            "enforcing_local_origin_success_rate",
            defaults.enforcing_local_origin_success_rate,
        ),
        failure_percentage_threshold: percent(
            "failure_percentage_threshold",
            defaults.failure_percentage_threshold,
        ),
        enforcing_failure_percentage: percent(
            "enforcing_failure_percentage",
            defaults.enforcing_failure_percentage,
        ),
        enforcing_failure_percentage_local_origin: percent(
            "enforcing_failure_percentage_local_origin",
            defaults.enforcing_failure_percentage_local_origin,
        ),
        failure_percentage_minimum_hosts: number(
            "failure_percentage_minimum_hosts",
            defaults.failure_percentage_minimum_hosts,
        ),
        failure_percentage_request_volume: number(
            "failure_percentage_request_volume",
            defaults.failure_percentage_request_volume,
        ),
        // A longer base time raises the maximum that was not given.
        max_ejection_time: time(
            "max_ejection_time",
            defaults.max_ejection_time.max(base_ejection_time),
        ),
        max_ejection_time_jitter: message
            .duration("max_ejection_time_jitter")
            .unwrap_or(defaults.max_ejection_time_jitter),
        successful_active_health_check_uneject_host: switch(
            "successful_active_health_check_uneject_host",
            true,
        ),
        always_eject_one_host: switch("always_eject_one_host", false),
    }
}
