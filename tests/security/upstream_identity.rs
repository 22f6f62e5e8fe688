//! Spoofed identity towards upstreams that take our word for who asks (the class of the Kubernetes
//! impersonation headers, of `X-Serverless-Authorization`, and of assertions that a caller hands on).

use anyhow::{Context, Result};
use pomerium_crypto::jwt::SigningKey;
use pomerium_testing::{Environment, Recorded, Route, ScriptedIdp, SignIn, Upstream};
use pomerium_tests::scripted;
use serde_json::{Value, json};

use crate::forge;

fn is_spoofed(request: &Recorded) -> bool {
    request.headers.iter().any(|(_, value)| value.contains("spoofed"))
}

async fn kubernetes(
    change: impl FnOnce(Route) -> Route,
    underscores: &str,
) -> Result<(Environment, Upstream, ScriptedIdp)> {
    let (upstream, idp) = (Upstream::start().await?, ScriptedIdp::start().await?);
    let route =
        Route::new("kubernetes", &upstream.url()).set("kubernetes_service_account_token", "the-token");
    let env = Environment::builder()?
        .set("headers_with_underscores_action", underscores)
        .sign_in(SignIn::Oidc(idp.issuer()))
        .route(change(route))
        .start()
        .await?;
    Ok((env, upstream, idp))
}

/// Every spelling of the headers that say for whom the API server acts.
const IMPERSONATE: [&str; 9] = [
    "Impersonate-User",
    "impersonate-group",
    "IMPERSONATE-UID",
    "Impersonate-Extra-scopes",
    "Impersonate-Extra-a%2fb",
    "Impersonate_User",
    "impersonate_group",
    "Impersonate-Extra_x",
    "Impersonate-Of-Tomorrow",
];

