//! Closed paths in disguise (Envoy CVE-2019-9901, CVE-2021-29492; traefik CVE-2026-40912, CVE-2025-66490; caddy
//! CVE-2026-27587; Pomerium CVE-2023-33189): whichever way routes share out the paths of a host, no spelling of
//! a closed path gets to the application, and what was judged is what arrives.

use anyhow::Result;
use pomerium_testing::{Environment, Route, SignIn, Upstream};
use serde_json::{Value, json};

/// Host by host the same closed `/admin`, by other means.
const HOSTS: [&str; 5] = ["prefix", "regex", "exact", "deny", "deny-exact"];

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let to = upstream.url();
    let nobody = || json!([{ "allow": { "or": [{ "reject": true }] } }]);
    let route = |name: &str| Route::new(name, &to);
    let deny = |rule: Value| {
        json!([
            { "allow": { "or": [{ "accept": true }] } },
            { "deny": { "or": [{ "http_path": rule }] } },
        ])
    };
    let env = Environment::builder()?
        .sign_in(SignIn::Oidc("http://127.0.0.1:9".into()))
        .route(route("prefix").set("prefix", "/admin").policy(nobody()))
        .route(route("prefix").public())
        .route(route("regex").set("regex", "/admin(/.*)?").policy(nobody()))
        .route(route("regex").set("regex", "/admin.*").policy(nobody()))
        .route(route("regex").public())
        .route(route("exact").set("path", "/admin").policy(nobody()))
        .route(route("exact").set("prefix", "/admin/").policy(nobody()))
        .route(route("exact").public())
        .route(route("deny").policy(deny(json!({ "starts_with": "/admin" }))))
        .route(route("deny-exact").policy(deny(json!({ "is": "/admin" }))))
        .start()
        .await?;
    Ok((env, upstream))
}

/// Targets that some component, somewhere, would read as `/admin`.
fn disguises() -> Vec<String> {
    let mut all = Vec::new();
    for before in [
        "",
        "/",
        "//",
        "/.",
        "/./.",
        "/x/..",
        "/x/../.",
        "/x/y/../..",
        "/..",
        "/../..",
        "/%2e",
        "/%2E%2e/x/..",
        "/x/%2e%2e",
        "/x/.%2E",
        "/x/..%2f",
        "/x%2f..",
        "/%2f",
        "/%2F%2f",
        "\\",
        "/\\",
        "/x\\..",
        "/x/..\\",
        "/%5c",
        "/x%5c..",
        "/x/..;",
        "/x/..;a=b",
        "/;",
        "/.;",
        "/%3b",
        "/%00",
        "/x/..%00",
        "/%09",
        "/%20",
        "/%0a",
        "/%0d",
        "/%c0%ae%c0%ae",
        "/%c0%af",
        "/%252e%252e",
        "/%252f",
        "/x/%252e%252e/..",
        "/%u002e",
        "/?",
        "/#",
        "/x#/..",
        "/%e2%80%ae",
    ] {
        for admin in ["/admin", "/%61dmin", "/adm%69n/x"] {
            all.push(format!("{before}{admin}"));
        }
    }
    for after in [
        "%00",
        "%00/x",
        ";",
        ";/x",
        ";a=b/x",
        "%3b/x",
        "/.",
        "/..;/admin",
        "%2f",
        "%2fx",
        "%5c",
        "\\",
        "\\x",
        "#",
        "#/open",
        "?/open",
        "?x=/../open",
        "%20",
        "%09",
        "/%2e",
        "//",
        "/./",
        "%23",
        "%3f",
        "/x/..",
        "/../admin",
        "%2e",
        ".",
        "/%2e%2e/admin",
    ] {
        all.push(format!("/admin{after}"));
    }
    all
}

