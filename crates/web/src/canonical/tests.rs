//! Every way of saying one thing in two ways that proxies have fallen for; each must come out as one value
//! or as a refusal.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, Request, Uri, Version};

use super::*;

const PEER: &str = "203.0.113.9:5000";

fn conn(peer: &str, tls: bool) -> Connection {
    Connection {
        peer: peer.parse().unwrap(),
        tls,
        local: SocketAddr::from(([127, 0, 0, 1], 443)),
    }
}

/// A request over HTTP/1.1 with `Host: app.example.com` unless the list has one.
fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method.parse().unwrap();
    parts.uri = target.parse::<Uri>().unwrap();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        parts
            .headers
            .append("host", HeaderValue::from_static("app.example.com"));
    }
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        parts
            .headers
            .append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    parts
}

fn run(parts: &mut Parts, rules: &Rules) -> Result<CanonicalRequest, Refusal> {
    canonicalize(parts, &conn(PEER, true), rules, &mut || "new-id".to_owned())
}

fn status(mut parts: Parts) -> u16 {
    run(&mut parts, &Rules::default()).map_or_else(|refusal| refusal.status, |_| 200)
}

fn trusting(net: &str, hops: usize) -> Rules {
    let trusted = if net.is_empty() {
        Vec::new()
    } else {
        vec![net.parse().unwrap()]
    };
    Rules {
        trusted,
        xff_trusted_hops: hops,
        ..Rules::default()
    }
}

fn sent(headers: &[(&str, &str)], rules: &Rules) -> (CanonicalRequest, http::HeaderMap) {
    let mut parts = parts("GET", "/", headers);
    let request = run(&mut parts, rules).expect("accepted");
    (request, parts.headers)
}

#[test]
fn an_ordinary_request() {
    let mut parts = parts(
        "GET",
        "/a/b?x=//y&z=%2f",
        &[("accept", "*/*"), ("connection", "keep-alive")],
    );
    let request = run(&mut parts, &Rules::default()).unwrap();
    assert_eq!(request.authority.as_str(), "app.example.com");
    assert_eq!((request.host(), request.port()), ("app.example.com", None));
    assert_eq!(request.path_and_query(), "/a/b?x=//y&z=%2f");
    assert_eq!(request.url(), "https://app.example.com/a/b?x=//y&z=%2f");
    assert_eq!(request.client_ip, "203.0.113.9".parse::<IpAddr>().unwrap());
    assert!(!request.peer_trusted && !request.is_grpc && request.upgrade.is_none());
    assert_eq!(parts.headers["x-forwarded-for"], "203.0.113.9");
    assert_eq!(parts.headers["x-forwarded-proto"], "https");
    assert_eq!(parts.headers["x-request-id"], "new-id");
    assert_eq!(parts.headers["x-envoy-external-address"], "203.0.113.9");
    assert!(!parts.headers.contains_key("connection"));
}

#[test]
fn what_is_judged_is_what_parts_say() {
    for (target, path) in [
        ("/x/../admin/y?q=1", "/admin/y"),
        ("//admin/x?q=1", "/admin/x"),
        ("http://app.example.com//b/./c?q=1", "/b/c"),
        ("http://app.example.com?q=1", "/"),
    ] {
        let mut parts = parts("GET", target, &[]);
        let request = run(&mut parts, &Rules::default()).unwrap();
        assert_eq!(request.path, path);
        assert_eq!(parts.uri.path(), path);
        assert_eq!(parts.uri.query(), Some("q=1"));
        assert!(parts.uri.authority().is_none() && parts.uri.scheme().is_none());
        assert_eq!(parts.headers["host"], request.authority.as_str());
    }
}

#[test]
fn a_double_slash_is_never_an_authority() {
    let mut parts = parts("GET", "//evil.example.com/admin", &[]);
    let request = run(&mut parts, &Rules::default()).unwrap();
    assert_eq!(request.authority.as_str(), "app.example.com");
    assert_eq!(request.path, "/evil.example.com/admin");
}

#[test]
fn bad_paths_are_400() {
    for target in [
        "/a%2fb",
        "/a%5Cb",
        "/a%00b",
        "/a%zz",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/%2e%2e%3b/y",
    ] {
        assert_eq!(status(parts("GET", target, &[])), 400, "{target}");
    }
    assert_eq!(status(parts("GET", "*", &[])), 400);
    assert_eq!(status(parts("OPTIONS", "*", &[])), 200);
}

