use std::sync::Arc;
use std::time::Instant;

use pomerium_config::settings::Domains;

use super::*;
use crate::tests::support::settings;

fn table(options: &str, routes: &[(&str, &str)]) -> RouteTable {
    let text: String = routes
        .iter()
        .map(|(from, more)| format!("  - from: {from}\n    to: http://up.example.com\n    allow_public_unauthenticated_access: true\n{more}"))
        .collect();
    let settings = settings(options, &text);
    RouteTable::build(
        &settings.routes,
        &[],
        settings.runtime_flags.match_any_incoming_port,
    )
    .unwrap()
}

#[test]
fn an_explicit_port_shadows_the_any_port_host_for_that_port() {
    let table = table(
        "",
        &[
            ("https://a.example.com", ""),
            ("https://a.example.com:8443", "    prefix: /api\n"),
        ],
    );
    assert_eq!(table.find("a.example.com", "/x"), Match::Route(0));
    assert_eq!(table.find("a.example.com:443", "/x"), Match::Route(0));
    assert_eq!(table.find("a.example.com:8443", "/api"), Match::Route(1));
    assert_eq!(table.find("a.example.com:8443", "/x"), Match::None);
    assert_eq!(table.find("a.example.com:9443", "/x"), Match::Route(0));
}

/// Of a proxy beside an authenticate service elsewhere; with any other name, or in one process, the paths are ours.
#[test]
fn a_route_to_the_sign_in_service_has_all_paths_of_its_host() {
    let routes = [("https://auth.example.com", ""), ("https://*.example.com", "")];
    let named = |services: &str, name: &str| {
        let options = format!("services: {services}\nauthenticate_service_url: https://{name}.example.com\n");
        table(&options, &routes)
    };
    let fronting = named("proxy", "auth");
    for path in ["/.pomerium/sign_in", "/oauth2/callback", "/ping", "/"] {
        assert_eq!(fronting.find("auth.example.com", path), Match::Route(0), "{path}");
        assert_eq!(
            fronting.find("auth.example.com:443", path),
            Match::Route(0),
            "{path}"
        );
    }
    let health = Match::Internal(InternalPath::Health, Some(1));
    assert_eq!(fronting.find("app.example.com", "/ping"), health);
    let first = Match::Internal(InternalPath::Health, Some(0));
    assert_eq!(named("proxy", "other").find("auth.example.com", "/ping"), first);
    assert_eq!(named("all", "auth").find("auth.example.com", "/ping"), first);
    // By a wildcard it is a host like any other.
    assert_eq!(
        named("proxy", "sign-in").find("sign-in.example.com", "/ping"),
        health
    );
}

#[test]
fn a_downstream_server_name_is_a_host_with_internal_paths_only() {
    let named = "    tls_downstream_server_name: B.example.com\n";
    let table = table(
        "",
        &[("https://a.example.com", named), ("https://*.example.com", "")],
    );
    assert_eq!(table.find("a.example.com", "/"), Match::Route(0));
    assert_eq!(table.find("b.example.com", "/"), Match::None);
    assert_eq!(table.find("b.example.com:8443", "/x"), Match::None);
    assert_eq!(table.find("c.example.com", "/"), Match::Route(1));
    assert_eq!(
        table.find("b.example.com", "/ping"),
        Match::Internal(InternalPath::Health, None)
    );
}

#[test]
fn a_default_port_route_joins_an_explicit_host() {
    let table = table(
        "",
        &[
            ("http://a.example.com:443", "    prefix: /one\n"),
            ("https://a.example.com", ""),
        ],
    );
    assert_eq!(table.find("a.example.com:443", "/one"), Match::Route(0));
    assert_eq!(table.find("a.example.com:443", "/x"), Match::Route(1));
    assert_eq!(table.find("a.example.com", "/one"), Match::Route(1));
}

#[test]
fn wildcards_live_apart_and_in_list_order() {
    let routes = [
        ("https://*.example.com", "    prefix: /api\n"),
        ("https://bar.example.com", "    prefix: /bar\n"),
        ("https://*.foo.example.com", ""),
        ("https://*.example.com", ""),
    ];
    let table = table("", &routes);
    assert_eq!(table.find("bar.example.com", "/api"), Match::None);
    assert_eq!(table.find("a.foo.example.com", "/api"), Match::Route(0));
    assert_eq!(table.find("a.foo.example.com", "/x"), Match::Route(2));
    assert_eq!(table.find("a.b.example.com:8443", "/x"), Match::Route(3));
    assert_eq!(table.find("example.com", "/x"), Match::None);
    assert!(table.knows_host("x.example.com") && !table.knows_host("x.example.org"));
}

