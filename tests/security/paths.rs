//! Path tricks (Envoy CVE-2019-9901, CVE-2021-29492; traefik CVE-2026-40912, CVE-2025-66490; OPA-Envoy
//! CVE-2026-26205; oauth2-proxy CVE-2025-54576, CVE-2026-41059; Pomerium CVE-2023-33189, CVE-2021-39206).
//! What was judged is what is forwarded, or nothing is.

use anyhow::Result;
use pomerium_testing::{Environment, RawReply, Route, Upstream};
use serde_json::json;

/// Everything is public but `/admin` and what lies below it.
async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let policy = json!([
        { "allow": { "or": [{ "accept": true }] } },
        { "deny": { "or": [{ "http_path": { "starts_with": "/admin" } }] } },
    ]);
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).policy(policy))
        .start()
        .await?;
    Ok((env, upstream))
}

async fn ask(env: &Environment, target: &[u8]) -> Result<RawReply> {
    let mut client = env.raw("open").await?;
    let mut head = b"GET ".to_vec();
    head.extend_from_slice(target);
    head.extend_from_slice(
        format!(
            " HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n\r\n",
            env.authority_of("open")
        )
        .as_bytes(),
    );
    client.send(head).await?;
    client.reply(false).await
}

#[tokio::test]
async fn no_spelling_of_a_closed_path_gets_through() -> Result<()> {
    let (env, upstream) = stage().await?;
    let spellings: [&[u8]; 22] = [
        b"/admin",
        b"/admin/x",
        b"//admin/x",
        b"///admin",
        b"/./admin",
        b"/x/../admin",
        b"/x/%2e%2e/admin",
        b"/x/%2E./admin",
        b"/%61dmin",
        b"/%61%64%6d%69%6e/x",
        b"/x\\..\\admin",
        b"\\admin",
        b"/x%2f..%2fadmin",
        b"/%2fadmin",
        b"/x/..%5cadmin",
        b"/x/..;/admin",
        b"/x;/../admin",
        b"/admin%00",
        b"/admin#x",
        b"/x/..%00/admin",
        b"/%252fadmin/../admin",
        b"/admin?x=/open",
    ];
    for spelling in spellings {
        let shown = String::from_utf8_lossy(spelling).into_owned();
        upstream.take_requests();
        let status = ask(&env, spelling).await?.status;
        for request in upstream.take_requests() {
            let path = request.target.split('?').next().unwrap_or_default();
            // What an application makes of it at worst: decoded once, resolved, without parameters.
            let worst = path
                .replace("%2f", "/")
                .replace("%2F", "/")
                .replace("%5c", "\\")
                .replace("..;", "..");
            assert!(
                !worst.trim_start_matches('/').starts_with("admin"),
                "{shown} reached the upstream as {path}"
            );
            assert!(
                !path.contains("/../") && !path.contains("/./"),
                "{shown} reached the upstream as {path}"
            );
        }
        assert!(matches!(status, 200 | 400 | 403 | 404), "{shown}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn doubtful_paths_are_a_400_and_a_closed_connection() -> Result<()> {
    let (env, upstream) = stage().await?;
    for target in [
        &b"/a%2fb"[..],
        b"/a%5Cb",
        b"/a%00b",
        b"/a\x00b",
        b"/a%",
        b"/a%zz",
        b"/a b",
        b"a",
    ] {
        let mut client = env.raw("open").await?;
        let mut head = b"GET ".to_vec();
        head.extend_from_slice(target);
        head.extend_from_slice(format!(" HTTP/1.1\r\nHost: {}\r\n\r\n", env.authority_of("open")).as_bytes());
        client.send(head).await?;
        let reply = String::from_utf8_lossy(&client.read_to_close().await?).into_owned();
        assert!(
            reply.starts_with("HTTP/1.1 400 "),
            "{:?}: {reply:?}",
            String::from_utf8_lossy(target)
        );
    }
    assert!(upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn harmless_paths_arrive_normalised_with_their_query_untouched() -> Result<()> {
    let (env, upstream) = stage().await?;
    for (sent, forwarded) in [
        ("/a/../b/./c", "/b/c"),
        ("//a//b?x=//y", "/a/b?x=//y"),
        ("/a\\b", "/a/b"),
        ("/%61%7e%2e%2e/%41b", "/a~../Ab"),
        ("/caf%C3%A9?q=%2F..%2f", "/caf%C3%A9?q=%2F..%2f"),
    ] {
        upstream.take_requests();
        assert_eq!(ask(&env, sent.as_bytes()).await?.status, 200, "{sent}");
        let targets: Vec<_> = upstream
            .take_requests()
            .into_iter()
            .map(|request| request.target)
            .collect();
        assert_eq!(targets, [forwarded], "{sent}");
    }
    Ok(())
}

#[tokio::test]
async fn a_rule_for_a_path_does_not_look_at_the_query() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(
            Route::new("open", &upstream.url())
                .public()
                .set("regex", "/public/.*"),
        )
        .start()
        .await?;
    assert_eq!(ask(&env, b"/public/x").await?.status, 200);
    assert_eq!(ask(&env, b"/private?x=/public/y").await?.status, 404);
    assert_eq!(ask(&env, b"/private#/public/y").await?.status / 100, 4);
    Ok(())
}

/// What has no path is judged by none: a pattern that fits everything does not fit a tunnel.
#[tokio::test]
async fn a_pattern_takes_no_request_without_a_path() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public().set("regex", ".*"))
        .start()
        .await?;
    let host = env.authority_of("open");
    for start in [format!("CONNECT {host}"), "OPTIONS *".to_owned()] {
        let mut client = env.raw("open").await?;
        client
            .send(format!(
                "{start} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"
            ))
            .await?;
        let status = client.reply(false).await?.status;
        assert_eq!(status, 404, "{start}");
    }
    assert!(upstream.take_requests().is_empty());
    Ok(())
}

/// `/api../x` holds no dot segment, and does as soon as `/api` has become `/base/` (the "off by slash" of nginx's `alias`).
#[tokio::test]
async fn a_path_does_not_begin_to_climb_by_rewriting() -> Result<()> {
    let upstream = Upstream::start().await?;
    let base = format!("{}/base/", upstream.url());
    let route = |to: &str| Route::new("open", to).public().set("prefix", "/api");
    for route in [
        route(&upstream.url()).set("prefix_rewrite", "/base/"),
        route(&base),
        Route::new("open", &upstream.url())
            .public()
            .set("regex_rewrite_pattern", "^/api")
            .set("regex_rewrite_substitution", "/base/"),
    ] {
        let env = Environment::builder()?.route(route).start().await?;
        for target in [
            "/api../admin",
            "/api..",
            "/api./x",
            "/api..;/admin",
            "/api..%3b/admin",
        ] {
            let reply = ask(&env, target.as_bytes()).await?;
            assert!(matches!(reply.status, 400 | 502), "{target}: {}", reply.status);
        }
        assert_eq!(ask(&env, b"/api...").await?.status, 200);
        assert_eq!(ask(&env, b"/api/x").await?.status, 200);
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| !request.target.contains("/..") || request.target.contains("..."))
    );
    Ok(())
}