#[test]
fn a_fragment_the_library_hides_is_gone_for_everybody() {
    let mut parts = parts("GET", "/public#/../admin", &[]);
    let request = run(&mut parts, &Rules::default()).unwrap();
    assert_eq!(request.path, "/public");
    assert_eq!(parts.uri.path_and_query().unwrap().as_str(), "/public");
}

#[test]
fn escaped_slashes_may_redirect_to_the_same_authority() {
    let rules = Rules {
        escaped_slashes: EscapedSlashes::UnescapeAndRedirect,
        ..Rules::default()
    };
    let mut parts = parts("GET", "/%2f%2fevil.example.com?a=%2f", &[]);
    let refusal = run(&mut parts, &rules).unwrap_err();
    assert_eq!(refusal.status, 307);
    assert_eq!(refusal.redirect.as_deref(), Some("/evil.example.com?a=%2f"));
    let rules = Rules {
        merge_slashes: false,
        ..rules
    };
    let mut parts = self::parts("GET", "/%2f%2fevil.example.com", &[]);
    let refusal = run(&mut parts, &rules).unwrap_err();
    assert_eq!(
        refusal.redirect.as_deref(),
        Some("https://app.example.com///evil.example.com")
    );
    let rules = Rules {
        normalize_path: false,
        ..rules
    };
    let mut parts = self::parts("GET", "/\\evil.example.com/%2f", &[]);
    let refusal = run(&mut parts, &rules).unwrap_err();
    assert_eq!(
        refusal.redirect.as_deref(),
        Some("https://app.example.com/\\evil.example.com//")
    );
}

#[test]
fn one_host_in_one_spelling() {
    for (host, want) in [
        ("App.Example.COM", "app.example.com"),
        ("app.example.com.:8443", "app.example.com:8443"),
    ] {
        let mut parts = parts("GET", "/", &[("host", host)]);
        assert_eq!(
            run(&mut parts, &Rules::default()).unwrap().authority.as_str(),
            want
        );
        assert_eq!(parts.headers["host"], want);
    }
    assert_eq!(
        status(parts(
            "GET",
            "/",
            &[("host", "a.example.com"), ("host", "b.example.com")]
        )),
        400
    );
    assert_eq!(
        status(parts(
            "GET",
            "/",
            &[("host", "a.example.com"), ("host", "a.example.com")]
        )),
        400
    );
    assert_eq!(status(parts("GET", "/", &[("host", "a b")])), 400);
    assert_eq!(status(parts("GET", "/", &[("host", "")])), 400);
    assert_eq!(status(parts("GET", "/", &[("host", "a,b")])), 400);
    assert_eq!(
        status(parts("GET", "/", &[("host", "b\u{fc}cher.example.com")])),
        400
    );
    let mut none = parts("GET", "/", &[]);
    none.headers.remove("host");
    assert_eq!(status(none), 400);
}

#[test]
fn an_absolute_target_wins_over_host() {
    let mut absolute = parts("GET", "http://b.example.com/x", &[]);
    let request = run(&mut absolute, &Rules::default()).unwrap();
    assert_eq!(request.authority.as_str(), "b.example.com");
    assert_eq!(absolute.headers["host"], "b.example.com");
    assert_eq!(
        request.scheme,
        Scheme::Https,
        "the scheme is the transport's, not the target's"
    );
    assert_eq!(status(parts("GET", "http://user@b.example.com/x", &[])), 400);
    let mut none = parts("GET", "http://b.example.com/x", &[]);
    none.headers.remove("host");
    assert_eq!(status(none), 400);
}

#[test]
fn http2_authority_and_host_agree() {
    let h2 = |host: Option<&str>| {
        let mut parts = parts("GET", "https://app.example.com/x", &[]);
        parts.version = Version::HTTP_2;
        parts.headers.remove("host");
        if let Some(host) = host {
            parts.headers.insert("host", HeaderValue::from_str(host).unwrap());
        }
        parts
    };
    assert_eq!(status(h2(None)), 200);
    assert_eq!(status(h2(Some("APP.example.com"))), 200);
    assert_eq!(status(h2(Some("evil.example.com"))), 400);
    assert_eq!(status(h2(Some("app.example.com:8443"))), 400);
    let mut no_authority = h2(None);
    no_authority.uri = Uri::from_static("/x");
    assert_eq!(status(no_authority), 400);
    let mut parts = h2(None);
    run(&mut parts, &Rules::default()).unwrap();
    assert_eq!(parts.headers["host"], "app.example.com");
    assert_eq!(parts.uri, "/x");
}

