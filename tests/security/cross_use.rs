//! Every kind of token against every use (Pomerium CVE-2024-47616): each one works where it belongs and
//! nowhere else, even with the right signature around it.

use anyhow::{Context, Result};
use pomerium_crypto::signed_url;
use pomerium_testing::{Client, ScriptedIdp};
use pomerium_tests::{Stage, scripted};

use crate::forge::{encode, key, now, walk_to};

/// One of each, fresh from real sign-ins.
struct Collected {
    /// Name and value.
    tokens: Vec<(&'static str, String)>,
    /// The browser that was collected from, in the middle of another sign-in.
    browser: Client,
}

fn parameter(url: &str, name: &str) -> Result<String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pair = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    pair.map(str::to_owned)
        .with_context(|| format!("no {name} in {url}"))
}

fn plain(escaped: &str) -> String {
    escaped.replace("%3D", "=").replace("%3d", "=")
}

async fn collect(stage: &Stage<ScriptedIdp>) -> Result<Collected> {
    let (app, auth) = (stage.env.url("app", "/"), stage.env.url("auth", "/"));
    let browser = stage.env.client()?;
    let route_callback = walk_to(&browser, &app, |path| path == "/.pomerium/callback/").await?;
    browser.follow(&route_callback).await?;
    let reply = stage.api(&browser, "app", "/").await?;
    anyhow::ensure!(reply.status == 200, "signed in");
    let request = stage.upstream.take_requests().pop().context("a request")?;
    let assertion = request
        .header("x-pomerium-jwt-assertion")
        .context("an assertion")?;
    let handle = browser.cookie(&app, "_pomerium").context("a session cookie")?;
    let own = browser
        .cookie(&auth, "_pomerium_authenticate")
        .context("a cookie of the authenticate host")?;
    let rounds = browser
        .cookie(&auth, "_pomerium_login_rounds")
        .context("a cookie of the loop breaker")?;
    let sign_in = walk_to(&stage.env.client()?, &app, |path| path == "/.pomerium/sign_in").await?;

    // Without its session, the browser begins another sign-in and stops before the callback.
    let csrf = browser.cookie(&auth, "_pomerium_csrf").context("a CSRF cookie")?;
    let second = stage.env.client()?;
    let callback = walk_to(&second, &app, |path| path == "/oauth2/callback").await?;
    let login = second
        .cookie(&auth, "_pomerium_login")
        .context("a cookie of logins under way")?;
    let tokens = vec![
        ("state", plain(&parameter(&callback, "state")?)),
        ("code", parameter(&callback, "code")?),
        ("login cookie", login),
        ("CSRF cookie", csrf),
        ("rounds cookie", rounds),
        (
            "sealed handle",
            plain(&parameter(&route_callback, "pomerium_session_encrypted")?),
        ),
        (
            "signature of a callback",
            plain(&parameter(&route_callback, "pomerium_signature")?),
        ),
        (
            "signature of a sign-in",
            plain(&parameter(&sign_in, "pomerium_signature")?),
        ),
        ("assertion", assertion.to_owned()),
        ("handle", handle),
        ("handle of the authenticate host", own),
        ("access token", "the-access-token".to_owned()),
    ];
    stage.upstream.take_requests();
    Ok(Collected {
        tokens,
        browser: second,
    })
}

fn exchanges(stage: &Stage<ScriptedIdp>) -> usize {
    stage.idp.seen().iter().filter(|path| *path == "/token").count()
}

#[tokio::test]
async fn only_a_handle_is_a_session() -> Result<()> {
    let stage = scripted().await?;
    let collected = collect(&stage).await?;
    for (name, token) in &collected.tokens {
        let is_handle = name.starts_with("handle");
        let ways = [
            ("cookie", format!("_pomerium={token}")),
            ("authorization", format!("Pomerium {token}")),
            ("authorization", format!("Bearer Pomerium-{token}")),
            ("authorization", format!("Bearer {token}")),
            ("x-pomerium-authorization", token.clone()),
            ("x-pomerium-jwt-assertion", token.clone()),
        ];
        for (header, value) in &ways {
            let headers = [("accept", "application/json"), (*header, value.as_str())];
            let reply = stage
                .env
                .client()?
                .get_with(&stage.env.url("app", "/"), &headers)
                .await?;
            let works = is_handle && !value.starts_with("Bearer ey") && *header != "x-pomerium-jwt-assertion";
            assert_eq!(
                reply.status,
                if works { 200 } else { 401 },
                "{name} in {header}: {value}"
            );
        }
        // At the authenticate host: whoever has no session there is sent to the provider.
        let client = stage.env.client()?;
        client.set_cookie(&stage.env.url("auth", "/"), "_pomerium_authenticate", token)?;
        let reply = client
            .get_with(
                &stage.env.url("auth", "/.pomerium/"),
                &[("accept", "application/json")],
            )
            .await?;
        assert_eq!(reply.status == 200, is_handle, "{name} at the authenticate host");
    }
    Ok(())
}