#[test]
fn more_patterns_than_one_set_holds() {
    let hosts: Vec<String> = (0..300)
        .map(|number| format!("https://*.h{number}.example.com"))
        .collect();
    let mut routes: Vec<(&str, &str)> = hosts.iter().map(|host| (host.as_str(), "")).collect();
    routes.push(("https://*.example.com", ""));
    let table = table("", &routes);
    assert_eq!(table.find("a.h299.example.com", "/"), Match::Route(299));
    assert_eq!(table.find("a.h5.example.com", "/"), Match::Route(5));
    assert_eq!(table.find("a.h300.example.com", "/"), Match::Route(300));
}

#[test]
fn internal_paths_come_first_on_every_host() {
    let table = table(
        "",
        &[
            ("https://a.example.com", "    path: /ping\n"),
            ("https://a.example.com", ""),
        ],
    );
    assert_eq!(
        table.find("a.example.com", "/ping"),
        Match::Internal(InternalPath::Health, Some(0))
    );
    assert_eq!(
        table.find("nowhere.test", "/healthz"),
        Match::Internal(InternalPath::Health, None)
    );
    assert_eq!(
        table.find("a.example.com", "/.pomerium/x"),
        Match::Internal(InternalPath::Pomerium, Some(0))
    );
    assert_eq!(table.find("a.example.com", "/.pomeriumx"), Match::Route(1));
    assert_eq!(
        table.find("a.example.com", "/.well-known/pomerium"),
        Match::Internal(InternalPath::WellKnown, Some(0))
    );
    assert_eq!(table.find("a.example.com", "/.well-known/acme"), Match::Route(1));
    assert_eq!(table.find("a.example.com", "*"), Match::None);
    assert_eq!(table.find("a.example.com", ""), Match::None);
}

#[test]
fn the_authenticate_host_owns_its_paths_and_is_no_wildcard() {
    let settings = settings(
        "",
        "  - from: https://*.example.com\n    to: http://up.example.com\n    allow_public_unauthenticated_access: true\n",
    );
    let origin = Origin {
        scheme: "https".into(),
        host: "authenticate.example.com".into(),
        port: None,
    };
    let table = RouteTable::build(&settings.routes, &[origin], true).unwrap();
    let own = Match::Internal(InternalPath::Authenticate, None);
    for path in ["/", "/oauth2/callback", "/robots.txt"] {
        assert_eq!(table.find("authenticate.example.com", path), own, "{path}");
        assert_eq!(table.find("authenticate.example.com:8443", path), own, "{path}");
    }
    assert_eq!(table.find("authenticate.example.com", "/x"), Match::None);
    assert_eq!(table.find("app.example.com", "/"), Match::Route(0));
}

#[test]
fn a_pattern_cannot_break_out_of_its_anchors() {
    let mut settings = settings(
        "",
        "  - from: https://a.example.com\n    to: http://up.example.com\n    regex: '/a|/b.*'\n    allow_public_unauthenticated_access: true\n",
    );
    let table = RouteTable::build(&settings.routes, &[], true).unwrap();
    assert_eq!(table.find("a.example.com", "/ax"), Match::None);
    assert_eq!(table.find("a.example.com", "/bx"), Match::Route(0));
    let mut broken = (*settings.routes[0]).clone();
    broken.path = pomerium_config::settings::PathMatch::Regex("/a)(/b".into());
    settings.routes[0] = Arc::new(broken);
    assert!(RouteTable::build(&settings.routes, &[], true).is_err());
}

/// Not a benchmark: it only has to notice a cost that grows with the number of hosts.
#[test]
fn looking_up_does_not_depend_on_the_number_of_hosts() {
    let template = settings(
        "",
        "  - from: https://a.example.com\n    to: http://up.example.com\n    allow_public_unauthenticated_access: true\n",
    );
    let route = |number: usize| {
        let mut route = (*template.routes[0]).clone();
        route.hosts = HostMatch::Exact {
            domains: Domains::Listed([format!("h{number}.example.com").into()].into()),
            any_port: true,
        };
        Arc::new(route)
    };
    let cost = |count: usize| {
        let routes: Vec<_> = (0..count).map(route).collect();
        let table = RouteTable::build(&routes, &[], true).unwrap();
        let hosts: Vec<String> = (0..10)
            .map(|number| format!("h{}.example.com", number * count / 10))
            .collect();
        let best = (0..20).map(|_| {
            let start = Instant::now();
            for _ in 0..500 {
                for host in &hosts {
                    assert!(matches!(table.find(host, "/x"), Match::Route(_)));
                }
            }
            start.elapsed()
        });
        best.min().unwrap()
    };
    let (few, many) = (cost(10), cost(10_000));
    assert!(many < few * 5, "10 routes: {few:?}, 10 000 routes: {many:?}");
}