#[test]
fn connect_names_one_host_and_port() {
    let mut tunnel = parts("CONNECT", "db.example.com:22", &[("host", "db.example.com:22")]);
    let request = run(&mut tunnel, &Rules::default()).unwrap();
    assert_eq!(
        (request.authority.as_str(), request.path.as_str()),
        ("db.example.com:22", "")
    );
    assert_eq!(
        status(parts(
            "CONNECT",
            "db.example.com:22",
            &[("host", "db.example.com")]
        )),
        200
    );
    assert_eq!(
        status(parts(
            "CONNECT",
            "db.example.com:22",
            &[("host", "db.example.com:23")]
        )),
        400
    );
    assert_eq!(
        status(parts(
            "CONNECT",
            "db.example.com:22",
            &[("host", "other.example.com")]
        )),
        400
    );
    assert_eq!(
        status(parts(
            "CONNECT",
            "db.example.com:0",
            &[("host", "db.example.com:0")]
        )),
        400
    );
    assert_eq!(
        status(parts("CONNECT", "db.example.com", &[("host", "db.example.com")])),
        400
    );
}

#[test]
fn framing_doubts_are_400_and_closed() {
    for list in [
        &[("content-length", "3"), ("transfer-encoding", "chunked")][..],
        &[("content-length", "3"), ("content-length", "3")],
        &[("content-length", "+3")],
        &[("content-length", "3,3")],
        &[("content-length", "")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, chunked")],
        &[("transfer-encoding", "identity")],
    ] {
        let refusal = run(&mut parts("POST", "/", list), &Rules::default()).unwrap_err();
        assert_eq!((refusal.status, refusal.close), (400, true), "{list:?}");
    }
    let (_, headers) = sent(&[("transfer-encoding", "chunked")], &Rules::default());
    assert!(!headers.contains_key("transfer-encoding"));
    let (_, headers) = sent(&[("content-length", "3")], &Rules::default());
    assert_eq!(headers["content-length"], "3");
}

#[test]
fn old_versions_and_large_headers() {
    let mut old = parts("GET", "/", &[]);
    old.version = Version::HTTP_10;
    assert_eq!(status(old), 426);
    let long = "a".repeat(131_072);
    assert_eq!(status(parts("GET", "/", &[("x-a", &long)])), 431);
    let rules = Rules {
        max_headers: 3,
        ..Rules::default()
    };
    let mut many = parts("GET", "/", &[("a", "1"), ("a", "2"), ("a", "3")]);
    assert_eq!(run(&mut many, &rules).unwrap_err().status, 431);
}

#[test]
fn underscores_by_rule_and_twins_never() {
    assert_eq!(status(parts("GET", "/", &[("x_a", "1")])), 400);
    let drop = Rules {
        underscores: Underscores::Drop,
        ..Rules::default()
    };
    let (_, headers) = sent(&[("x_a", "1"), ("x-b", "2")], &drop);
    assert!(!headers.contains_key("x_a") && headers.contains_key("x-b"));
    let managed = ManagedHeaders::new(["X-Email"]);
    let allow = Rules {
        underscores: Underscores::Allow,
        managed,
        ..trusting("203.0.113.0/24", 0)
    };
    let twins = [
        ("x_a", "1"),
        ("X_Forwarded_User", "root"),
        ("X_Forwarded-For", "1.1.1.1"),
        ("x_forwarded_proto", "http"),
        ("x-forwarded_host", "evil"),
        ("X_Pomerium_Jwt_Assertion", "forged"),
        ("X_Email", "root@example.com"),
        ("x_request_id", "1"),
        ("x_real_ip", "1.1.1.1"),
        ("content_length", "9"),
        ("transfer_encoding", "chunked"),
    ];
    let (_, headers) = sent(&twins, &allow);
    let left: Vec<&str> = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| name.contains('_'))
        .collect();
    assert_eq!(left, ["x_a"]);
}

