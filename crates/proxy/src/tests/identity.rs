//! Who asks: sessions, refusals, identity headers.

use super::support::*;

fn protected(to: std::net::SocketAddr, more: &str) -> String {
    format!(
        "  - from: https://app.example.com\n    to: http://{to}\n    allowed_users: [user@example.com]\n{more}"
    )
}

async fn proxy(routes: &str) -> Proxy {
    let mut records = session("s1", "user@example.com");
    records.extend(session("s2", "other@example.com"));
    let options = "jwt_claims_headers: {X-Email: email}\nidp_provider: oidc\nidp_provider_url: https://idp.example.com\nidp_client_id: a\nidp_client_secret: b\nauthenticate_service_url: https://authenticate.example.com";
    Proxy::with(
        &settings(options, routes),
        records,
        pomerium_certs::CertStore::new(Vec::new()),
    )
    .await
}

#[tokio::test]
async fn somebody_who_may_gets_through_with_their_identity() {
    let proxy = proxy(&protected(mirror().await, "    pass_identity_headers: true\n")).await;
    let headers = format!(
        "Cookie: a=1; {}; b=2\r\nX-Email: spoof@example.com\r\nX-Pomerium-Jwt-Assertion: spoof\r\n",
        cookie("s1")
    );
    let answer = proxy.get("/", &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.text();
    let lower = seen.to_ascii_lowercase();
    assert!(
        lower.contains("x-email: user@example.com\r\n") && !lower.contains("spoof"),
        "{seen}"
    );
    assert!(
        lower.contains("cookie: a=1; b=2\r\n") && !lower.contains("_pomerium="),
        "{seen}"
    );
    let line = lower
        .lines()
        .find(|line| line.starts_with("x-pomerium-jwt-assertion: "))
        .unwrap();
    assert_eq!(line.matches('.').count(), 2);
}

#[tokio::test]
async fn identity_stays_inside_unless_it_is_passed() {
    let proxy = proxy(&protected(mirror().await, "")).await;
    let headers = format!(
        "Cookie: {}\r\nX-Email: spoof\r\nX-Pomerium-Jwt-Assertion: spoof\r\nX-Pomerium-Jwt-Assertion-For: spoof\r\n",
        cookie("s1")
    );
    let seen = proxy.get("/", &headers).await.text().to_ascii_lowercase();
    assert!(
        !seen.contains("x-email") && !seen.contains("assertion") && !seen.contains("_pomerium="),
        "{seen}"
    );
}

#[tokio::test]
async fn somebody_who_may_not_is_refused_and_the_log_says_why() {
    let proxy = proxy(&protected(nobody().await, "")).await;
    let answer = proxy
        .get(
            "/",
            &format!("Accept: application/json\r\nCookie: {}\r\n", cookie("s2")),
        )
        .await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("Forbidden"), "{}", answer.text());
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(proxy.line(1).await["response-code-details"], "ext_authz_denied");
    let judged = &proxy.lines("authorize check")[0];
    assert_eq!(
        (&judged["allow"], &judged["email"]),
        (&false.into(), &"other@example.com".into())
    );
    assert!(judged["rule"].is_string(), "{judged}");
}

#[tokio::test]
async fn nobody_is_sent_to_sign_in_or_told_to() {
    let proxy = proxy(&protected(nobody().await, "")).await;
    for token in [
        String::new(),
        format!("Cookie: {}\r\n", cookie("unknown")),
        "Cookie: _pomerium=forged\r\n".into(),
    ] {
        let answer = proxy.get("/", &format!("Accept: text/html\r\n{token}")).await;
        assert_eq!(answer.status, 302, "{token}");
        assert!(
            answer
                .header("location")
                .unwrap()
                .starts_with("https://authenticate.example.com/.pomerium/sign_in")
        );
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
    let answer = proxy.get("/", "Accept: application/json\r\n").await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("Unauthenticated"), "{}", answer.text());
    let answer = proxy.get("/", "Authorization: Pomerium forged\r\n").await;
    assert_eq!(answer.status, 401);
    let answer = proxy.get("/robots.txt", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("User-agent: *"));
}

#[tokio::test]
async fn own_pages_that_need_somebody_need_somebody() {
    let proxy = proxy(&protected(nobody().await, "")).await;
    assert_eq!(
        proxy
            .get("/.pomerium/user", "Accept: application/json\r\n")
            .await
            .status,
        401
    );
    assert_eq!(
        proxy.get("/.pomerium/user", "Accept: text/html\r\n").await.status,
        302
    );
    let answer = proxy
        .get("/.pomerium/user", &format!("Cookie: {}\r\n", cookie("s2")))
        .await;
    assert_eq!(answer.text(), "control /.pomerium/user other@example.com");
    assert!(proxy.get("/.pomerium/", "").await.text().starts_with("control"));
}

#[tokio::test]
async fn a_spelling_of_the_path_does_not_change_the_decision() {
    let routes = format!(
        "  - from: https://app.example.com\n    to: http://{0}\n    prefix: /admin\n    policy: {{deny: {{or: [accept: true]}}}}\n  - from: https://app.example.com\n    to: http://{0}\n    allow_public_unauthenticated_access: true\n",
        mirror().await
    );
    let proxy = proxy(&routes).await;
    for path in [
        "/admin",
        "//admin",
        "/x/../admin",
        "/./admin",
        "/%61dmin",
        "/a/%2e%2e/admin",
        "/\\admin",
        "/x\\..\\admin",
    ] {
        assert_eq!(
            proxy.get(path, "Accept: application/json\r\n").await.status,
            403,
            "{path}"
        );
    }
    for path in ["/x%2f..%2fadmin", "/%5cadmin", "/admin%00"] {
        assert_eq!(proxy.get(path, "").await.status, 400, "{path}");
    }
}