#[tokio::test]
async fn nobody_says_for_whom_an_api_server_acts_but_us() -> Result<()> {
    let (env, upstream, _idp) = kubernetes(Route::any_user, "allow").await?;
    let client = env.client()?;
    client.follow(&env.url("kubernetes", "/")).await?;
    upstream.take_requests();
    let cookie = client
        .cookie(&env.url("kubernetes", "/"), "_pomerium")
        .context("no cookie")?;
    for name in IMPERSONATE {
        for more in [
            "",
            "Connection: Impersonate-User, Impersonate-Group, Authorization\r\n",
        ] {
            let mut raw = env.raw("kubernetes").await?;
            raw.send(format!(
                "GET / HTTP/1.1\r\nHost: {}\r\nCookie: _pomerium={cookie}\r\nAuthorization: Bearer spoofed\r\n{more}{name}: spoofed\r\n\r\n",
                env.authority_of("kubernetes")
            ))
            .await?;
            let reply = raw.reply(false).await?;
            let Some(request) = upstream.take_requests().pop() else {
                assert_eq!(reply.status, 400, "{name}");
                continue;
            };
            assert!(!is_spoofed(&request), "{name}: {:?}", request.headers);
            assert_eq!(
                request.headers_named("authorization"),
                ["Bearer the-token"],
                "{name}"
            );
            assert_eq!(
                request.headers_named("impersonate-user"),
                ["developer@example.com"],
                "{name}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_rights_of_the_token_itself_are_for_nobody() -> Result<()> {
    // Without `Impersonate-User` the API server would act with all rights of the token.
    let (env, upstream, _idp) = kubernetes(Route::public, "reject_request").await?;
    let reply = env
        .client()?
        .get_with(&env.url("kubernetes", "/"), &[("impersonate-user", "spoofed")])
        .await?;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(upstream.requests().is_empty());

    // A route that takes the headers away by mistake does not take these.
    let (env, upstream, idp) = kubernetes(
        |route| {
            route.any_user().set(
                "remove_request_headers",
                json!(["impersonate-user", "impersonate-group"]),
            )
        },
        "reject_request",
    )
    .await?;
    let client = env.client()?;
    client.follow(&env.url("kubernetes", "/")).await?;
    let request = upstream
        .take_requests()
        .pop()
        .context("the API server was asked")?;
    assert_eq!(
        request.headers_named("impersonate-user"),
        ["developer@example.com"]
    );

    // Names that the cluster keeps for itself, chosen at the provider.
    idp.script(|script| script.claims["email"] = "system:admin".into());
    let other = env.client()?;
    let reply = other.follow(&env.url("kubernetes", "/")).await?;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(upstream.requests().is_empty());
    Ok(())
}

/// What a service sends that acts for somebody.
async fn carried(
    stage: &pomerium_tests::Stage<ScriptedIdp>,
    route: &str,
    name: &str,
    token: &str,
) -> Result<Recorded> {
    let headers = [(name, token)];
    stage
        .env
        .client()?
        .get_with(&stage.env.url(route, "/"), &headers)
        .await?;
    stage
        .upstream
        .take_requests()
        .pop()
        .context("the application was asked")
}

#[tokio::test]
async fn the_person_behind_a_service_is_carried_on_only_when_we_said_so_ourselves() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    let ours = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?
        .to_owned();
    for name in ["x-pomerium-jwt-assertion", "x-pomerium-jwt-assertion-for"] {
        let request = carried(&stage, "open", name, &ours).await?;
        assert_eq!(
            request.headers_named("x-pomerium-jwt-assertion-for"),
            [ours.as_str()],
            "{name}"
        );
        let own = request.header("x-pomerium-jwt-assertion").unwrap_or_default();
        assert_ne!(own, ours, "the caller is not the person");
        assert_eq!(pomerium_tests::payload(own)["email"], "");
    }
    let request = carried(&stage, "ws", "x-pomerium-jwt-assertion-for", &ours).await;
    assert!(request.is_err(), "that route is not open");

    let key = SigningKey::derived(&forge::key(&stage.env, "shared_secret")?);
    let now = forge::now();
    let claims =
        |aud: &str, exp: i64| json!({ "iss": aud, "aud": aud, "exp": exp, "email": "spoofed@example.com" });
    let signed = |claims: &Value| key.sign(claims);
    let public = key.jwks()["keys"][0].to_string();
    let good = claims("app.example.com", now + 60);
    let forged = [
        (
            "another audience",
            signed(&claims("elsewhere.example.org", now + 60))?,
        ),
        ("over", signed(&claims("app.example.com", now - 1))?),
        ("a key of theirs", SigningKey::random().sign(&good)?),
        (
            "the public key as a secret",
            forge::hmac_jwt(
                public.as_bytes(),
                &json!({ "alg": "HS256", "typ": "JWT", "kid": key.kid() }),
                &good,
            ),
        ),
        (
            "the shared secret",
            forge::hmac_jwt(&forge::key(&stage.env, "shared_secret")?, &forge::hs256(), &good),
        ),
        (
            "no signature",
            format!(
                "{}.{}.",
                forge::part(&json!({ "alg": "none", "kid": key.kid() })),
                forge::part(&good)
            ),
        ),
        ("no token", "spoofed".to_owned()),
    ];
    for (what, token) in &forged {
        for name in ["x-pomerium-jwt-assertion", "x-pomerium-jwt-assertion-for"] {
            let request = carried(&stage, "open", name, token).await?;
            assert_eq!(
                request.header("x-pomerium-jwt-assertion-for"),
                None,
                "{what} in {name}"
            );
            assert!(
                !request.headers.iter().any(|(_, value)| value == token),
                "{what} in {name}"
            );
        }
    }
    let control = signed(&good)?;
    let request = carried(&stage, "open", "x-pomerium-jwt-assertion", &control).await?;
    assert_eq!(
        request.headers_named("x-pomerium-jwt-assertion-for"),
        [control.as_str()],
        "the same statement is good when it is signed by our key: the tests above fail for their reason"
    );
    Ok(())
}

#[tokio::test]
async fn two_assertions_are_none() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    let ours = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?
        .to_owned();
    let headers = [
        ("x-pomerium-jwt-assertion-for", ours.as_str()),
        ("x-pomerium-jwt-assertion-for", "spoofed"),
        ("x-pomerium-jwt-assertion", ours.as_str()),
    ];
    let url = stage.env.url("open", "/");
    stage.env.client()?.get_with(&url, &headers).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    assert_eq!(request.header("x-pomerium-jwt-assertion-for"), None);
    Ok(())
}