#[test]
fn identity_headers_come_from_us_only() {
    let rules = Rules {
        managed: ManagedHeaders::new(["X-Email", "X-Groups"]),
        ..Rules::default()
    };
    let forged = [
        ("X-Email", "root@example.com"),
        ("x-groups", "admins"),
        ("X-Groups", "more"),
        ("X-Forwarded-User", "root"),
        ("X-Forwarded-Email", "root"),
        ("X-Pomerium-Claim-Email", "root"),
        ("X-Pomerium-Reproxy-Policy", "1"),
        ("X-Envoy-Original-Path", "/x"),
        ("X-Envoy-Internal", "true"),
        ("X-Real-Ip", "1.1.1.1"),
        ("Forwarded", "for=1.1.1.1"),
        ("X-Forwarded-Uri", "/public"),
        ("X-Forwarded-Host", "evil"),
        ("Proxy", "http://evil.example.com"),
        ("Proxy-Authorization", "Basic x"),
    ];
    let (_, headers) = sent(&forged, &rules);
    let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            "host",
            "x-envoy-external-address",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-request-id"
        ]
    );
}

#[test]
fn credentials_stay_for_the_session_resolver() {
    let list = [
        ("authorization", "Pomerium x"),
        ("x-pomerium-authorization", "y"),
        ("cookie", "_pomerium=z"),
    ];
    let (_, headers) = sent(&list, &Rules::default());
    for (name, value) in list {
        assert_eq!(headers[name], value);
    }
}

#[test]
fn connection_may_not_delete_what_we_set() {
    let rules = Rules {
        managed: ManagedHeaders::new(["X-Email"]),
        ..Rules::default()
    };
    for named in [
        "X-Forwarded-Proto, close",
        "close, x-forwarded-user",
        "X-FORWARDED-FOR",
        "x-pomerium-jwt-assertion",
        "X-Email",
        "x-request-id",
        "Authorization",
        "cookie",
        "host",
        "content-length",
        "transfer-encoding",
        "not a token",
    ] {
        let refusal = run(&mut parts("GET", "/", &[("connection", named)]), &rules).unwrap_err();
        assert_eq!((refusal.status, refusal.close), (400, true), "{named}");
    }
    let list = [
        ("connection", "x-hop, , close"),
        ("connection", "keep-alive"),
        ("x-hop", "1"),
        ("x-end", "2"),
    ];
    let (_, headers) = sent(&list, &rules);
    assert!(!headers.contains_key("x-hop") && !headers.contains_key("connection"));
    assert_eq!(headers["x-end"], "2");
}