/// Whether an application that decodes once more, drops parameters, folds slashes and resolves dots might take
/// `path` for something at or below `/admin`.
fn could_be_admin(path: &str) -> bool {
    let mut text = path.to_owned();
    for _ in 0..2 {
        text = decode(&text);
    }
    let text = text.replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        let name = segment.split([';', '\0']).next().unwrap_or_default();
        match name {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    segments.first() == Some(&"admin")
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match hex {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn ask(env: &Environment, host: &str, target: &str) -> Result<u16> {
    let mut client = env.raw(host).await?;
    let authority = env.authority_of(host);
    client
        .send(format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        ))
        .await?;
    Ok(client.reply(false).await?.status)
}

#[test]
fn the_judge_of_this_test_sees_through_disguises() {
    for admin in [
        "/admin",
        "//admin/x",
        "/x/../admin",
        "/%2561dmin",
        "/x%2f..%2fadmin",
        "/x/..;/admin",
        "/\\admin",
    ] {
        assert!(could_be_admin(admin), "{admin}");
    }
    for other in ["/", "/x/admin", "/administrator", "/admin/../x", "/xadmin"] {
        assert!(!could_be_admin(other), "{other}");
    }
}

#[tokio::test]
async fn no_disguise_of_a_closed_path_gets_in_by_any_kind_of_route() -> Result<()> {
    let (env, upstream) = stage().await?;
    for host in HOSTS {
        // The rules work, and only for what they are for.
        for (path, status) in [("/admin", 403), ("/open", 200), ("/x/admin", 200)] {
            let got = ask(&env, host, path).await?;
            assert!(
                got == status || (status == 403 && got == 401),
                "{host}{path}: {got}"
            );
        }
        upstream.take_requests();
        for target in disguises() {
            let status = ask(&env, host, &target).await?;
            assert!(
                matches!(status, 200 | 301..=308 | 400 | 401 | 403 | 404),
                "{host}{target}: {status}"
            );
            for request in upstream.take_requests() {
                let (path, _) = request.target.split_once('?').unwrap_or((&request.target, ""));
                // What is exactly closed is the path itself: `/admin;x` is another name, as is what lies below.
                let closed = match host {
                    "deny-exact" => decode(path) == "/admin",
                    "exact" => could_be_admin(path) && !path.starts_with("/admin;") && !path.contains("%3b"),
                    _ => could_be_admin(path),
                };
                // An escape that is left after decoding once: an application that decodes twice has two names
                // for everything, and has to close both.
                let closed = closed && !path.contains("%25");
                assert!(!closed, "{host}{target} arrived as {}", request.target);
                for odd in [
                    "//", "/./", "/../", "\\", "..;", "/;/", "%2f", "%2F", "%5c", "%5C", "%00", "#",
                ] {
                    assert!(
                        !path.contains(odd),
                        "{host}{target} arrived as {}",
                        request.target
                    );
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_whole_target_and_the_host_have_no_other_door() -> Result<()> {
    let (env, upstream) = stage().await?;
    let host = env.authority_of("prefix");
    for target in [
        format!("https://{host}/admin"),
        format!("https://{host}//admin"),
        format!("https://{host}/x/../admin"),
        format!("https://{host}/%61dmin"),
        format!("http://{host}/admin"),
        format!("HTTPS://{host}/admin"),
        format!("https://{host}\\/admin"),
        format!("https://{host}#/admin"),
        format!("//{host}/admin"),
        format!("https:///{host}/admin"),
        format!("https://x@{host}/admin"),
        format!("https://{host}:443/admin"),
        "admin".to_owned(),
        "./admin".to_owned(),
        "?/admin".to_owned(),
        "*".to_owned(),
        "*/admin".to_owned(),
        String::new(),
    ] {
        let status = ask(&env, "prefix", &target).await?;
        assert_ne!(status / 100, 5, "{target}: {status}");
        for request in upstream.take_requests() {
            assert!(
                !could_be_admin(&request.target),
                "{target} arrived as {}",
                request.target
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_query_chooses_no_route_and_opens_no_rule() -> Result<()> {
    let (env, upstream) = stage().await?;
    for host in HOSTS {
        for query in [
            "?/open",
            "?x=/open",
            "?#/open",
            "?/../open",
            "??",
            "?%2fopen",
            "?path=/open&path=/open",
        ] {
            let status = ask(&env, host, &format!("/admin{query}")).await?;
            assert!(matches!(status, 401 | 403), "{host}{query}: {status}");
        }
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    // Nor does it close one.
    assert_eq!(ask(&env, "regex", "/open?/admin").await?, 200);
    Ok(())
}