#[tokio::test]
async fn only_its_own_state_finishes_a_login() -> Result<()> {
    let stage = scripted().await?;
    let collected = collect(&stage).await?;
    let before = exchanges(&stage);
    let auth = stage.env.url("auth", "/");
    for (name, token) in &collected.tokens {
        if *name == "state" {
            continue;
        }
        let url = stage.env.url(
            "auth",
            &format!("/oauth2/callback?code=the-code&state={}", encode(token)),
        );
        let reply = collected
            .browser
            .get_with(&url, &[("accept", "text/html")])
            .await?;
        assert!(
            reply.status.is_client_error(),
            "{name} as state: {}",
            reply.status
        );
    }
    // The right state of a fresh login each time, with something else in the cookies that bind it to the browser.
    for cookie in ["_pomerium_csrf", "_pomerium_login"] {
        for (name, token) in &collected.tokens {
            let client = stage.env.client()?;
            let callback = walk_to(&client, &stage.env.url("app", "/"), |path| {
                path == "/oauth2/callback"
            })
            .await?;
            client.set_cookie(&auth, cookie, token)?;
            let reply = client.get_with(&callback, &[("accept", "text/html")]).await?;
            assert!(
                reply.status.is_client_error(),
                "{name} as {cookie}: {} {:?}",
                reply.status,
                reply.location()
            );
            assert_eq!(
                client.cookie(&auth, "_pomerium_authenticate"),
                None,
                "{name} as {cookie}"
            );
        }
    }
    assert_eq!(exchanges(&stage), before, "no code was spent on any of them");
    let client = stage.env.client()?;
    let callback = walk_to(&client, &stage.env.url("app", "/"), |path| {
        path == "/oauth2/callback"
    })
    .await?;
    let reply = client.get_with(&callback, &[("accept", "text/html")]).await?;
    assert!(
        reply.status.is_redirection(),
        "an untouched login: {}",
        reply.status
    );
    assert_eq!(exchanges(&stage), before + 1);
    Ok(())
}

#[tokio::test]
async fn only_a_sealed_handle_for_this_host_is_taken_by_a_callback() -> Result<()> {
    let stage = scripted().await?;
    let collected = collect(&stage).await?;
    let shared = key(&stage.env, "shared_secret")?;
    let link = |host: &str, token: &str| -> Result<String> {
        let target = encode(&stage.env.url(host, "/"));
        let path = format!(
            "/.pomerium/callback/?pomerium_redirect_uri={target}&pomerium_session_encrypted={}",
            encode(token)
        );
        Ok(signed_url::sign(&shared, &stage.env.url(host, &path), now())?)
    };
    for (name, token) in &collected.tokens {
        for host in ["app", "admin"] {
            let client = stage.env.client()?;
            let reply = client
                .get_with(&link(host, token)?, &[("accept", "text/html")])
                .await?;
            let cookie = client.cookie(&stage.env.url(host, "/"), "_pomerium");
            if *name == "sealed handle" && host == "app" {
                assert!(
                    reply.status.is_redirection(),
                    "the forger works: {}",
                    reply.status
                );
                assert!(cookie.is_some());
            } else {
                assert!(
                    reply.status.is_client_error(),
                    "{name} at the callback of {host}: {}",
                    reply.status
                );
                assert_eq!(cookie, None, "{name} at the callback of {host}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_a_signature_signs() -> Result<()> {
    let stage = scripted().await?;
    let collected = collect(&stage).await?;
    let client = stage.signed_in().await?;
    let shared = key(&stage.env, "shared_secret")?;
    let target = encode(&stage.env.url("app", "/elsewhere"));
    let path = format!("/.pomerium/sign_in?pomerium_redirect_uri={target}");
    let signed = signed_url::sign(&shared, &stage.env.url("auth", &path), now())?;
    let reply = client.get_with(&signed, &[("accept", "text/html")]).await?;
    assert!(
        reply.status.is_redirection(),
        "the forger works: {}",
        reply.status
    );
    let own = parameter(&signed, "pomerium_signature")?;
    for (name, token) in &collected.tokens {
        let url = signed.replace(&own, &encode(token));
        let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
        assert!(
            reply.status.is_client_error(),
            "{name} as signature: {}",
            reply.status
        );
    }
    Ok(())
}