#[test]
fn hop_by_hop_headers_go_and_trailers_stay() {
    let list = [
        ("te", "trailers, deflate"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("connection", "te, keep-alive"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ];
    let (request, headers) = sent(&list, &Rules::default());
    assert_eq!(headers["te"], "trailers");
    assert!(
        request.upgrade.is_none(),
        "Upgrade without `Connection: upgrade` means nothing"
    );
    for name in [
        "keep-alive",
        "proxy-connection",
        "connection",
        "upgrade",
        "http2-settings",
    ] {
        assert!(!headers.contains_key(name), "{name}");
    }
    let (_, headers) = sent(&[("te", "gzip")], &Rules::default());
    assert!(!headers.contains_key("te"));
}

#[test]
fn upgrades() {
    let ask = |value: &'static str| [("connection", "keep-alive, Upgrade"), ("upgrade", value)];
    let (request, headers) = sent(&ask("WebSocket"), &Rules::default());
    assert_eq!(request.upgrade.as_deref(), Some("websocket"));
    assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"));
    assert_eq!(sent(&ask("h2c"), &Rules::default()).0.upgrade, None);
    assert_eq!(
        sent(&ask("h2c, websocket"), &Rules::default())
            .0
            .upgrade
            .as_deref(),
        Some("websocket")
    );
    assert_eq!(status(parts("GET", "/", &ask("websocket, spdy/3.1"))), 400);
}

#[test]
fn the_peer_is_the_client_unless_hops_say_otherwise() {
    let xff = [
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("x-forwarded-for", "3.3.3.3"),
    ];
    let client = |rules: &Rules| sent(&xff, rules).0.client_ip.to_string();
    assert_eq!(client(&Rules::default()), "203.0.113.9");
    assert_eq!(client(&trusting("", 1)), "3.3.3.3");
    assert_eq!(client(&trusting("", 3)), "1.1.1.1");
    assert_eq!(client(&trusting("", 4)), "203.0.113.9");
    assert_eq!(client(&trusting("203.0.113.0/24", 2)), "2.2.2.2");
    assert_eq!(
        client(&trusting("198.51.100.0/24", 2)),
        "203.0.113.9",
        "hops count only from trusted peers"
    );
    assert_eq!(client(&trusting("203.0.113.0/24", 0)), "3.3.3.3");
    let (_, headers) = sent(&xff, &Rules::default());
    assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2,3.3.3.3,203.0.113.9");
    assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
}

#[test]
fn forms_of_a_forwarded_address() {
    let rules = trusting("203.0.113.0/24", 0);
    for (list, wanted) in [
        ("192.0.2.7:51234", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("garbage, 192.0.2.7", "192.0.2.7"),
        // What is no address ends the walk: further left only the client has written.
        ("192.0.2.7, garbage", "203.0.113.9"),
        ("192.0.2.7, unknown", "203.0.113.9"),
        ("192.0.2.7, _hidden", "203.0.113.9"),
        ("192.0.2.7, ", "203.0.113.9"),
        ("192.0.2.7, 0300.0.2.7", "203.0.113.9"),
        ("192.0.2.7, 192.0.2.8:x", "203.0.113.9"),
        ("192.0.2.7, 192.0.2.8:70000", "203.0.113.9"),
        ("192.0.2.7, fe80::1%eth0", "203.0.113.9"),
        ("192.0.2.7, 203.0.113.1", "192.0.2.7"),
        ("203.0.113.2, 203.0.113.1", "203.0.113.2"),
        ("", "203.0.113.9"),
    ] {
        let (request, headers) = sent(&[("x-forwarded-for", list)], &rules);
        assert_eq!(request.client_ip.to_string(), wanted, "{list}");
        let external = headers
            .get("x-envoy-external-address")
            .map(|value| value.to_str().unwrap());
        assert_eq!(external, Some(wanted), "{list}: one client for all");
    }
}

#[test]
fn trusted_proxies_are_skipped_from_the_right() {
    let mut rules = trusting("203.0.113.0/24", 0);
    rules.trusted.push("10.0.0.0/8".parse().unwrap());
    let client = |value: &str| {
        sent(&[("x-forwarded-for", value)], &rules)
            .0
            .client_ip
            .to_string()
    };
    assert_eq!(client("6.6.6.6, 5.5.5.5, 10.1.1.1"), "5.5.5.5");
    assert_eq!(client("10.2.2.2, 10.1.1.1"), "10.2.2.2");
    assert_eq!(client("garbage, 10.1.1.1"), "10.1.1.1");
    assert_eq!(client("[2001:db8::1]"), "2001:db8::1");
    assert_eq!(client(""), "203.0.113.9");
}

#[test]
fn forwarded_headers_of_a_trusted_peer_stand() {
    let list = [
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "front.example.com"),
        ("x-request-id", "abc-123"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-user", "root"),
    ];
    let (request, mut headers) = sent(&list, &trusting("203.0.113.9/32", 0));
    assert!(request.peer_trusted);
    assert_eq!(
        (request.scheme, request.request_id.as_str()),
        (Scheme::Http, "abc-123")
    );
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-port"], "8443");
    assert!(
        !headers.contains_key("x-forwarded-user"),
        "nobody in front says who is signed in"
    );
    append_forwarded_host(&mut headers, "app.example.com");
    assert_eq!(headers["x-forwarded-host"], "front.example.com,app.example.com");
    append_forwarded_host(&mut headers, "app.example.com");
    assert_eq!(headers["x-forwarded-host"], "front.example.com,app.example.com");
    let (request, mut headers) = sent(&list, &Rules::default());
    assert_eq!(
        (request.scheme, request.request_id.as_str()),
        (Scheme::Https, "new-id")
    );
    assert!(!headers.contains_key("x-forwarded-host"));
    append_forwarded_host(&mut headers, "app.example.com");
    assert_eq!(headers["x-forwarded-host"], "app.example.com");
}

#[test]
fn a_trusted_peers_odd_values_do_not_stand() {
    let rules = trusting("203.0.113.9/32", 0);
    let (request, headers) = sent(
        &[("x-forwarded-proto", "javascript"), ("x-request-id", "a b\"c")],
        &rules,
    );
    assert_eq!(
        (request.scheme, request.request_id.as_str()),
        (Scheme::Https, "new-id")
    );
    assert_eq!(headers["x-request-id"], "new-id");
    let (request, _) = sent(&[("x-request-id", "a"), ("x-request-id", "b")], &rules);
    assert_eq!(request.request_id, "new-id");
}

#[test]
fn the_address_rule_switches() {
    let rules = Rules {
        skip_xff_append: true,
        ..Rules::default()
    };
    let (_, headers) = sent(&[("x-forwarded-for", "1.1.1.1")], &rules);
    assert_eq!(headers["x-forwarded-for"], "1.1.1.1");
    let mut private = parts("GET", "/", &[]);
    canonicalize(
        &mut private,
        &conn("[::ffff:10.0.0.7]:9", false),
        &Rules::default(),
        &mut String::new,
    )
    .unwrap();
    assert_eq!(private.headers["x-forwarded-for"], "10.0.0.7");
    assert_eq!(private.headers["x-forwarded-proto"], "http");
    assert!(!private.headers.contains_key("x-envoy-external-address"));
}

#[test]
fn internal_ranges() {
    for (ip, want) in [
        ("127.0.0.1", true),
        ("127.0.0.2", false),
        ("10.9.9.9", true),
        ("172.31.0.1", true),
        ("172.32.0.1", false),
        ("192.168.1.1", true),
        ("::1", true),
        ("fd00::1", true),
        ("fc00::1", false),
        ("8.8.8.8", false),
    ] {
        assert_eq!(is_internal(ip.parse().unwrap()), want, "{ip}");
    }
}

#[test]
fn split_cookies_become_one() {
    let (_, headers) = sent(&[("cookie", "a=1"), ("cookie", "b=2")], &Rules::default());
    assert_eq!(headers["cookie"], "a=1; b=2");
    assert_eq!(headers.get_all("cookie").iter().count(), 1);
}

#[test]
fn grpc_is_seen() {
    for (kind, want) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/grpcx", false),
        ("text/html", false),
    ] {
        assert_eq!(
            sent(&[("content-type", kind)], &Rules::default()).0.is_grpc,
            want,
            "{kind}"
        );
    }
}

#[test]
fn twice_is_once() {
    let list = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-host", "evil"),
        ("te", "trailers"),
        ("cookie", "a=1"),
    ];
    let mut once = parts("GET", "http://APP.example.com//a/../b%41?q", &list);
    let rules = Rules {
        skip_xff_append: true,
        ..Rules::default()
    };
    let first = run(&mut once, &rules).unwrap();
    let headers = once.headers.clone();
    let second = run(&mut once, &rules).unwrap();
    assert_eq!((first.url(), first.client_ip), (second.url(), second.client_ip));
    assert_eq!(headers, once.headers);
}

/// Names that identify people or clients, each of which some proxy once let through in an odd spelling.
const GUARDED: [&str; 14] = [
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-host",
    "x-forwarded-uri",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-pomerium-claim-email",
    "x-envoy-external-address",
    "x-email",
    "forwarded",
    "proxy",
];

proptest::proptest! {
    #[test]
    fn no_spelling_of_a_guarded_header_survives(
        picks in proptest::collection::vec((0..GUARDED.len(), proptest::num::u32::ANY), 1..8),
    ) {
        let spell = |name: &str, bits: u32| -> String {
            let odd = |at: usize| bits >> (at % 32) & 1 == 1;
            name.chars().enumerate().map(|(at, letter)| if letter == '-' && odd(at) { '_' } else { letter }).collect()
        };
        let names: Vec<String> = picks.iter().map(|(at, bits)| spell(GUARDED[*at], *bits)).collect();
        let list: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "forged")).collect();
        let managed = ManagedHeaders::new(["X-Email"]);
        let rules = Rules { underscores: Underscores::Allow, managed, ..Rules::default() };
        let (_, headers) = sent(&list, &rules);
        for (name, value) in &headers {
            // The client's own list stays in front of the peer; only hops from the right are ever believed.
            let own_rule = name == "x-forwarded-for";
            proptest::prop_assert!(own_rule || value != "forged", "{name}");
            proptest::prop_assert!(!name.as_str().contains('_'), "{name}");
        }
    }

    #[test]
    fn any_target_is_one_value_or_a_refusal(path in "/[!-~]{0,30}", query in proptest::option::of("[!-~]{0,12}")) {
        let target = query.map_or(path.clone(), |query| format!("{path}?{query}"));
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let mut once = parts("GET", "/", &[]);
        once.uri = uri;
        if let Ok(first) = run(&mut once, &Rules::default()) {
            proptest::prop_assert_eq!(once.uri.path(), first.path.as_str());
            proptest::prop_assert_eq!(once.uri.query(), first.query.as_deref());
            proptest::prop_assert_eq!(once.uri.authority(), None);
            let second = run(&mut once, &Rules::default()).expect("the canonical request is accepted again");
            proptest::prop_assert_eq!(first.url(), second.url());
        }
    }
}
