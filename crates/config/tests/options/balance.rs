use std::time::Duration;

use pomerium_config::settings::{Balance, CircuitBreakers, LoadBalancing, OutlierDetection, PanicThreshold};

use super::{assert_problem, load, routed};

#[test]
fn choice_and_panic() {
    for (text, policy) in [
        ("ROUND_ROBIN", LoadBalancing::RoundRobin),
        ("load_balancing_policy_maglev", LoadBalancing::Maglev),
        ("Random", LoadBalancing::Random),
        ("ring_hash", LoadBalancing::RingHash),
        ("least_request", LoadBalancing::LeastRequest),
        ("unspecified", LoadBalancing::RoundRobin),
    ] {
        let found = load(&routed(&format!("load_balancing_policy: {text}")));
        assert_eq!(found.route().balance.policy, policy, "{text}");
    }
    let found = load(&routed("healthy_panic_threshold: 0"));
    assert_eq!(found.route().balance.panic_threshold, PanicThreshold(0));
    assert_eq!(*load(&routed("")).route().balance, Balance::default());
    assert_problem(
        &routed("load_balancing_policy: best"),
        &["unsupported enum value best", "one of round_robin"],
    );
    assert_problem(&routed("healthy_panic_threshold: 101"), &["101 is no percentage"]);
    assert_problem(&routed("healthy_panic_threshold: '50'"), &["without quotes"]);
}

#[test]
fn breakers_are_overridden_field_by_field() {
    let global = "circuit_breaker_thresholds: {max_connections: 10, max_requests: 20}\n";
    let found = load(&format!(
        "{global}{}",
        routed("circuit_breaker_thresholds: {max_requests: 5, max_retries: 0}")
    ));
    let wanted = CircuitBreakers {
        max_connections: 10,
        max_pending_requests: 1024,
        max_requests: 5,
        max_retries: 0,
    };
    assert_eq!(found.route().balance.breakers, wanted);
    assert_problem(
        &routed("circuit_breaker_thresholds: {max_requests: '5'}"),
        &["routes[0].circuit_breaker_thresholds.max_requests"],
    );
    assert_problem(
        "circuit_breaker_thresholds: {max_connections: -1}\n",
        &["max_connections"],
    );
}

#[test]
fn outlier_detection_fills_the_rest() {
    let found = load(&routed("outlier_detection: {}"));
    assert_eq!(
        found.route().balance.outlier_detection,
        Some(OutlierDetection::default())
    );
    let found = load(&routed(
        "outlier_detection:\n  consecutive_5xx: 3\n  interval: 2.5s\n  baseEjectionTime: 600s\n  \
         max_ejection_percent: '50'\n  split_external_local_origin_errors: true\n  always_eject_one_host: true\n  \
         successful_active_health_check_uneject_host: false",
    ));
    let wanted = OutlierDetection {
        consecutive_5xx: 3,
        interval: Duration::from_millis(2500),
        base_ejection_time: Duration::from_secs(600),
        max_ejection_percent: 50,
        split_external_local_origin_errors: true,
        always_eject_one_host: true,
        successful_active_health_check_uneject_host: false,
        max_ejection_time: Duration::from_secs(600),
        ..OutlierDetection::default()
    };
    assert_eq!(found.route().balance.outlier_detection, Some(wanted));
}

#[test]
fn every_number_of_outlier_detection_is_read() {
    let names = [
        "consecutive_5xx",
        "max_ejection_percent",
        "enforcing_consecutive_5xx",
        "consecutive_gateway_failure",
        "enforcing_consecutive_gateway_failure",
        "enforcing_success_rate",
        "success_rate_minimum_hosts",
        "success_rate_request_volume",
        "success_rate_stdev_factor",
        "consecutive_local_origin_failure",
        "enforcing_consecutive_local_origin_failure",
        "enforcing_local_origin_success_rate",
        "failure_percentage_threshold",
        "enforcing_failure_percentage",
        "enforcing_failure_percentage_local_origin",
        "failure_percentage_minimum_hosts",
        "failure_percentage_request_volume",
    ];
    for name in names {
        let found = load(&routed(&format!("outlier_detection: {{{name}: 77}}")));
        let printed = format!("{:?}", found.route().balance.outlier_detection.as_ref().unwrap());
        assert!(printed.contains(&format!("{name}: 77")), "{name}: {printed}");
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        assert_problem(
            &routed(&format!("outlier_detection: {{{name}: many}}")),
            &[name, "expected a whole number"],
        );
    }
    for name in [
        "interval",
        "base_ejection_time",
        "max_ejection_time",
        "max_ejection_time_jitter",
    ] {
        let found = load(&routed(&format!("outlier_detection: {{{name}: 77s}}")));
        let printed = format!("{:?}", found.route().balance.outlier_detection.as_ref().unwrap());
        assert!(printed.contains(&format!("{name}: 77s")), "{name}: {printed}");
    }
}

#[test]
fn outlier_detection_that_is_wrong() {
    assert_problem(
        &routed("outlier_detection: [a]"),
        &["routes[0].outlier_detection", "expected a map"],
    );
    assert_problem(
        &routed("outlier_detection: {interval: 10}"),
        &["config.yaml:5:33: routes[0].outlier_detection.interval: expected a duration such as 5s, found 10"],
    );
    assert_problem(
        &routed("outlier_detection: {interval: 0s}"),
        &["must be more than zero"],
    );
    assert_problem(
        &routed("outlier_detection: {max_ejection_percent: 101}"),
        &["expected 0 to 100"],
    );
    assert_problem(
        &routed("outlier_detection: {always_eject_one_host: 1}"),
        &["expected true or false, found 1"],
    );
    let found = load(&routed("outlier_detection: {consecutive_5x: 3}"));
    assert!(found.warned("routes[0].outlier_detection.consecutive_5x: unknown option"));
    assert!(found.warned("did you mean `consecutive_5xx`?"));
}

#[test]
fn renegotiation_is_refused_with_the_reason() {
    let found = load(&routed("tls_upstream_allow_renegotiation: true"));
    let [refusal] = found.refusals.as_slice() else {
        panic!("{:?}", found.refusals)
    };
    assert_eq!(refusal.key, "routes[0].tls_upstream_allow_renegotiation");
    assert!(refusal.why.contains("TLS library"), "{refusal}");
    assert!(
        load(&routed("tls_upstream_allow_renegotiation: false"))
            .refusals
            .is_empty()
    );
}

#[test]
fn one_more_server_name() {
    let found = load(&routed("tls_downstream_server_name: Other.Example.com"));
    assert_eq!(
        found.route().downstream_server_name.as_deref(),
        Some("other.example.com")
    );
    assert_eq!(load(&routed("")).route().downstream_server_name, None);
}
