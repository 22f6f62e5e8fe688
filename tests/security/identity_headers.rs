//! Spoofed identity (oauth2-proxy CVE-2025-64484, Traefik CVE-2026-33433, -39858, CVE-2024-45410,
//! CVE-2026-29054; Fabio CVE-2025-48865; oathkeeper GHSA-w9mr-28mw-j8hg): nothing that a client sends
//! reaches the application as identity, in any spelling, and nothing it sends takes the real one away.

use anyhow::{Context, Result};
use pomerium_testing::{Environment, Recorded, Route, Upstream};
use pomerium_tests::{scripted, scripted_with};
use serde_json::json;

fn is_spoofed(request: &Recorded) -> bool {
    request.headers.iter().any(|(_, value)| value.contains("spoofed"))
}

const NAMES: [&str; 9] = [
    "X-Pomerium-Jwt-Assertion",
    "x-pomerium-jwt-assertion",
    "X-POMERIUM-JWT-ASSERTION",
    "X-Pomerium-Jwt-Assertion-For",
    "X-Pomerium-Claim-Email",
    "X-Pomerium-Claim-Groups",
    "X-Pomerium-Authorization",
    "X-Pomerium-Reproxy-Policy",
    "X-Pomerium-Anything",
];

#[tokio::test]
async fn identity_headers_of_clients_are_removed_on_every_route() -> Result<()> {
    let stage = scripted().await?;
    for route in ["open", "ws"] {
        let client = stage.env.client()?;
        client.follow(&stage.env.url(route, "/")).await?;
        stage.upstream.take_requests();
        for name in &NAMES[..6] {
            let reply = client
                .get_with(&stage.env.url(route, "/"), &[(name, "spoofed")])
                .await?;
            let request = stage
                .upstream
                .take_requests()
                .pop()
                .with_context(|| format!("{name}: {}", reply.status))?;
            assert!(!is_spoofed(&request), "{route} {name}: {:?}", request.headers);
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_real_identity_is_not_replaced_and_not_doubled() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let headers: Vec<_> = NAMES[..6].iter().map(|name| (*name, "spoofed")).collect();
    client.get_with(&stage.env.url("app", "/"), &headers).await?;
    let request = stage
        .upstream
        .take_requests()
        .pop()
        .context("the application was asked")?;
    assert!(!is_spoofed(&request), "{:?}", request.headers);
    assert_eq!(
        request.headers_named("x-pomerium-claim-email"),
        ["developer@example.com"]
    );
    assert_eq!(request.headers_named("x-pomerium-jwt-assertion").len(), 1);
    Ok(())
}

#[tokio::test]
async fn underscore_twins_do_not_pass_even_where_underscores_may() -> Result<()> {
    let twins = [
        "X_Pomerium_Claim_Email",
        "X-Pomerium_Claim-Email",
        "x_pomerium_jwt_assertion",
    ];
    for action in ["reject_request", "drop_header", "allow"] {
        let stage = scripted_with(|builder| builder.set("headers_with_underscores_action", action)).await?;
        for twin in twins {
            let mut client = stage.env.raw("open").await?;
            let authority = stage.env.authority_of("open");
            client
                .send(format!(
                    "GET / HTTP/1.1\r\nHost: {authority}\r\n{twin}: spoofed\r\n\r\n"
                ))
                .await?;
            let reply = client.reply(false).await?;
            assert_eq!(
                reply.status,
                if action == "reject_request" { 400 } else { 200 },
                "{action} {twin}"
            );
        }
        assert!(!stage.upstream.requests().iter().any(is_spoofed), "{action}");
    }
    Ok(())
}

#[tokio::test]
async fn connection_cannot_take_managed_headers_away() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let cookie = client
        .cookie(&stage.env.url("app", "/"), "_pomerium")
        .context("no cookie")?;
    for nominated in [
        "X-Pomerium-Jwt-Assertion",
        "x-pomerium-claim-email",
        "X-FORWARDED-FOR",
        "x-forwarded-proto",
        "Cookie",
    ] {
        let mut client = stage.env.raw("app").await?;
        let authority = stage.env.authority_of("app");
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: {authority}\r\nCookie: _pomerium={cookie}\r\nConnection: keep-alive, {nominated}\r\n\r\n"
            ))
            .await?;
        let reply = client.reply(false).await?;
        match stage.upstream.take_requests().pop() {
            None => assert_eq!(reply.status, 400, "{nominated}"),
            Some(request) => {
                for header in [
                    "x-pomerium-jwt-assertion",
                    "x-pomerium-claim-email",
                    "x-forwarded-for",
                    "x-forwarded-proto",
                ] {
                    assert!(request.header(header).is_some(), "{nominated} took {header} away");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn repeated_headers_are_judged_whole() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let headers = [
        ("x-pomerium-claim-email", "spoofed"),
        ("x-pomerium-claim-email", "spoofed too"),
    ];
    client.get_with(&stage.env.url("open", "/"), &headers).await?;
    assert!(!stage.upstream.requests().iter().any(is_spoofed));
    Ok(())
}

#[tokio::test]
async fn our_cookies_and_tokens_stay_here() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let cookie = client
        .cookie(&stage.env.url("app", "/"), "_pomerium")
        .context("no cookie")?;
    client.set_cookie(&stage.env.url("app", "/"), "theirs", "1")?;
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage
        .upstream
        .take_requests()
        .pop()
        .context("the application was asked")?;
    assert_eq!(request.header("cookie"), Some("theirs=1"));
    assert!(!format!("{:?}", request.headers).contains(&cookie));
    Ok(())
}

/// A template may quote what the client sent, but not what opens our doors.
#[tokio::test]
async fn templates_quote_no_credentials_of_ours() -> Result<()> {
    let stage = scripted_with(|builder| {
        let quoting = Route::new("quoting", "http://127.0.0.1:9").public().set(
            "set_request_headers",
            json!({
                "X-Cookie": "${pomerium.request.headers[\"Cookie\"]}",
                "X-Auth": "${pomerium.request.headers[\"Authorization\"]}",
                "X-Other": "${pomerium.request.headers[\"X-Pomerium-Authorization\"]}",
                "X-Agent": "${pomerium.request.headers[\"X-Agent-Name\"]}",
            }),
        );
        builder.route(quoting)
    })
    .await?;
    let mut env = stage.env;
    let to = stage.upstream.url();
    let mark = env.log().mark();
    env.rewrite_config(|config| {
        let routes = config["routes"].as_array_mut();
        for route in routes.into_iter().flatten() {
            if route["set_request_headers"].is_object() {
                route["to"] = to.clone().into();
            }
        }
    })?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    let headers = [
        ("cookie", "theme=dark; _pomerium=secret"),
        ("authorization", "Pomerium secret"),
        ("x-pomerium-authorization", "secret"),
        ("x-agent-name", "browser"),
    ];
    stage.upstream.take_requests();
    env.client()?.get_with(&env.url("quoting", "/"), &headers).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    assert_eq!(request.header("x-cookie"), Some("theme=dark"));
    assert_eq!(request.header("x-agent"), Some("browser"));
    let secret = |(_, value): &(String, String)| value.contains("secret");
    assert!(!request.headers.iter().any(secret), "{request:?}");
    Ok(())
}

/// Where names with an underscore pass, those that the route sets or removes count in every spelling.
#[tokio::test]
async fn twins_of_the_headers_of_a_route_do_not_pass() -> Result<()> {
    let upstream = Upstream::start().await?;
    let route = Route::new("open", &upstream.url())
        .public()
        .set("set_request_headers", json!({"X-Tenant": "ours"}))
        .set("remove_request_headers", json!(["X-Debug"]));
    let env = Environment::builder()?
        .set("headers_with_underscores_action", "allow")
        .route(route)
        .start()
        .await?;
    let mut client = env.raw("open").await?;
    let authority = env.authority_of("open");
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: {authority}\r\nX_Tenant: spoofed\r\nX_Debug: spoofed\r\nx-debug: spoofed\r\nx_other: passes\r\n\r\n"
        ))
        .await?;
    assert_eq!(client.reply(false).await?.status, 200);
    let request = &upstream.requests()[0];
    assert!(!is_spoofed(request), "{request:?}");
    assert_eq!(request.header("x-tenant"), Some("ours"));
    assert_eq!(request.header("x_other"), Some("passes"));
    Ok(())
}
