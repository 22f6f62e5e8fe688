use std::time::Duration;

use pomerium_config::settings::{HealthCheck, HttpProbe, Probe};

use super::{assert_problem, load, routed};

const TIMES: &str = "timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 2";

fn with(rest: &str) -> String {
    routed(&format!("health_checks: [{{{TIMES}, {rest}}}]"))
}

fn one(rest: &str) -> HealthCheck {
    let found = load(&with(rest));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    found.route().balance.health_checks[0].clone()
}

#[test]
fn http() {
    let check = one(
        "http_health_check: {path: '/healthz?a=b', host: up.example.com, send: {text: '4f4B'}, \
         receive: [{binary: b2s=}, {text: 6f6b}], response_buffer_size: 2048, \
         request_headers_to_remove: [User-Agent], expected_statuses: [{start: 200, end: 300}, {start: '401', end: 402}], \
         retriable_statuses: [{start: 500, end: 600}], codec_client_type: HTTP2}",
    );
    let wanted = HttpProbe {
        host: "up.example.com".into(),
        path: "/healthz?a=b".into(),
        send: b"OK".to_vec(),
        receive: vec![b"ok".to_vec(), b"ok".to_vec()],
        response_buffer_size: 2048,
        remove_headers: vec![http::header::USER_AGENT],
        expected: vec![(200, 300), (401, 402)],
        retriable: vec![(500, 600)],
        http2: true,
    };
    assert_eq!(check.probe, Probe::Http(wanted));
    assert_eq!(
        (check.timeout, check.interval),
        (Duration::from_secs(1), Duration::from_secs(5))
    );
    assert_eq!((check.unhealthy_threshold, check.healthy_threshold), (3, 2));
    assert!(check.reuse_connection);
    assert_eq!(check.no_traffic_interval, Duration::from_secs(60));
    assert_eq!((check.alt_port, check.unhealthy_interval), (None, None));
}

#[test]
fn tcp_grpc_and_all_the_times() {
    let check = one(
        "initial_jitter: 1s, interval_jitter: 2s, interval_jitter_percent: 10, alt_port: 8081, \
         reuse_connection: false, no_traffic_interval: 30s, no_traffic_healthy_interval: 31s, \
         unhealthy_interval: 32s, unhealthy_edge_interval: 33s, healthy_edge_interval: 34s, \
         always_log_health_check_failures: true, always_log_health_check_success: true, \
         tcp_health_check: {send: {text: '00ff'}, receive: [{text: '01'}]}",
    );
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(
        check.probe,
        Probe::Tcp {
            send: vec![0, 255],
            receive: vec![vec![1]]
        }
    );
    assert_eq!(
        (Some(check.initial_jitter), Some(check.interval_jitter)),
        (seconds(1), seconds(2))
    );
    assert_eq!((check.interval_jitter_percent, check.alt_port), (10, Some(8081)));
    assert!(!check.reuse_connection && check.log_failures && check.log_successes);
    assert_eq!(Some(check.no_traffic_interval), seconds(30));
    assert_eq!(check.no_traffic_healthy_interval, seconds(31));
    assert_eq!(check.unhealthy_interval, seconds(32));
    assert_eq!(check.unhealthy_edge_interval, seconds(33));
    assert_eq!(check.healthy_edge_interval, seconds(34));
    let grpc = one("grpc_health_check: {service_name: a.B, authority: up}");
    assert_eq!(
        grpc.probe,
        Probe::Grpc {
            service_name: "a.B".into(),
            authority: "up".into()
        }
    );
    assert_eq!(
        one("tcp_health_check: {}").probe,
        Probe::Tcp {
            send: vec![],
            receive: vec![]
        }
    );
}

#[test]
fn camel_case_counts_too() {
    let text = "health_checks: [{timeout: 1s, interval: 5s, unhealthyThreshold: 3, healthyThreshold: 2, \
                httpHealthCheck: {path: /x, expectedStatuses: [{start: 204, end: 205}]}}]";
    let found = load(&routed(text));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let Probe::Http(probe) = &found.route().balance.health_checks[0].probe else {
        panic!()
    };
    assert_eq!(probe.expected, [(204, 205)]);
}

#[test]
fn what_is_missing_is_named() {
    let found = load(&routed("health_checks: [{timeout: 1s, tcp_health_check: {}}]"));
    let keys: Vec<_> = found.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(
        keys,
        [
            "`interval` is missing",
            "`unhealthy_threshold` is missing",
            "`healthy_threshold` is missing"
        ]
    );
    let none = routed(&format!("health_checks: [{{{TIMES}}}]"));
    assert_problem(
        &none,
        &[
            "needs a probe",
            "http_health_check, tcp_health_check, grpc_health_check",
        ],
    );
    assert_problem(
        &with("http_health_check: {}"),
        &["a path that begins with / is needed"],
    );
    assert_problem(
        &with("tcp_health_check: {}, http_health_check: {path: /}"),
        &["one probe only"],
    );
}

#[test]
fn what_is_wrong_is_told_at_its_line() {
    assert_problem(
        &with("custom_health_check: {name: x}"),
        &["no such kind of probe", "use http_health_check"],
    );
    assert_problem(&with("tcp_health_check: {send: {text: xyz}}"), &["hex digits"]);
    assert_problem(&with("tcp_health_check: {send: {text: abc}}"), &["hex digits"]);
    assert_problem(
        &with("tcp_health_check: {receive: [ab]}"),
        &["receive[0]", "either `text` or `binary`"],
    );
    assert_problem(
        &with("tcp_health_check: {}, alt_port: 70000"),
        &["alt_port: 70000 is out of range"],
    );
    assert_problem(
        &with("tcp_health_check: {}, reuse_connection: 'yes'"),
        &["expected true or false, found \"yes\""],
    );
    assert_problem(
        &with("tcp_health_check: {}, initial_jitter: -1s"),
        &["must not be negative"],
    );
    assert_problem(
        &with("http_health_check: {path: 5}"),
        &["expected text, found 5", "path"],
    );
    let statuses = with("http_health_check: {path: /, expected_statuses: [{start: 300, end: 200}]}");
    assert_problem(&statuses, &["expected_statuses[0]", "invalid http status range"]);
    assert_problem(
        &with("http_health_check: {path: /, codec_client_type: SPDY}"),
        &["unsupported enum value SPDY"],
    );
    assert_problem(
        &routed("health_checks: often"),
        &["expected a list of health checks"],
    );
    let times =
        "timeout: 5, interval: 5s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}";
    assert_problem(
        &routed(&format!("health_checks: [{{{times}}}]")),
        &["config.yaml:5:29: routes[0].health_checks[0].timeout: expected a duration such as 5s, found 5"],
    );
}

#[test]
fn what_is_not_built_is_refused_and_what_is_unknown_told() {
    let found = load(&with("http_health_check: {path: /, codec_client_type: HTTP3}"));
    assert!(
        found
            .refusals
            .iter()
            .any(|refusal| refusal.why.contains("HTTP/3"))
    );
    let found = load(&with(
        "tcp_health_check: {}, transport_socket_match_criteria: {a: b}",
    ));
    assert!(
        found
            .refusals
            .iter()
            .any(|r| r.key.ends_with("transport_socket_match_criteria"))
    );
    let found = load(&with("tcp_health_check: {}, reuse_conection: false"));
    assert!(found.warned("did you mean `reuse_connection`?"));
}
