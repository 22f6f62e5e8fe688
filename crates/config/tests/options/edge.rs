use std::net::SocketAddr;
use std::time::Duration;

use pomerium_config::settings::{DnsFamily, DnsServer, DnsSettings, RateKey, RateLimit, UpstreamBind};

use super::{Site, assert_problem, load, routed};

#[test]
fn proxy_protocol_and_the_derived_authority() {
    let found = load("use_proxy_protocol: true\ntls_derive: Internal.Example.com\n");
    let settings = found.settings();
    assert!(settings.listener.proxy_protocol);
    assert_eq!(settings.tls_derive.as_deref(), Some("internal.example.com"));
    assert!(settings.fallback_certificate);
    let plain = load("{}\n");
    assert!(!plain.settings().listener.proxy_protocol && plain.settings().tls_derive.is_none());
}

#[test]
fn rate_limits_of_all_routes_and_of_one() {
    let global = "rate_limit: {requests: 100, per: 1m, burst: 20, key: user}\n";
    let wanted = RateLimit {
        requests: 100,
        per: Duration::from_secs(60),
        burst: 20,
        key: RateKey::User,
    };
    let found = load(&format!("{global}{}", routed("")));
    assert_eq!(found.settings().rate_limit, Some(wanted));
    assert_eq!(found.route().rate_limit, Some(wanted));
    let own = load(&format!("{global}{}", routed("rate_limit: {requests: 5}")));
    let wanted = RateLimit {
        requests: 5,
        per: Duration::from_secs(1),
        burst: 5,
        key: RateKey::Client,
    };
    assert_eq!(own.route().rate_limit, Some(wanted));
    let env = Site::new().load_with("{}\n", &[("RATE_LIMIT", r#"{"requests": 7, "key": "route"}"#)]);
    let limit = env.settings().rate_limit.unwrap();
    assert_eq!((limit.requests, limit.key), (7, RateKey::Route));
    assert_eq!(load("{}\n").settings().rate_limit, None);
}

#[test]
fn rate_limits_that_are_none() {
    assert_problem(
        "rate_limit: {requests: 0}\n",
        &["config.yaml:1:24: rate_limit.requests: zero", "help: at least 1"],
    );
    assert_problem("rate_limit: {per: 1s}\n", &["rate_limit: `requests` is missing"]);
    assert_problem(
        "rate_limit: {requests: 1, per: 0s}\n",
        &["rate_limit.per: the period is zero"],
    );
    assert_problem(
        "rate_limit: {requests: 1, burst: 0}\n",
        &["rate_limit.burst: zero"],
    );
    assert_problem(
        "rate_limit: {requests: 1, key: host}\n",
        &["enum value host", "one of client, user, route"],
    );
    assert_problem(
        &routed("rate_limit: {requests: x}"),
        &["routes[0].rate_limit.requests"],
    );
}

#[test]
fn names_of_upstreams() {
    let found = load(
        "dns_lookup_family: ALL\ndns_refresh_rate: 10s\ndns_failure_refresh_rate: 2s\ndns_query_timeout: 3s\n\
         dns_query_tries: 4\ndns_udp_max_queries: 50\ndns_use_tcp: true\n\
         dns_resolvers: ['udp://192.0.2.1:5353', 'tcp://[2001:db8::1]']\n",
    );
    let server = |address: &str, tcp| DnsServer {
        address: address.parse::<SocketAddr>().unwrap(),
        tcp,
    };
    let wanted = DnsSettings {
        family: DnsFamily::All,
        refresh_rate: Duration::from_secs(10),
        failure_refresh_rate: Some(Duration::from_secs(2)),
        query_timeout: Some(Duration::from_secs(3)),
        query_tries: Some(4),
        udp_max_queries: 50,
        use_tcp: true,
        servers: vec![server("192.0.2.1:5353", false), server("[2001:db8::1]:53", true)],
    };
    assert_eq!(found.settings().dns, wanted);
    assert_eq!(load("{}\n").settings().dns, DnsSettings::default());
    assert_eq!(
        load("dns_lookup_family: V6_ONLY\n").settings().dns.family,
        DnsFamily::V6Only
    );
    let env = Site::new().load_with("{}\n", &[("DNS_USE_TCP", "true"), ("DNS_QUERY_TRIES", "2")]);
    assert!(env.settings().dns.use_tcp && env.settings().dns.query_tries == Some(2));
}

#[test]
fn names_of_upstreams_that_cannot_be_asked() {
    assert_problem(
        "dns_resolvers: ['https://192.0.2.1']\n",
        &["dns_resolvers", "unsupported url scheme", "help: write udp://"],
    );
    assert_problem(
        "dns_resolvers: ['udp://dns.example.com:53']\n",
        &["must include an IP address"],
    );
    assert_problem("dns_resolvers: ['udp://192.0.2.1:0']\n", &["is no port"]);
    assert_problem("dns_resolvers: ['udp://192.0.2.1/x']\n", &["has no path"]);
    assert_problem(
        "dns_refresh_rate: 0s\n",
        &["dns_refresh_rate must be at least 1ms"],
    );
    assert_problem(
        "dns_failure_refresh_rate: 1us\n",
        &["dns_failure_refresh_rate must be at least 1ms"],
    );
    assert_problem(
        "dns_query_timeout: -1s\n",
        &["dns_query_timeout must be positive"],
    );
    assert_problem(
        "dns_lookup_family: V4\n",
        &["known families are: AUTO, V4_ONLY, V6_ONLY, V4_PREFERRED, ALL: V4"],
    );
    assert_problem("dns_query_tries: '3'\n", &["dns_query_tries", "without quotes"]);
    assert_eq!(load("dns_query_timeout: 0s\n").settings().dns.query_timeout, None);
}

#[test]
fn the_local_end_of_upstream_connections() {
    let found = load("envoy_bind_config_source_address: 192.0.2.7\nenvoy_bind_config_freebind: true\n");
    let wanted = UpstreamBind {
        source: Some("192.0.2.7".parse().unwrap()),
        freebind: true,
    };
    assert_eq!(found.settings().upstream_bind, wanted);
    assert_eq!(load("{}\n").settings().upstream_bind, UpstreamBind::default());
    assert_problem(
        "envoy_bind_config_source_address: eth0\n",
        &["\"eth0\" is no IP address"],
    );
    assert_problem(
        "envoy_bind_config_freebind: 'yes'\n",
        &["envoy_bind_config_freebind"],
    );
}

/// What frames a message is the proxy's own to write, wherever somebody wants to set it.
#[test]
fn headers_that_frame_messages_are_left_out() {
    for (option, name) in [
        (
            "set_response_headers: {Content-Length: '5', X-Own: a}",
            "content-length",
        ),
        (
            "set_response_headers: {Transfer-Encoding: chunked, X-Own: a}",
            "transfer-encoding",
        ),
        ("set_request_headers: {Connection: close, X-Own: a}", "connection"),
        ("set_request_headers: {Host: a.example.com, X-Own: a}", "host"),
        (
            "rewrite_response_headers: [{header: Content-Length, prefix: '', value: '1'}]",
            "content-length",
        ),
    ] {
        let found = load(&routed(option));
        assert!(
            found.warned(&format!("header {name} cannot be set")),
            "{option}: {:?}",
            found.warnings
        );
        let route = found.route();
        let response = route.set_response_headers.iter().map(|(name, _)| name);
        let request = route.set_request_headers.iter().map(|(name, _)| name);
        let rewritten = route
            .rewrite_response_headers
            .iter()
            .map(|rewrite| &rewrite.header);
        let mut all = response.chain(request).chain(rewritten);
        assert!(all.all(|header| header.as_str() != name), "{option}");
    }
    for option in [
        "set_response_headers: {Transfer-Encoding: chunked, X-Own: a}\n",
        "jwt_claims_headers: {Content-Length: email, X-Own: sub}\n",
    ] {
        let found = load(&format!("{option}{}", routed("")));
        assert!(found.warned("cannot be set"), "{option}");
        let settings = found.settings();
        let claims = settings
            .identity_headers
            .claims
            .iter()
            .map(|(name, _)| name.as_str());
        let response = found
            .route()
            .set_response_headers
            .iter()
            .map(|(name, _)| name.as_str());
        let names: Vec<&str> = claims.chain(response).collect();
        assert!(names.contains(&"x-own"), "{option}: {names:?}");
        let framing = |name: &&str| name.ends_with("encoding") || name.ends_with("length");
        assert!(!names.iter().any(framing), "{names:?}");
    }
}

#[test]
fn ports_that_are_none_are_errors() {
    let redirect = "routes:\n- from: https://app.example.com\n  redirect: {port_redirect: 70000}\n  \
                    allow_public_unauthenticated_access: true\n";
    assert_problem(redirect, &["port_redirect", "70000"]);
    assert_problem(
        &format!("http3_advertise_port: 0\n{}", routed("")),
        &["http3_advertise_port"],
    );
    let found = load(&format!("http3_advertise_port: 8443\n{}", routed("")));
    assert_eq!(found.settings().listener.http3_port, Some(8443));
}
