//! The built-in provider under attack (pocket-id CVE-2026-28512, -28513; tinyauth CVE-2026-32245; zitadel
//! CVE-2026-55672): redirect addresses are compared whole, codes are bound to client, address and PKCE, and what
//! people type is shown as text.

use anyhow::{Context, Result};
use http::Method;
use pomerium_testing::{Client, Environment, Reply};
use pomerium_tests::{developer, local};
use serde_json::Value;

use crate::forge::encode;

async fn discovery(env: &Environment, client: &Client) -> Result<Value> {
    let url = env.url("auth", "/.pomerium/idp/.well-known/openid-configuration");
    let reply = client.get(&url).await?;
    anyhow::ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    reply.json()
}

/// The sign-in page of the provider, reached by way of `app`.
async fn page(env: &Environment, client: &Client) -> Result<Reply> {
    let page = client.follow(&env.url("app", "/")).await?;
    anyhow::ensure!(page.text().contains("type=\"password\""), "{}", page.text());
    Ok(page)
}

#[tokio::test]
async fn authorization_requests_that_are_not_ours_lead_nowhere() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    // Signed in at the provider, so that a good request would be answered with a code at once.
    let first = page(&stage.env, &client).await?;
    client
        .sign_in(&first, "developer@example.com", developer().password())
        .await?;
    let authorize = discovery(&stage.env, &client).await?["authorization_endpoint"]
        .as_str()
        .context("an endpoint")?
        .to_owned();
    let fresh = stage.env.client()?;
    let good = crate::forge::walk_to(&fresh, &stage.env.url("app", "/"), |path| {
        path.starts_with("/.pomerium/idp/")
    })
    .await?;
    let query = good.split_once('?').context("a query")?.1.to_owned();
    let code_of = async |query: String| -> Result<(u16, Option<String>)> {
        let reply = client
            .get_with(&format!("{authorize}?{query}"), &[("accept", "text/html")])
            .await?;
        Ok((reply.status.as_u16(), reply.header("location").map(str::to_owned)))
    };
    let own = query
        .split('&')
        .find(|pair| pair.starts_with("redirect_uri="))
        .context("a redirect address")?
        .to_owned();
    let auth = stage.env.url("auth", "");
    for address in [
        "https://evil.example.org/oauth2/callback".to_owned(),
        format!("{auth}/oauth2/callback/"),
        format!("{auth}/oauth2/callback/../x"),
        format!("{auth}/oauth2/callback?x=1"),
        format!("{auth}/oauth2/callback#x"),
        format!("{auth}/OAuth2/callback"),
        format!("{auth}.evil.example.org/oauth2/callback"),
        format!("{auth}@evil.example.org/oauth2/callback"),
        "http://auth.example.com/oauth2/callback".to_owned(),
        "javascript:alert(1)".to_owned(),
        String::new(),
    ] {
        let changed = query.replace(&own, &format!("redirect_uri={}", encode(&address)));
        let (status, location) = code_of(changed).await?;
        assert!((400..500).contains(&status), "{address}: {status} {location:?}");
        assert_eq!(location, None, "{address}");
    }
    let doubled = format!("{query}&redirect_uri={}", encode("https://evil.example.org/"));
    let (status, location) = code_of(doubled).await?;
    assert!(
        (400..500).contains(&status) && location.is_none(),
        "two addresses: {status} {location:?}"
    );
    let no_code = |location: Option<String>| location.is_none_or(|url| !url.contains("code="));
    for (name, from, to) in [
        ("another client", "client_id=", "client_id=evil"),
        ("implicit flow", "response_type=code", "response_type=token"),
        (
            "id_token in the address",
            "response_type=code",
            "response_type=id_token",
        ),
        (
            "plain PKCE",
            "code_challenge_method=S256",
            "code_challenge_method=plain",
        ),
        ("no PKCE", "code_challenge=", "x="),
    ] {
        let (status, location) = code_of(query.replacen(from, to, 1)).await?;
        assert!(no_code(location.clone()), "{name}: {status} {location:?}");
    }
    let (status, location) = code_of(query).await?;
    assert!(
        location.as_ref().is_some_and(|url| url.contains("code=")),
        "the control: {status} {location:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_token_endpoint_is_not_for_strangers() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    let endpoints = discovery(&stage.env, &client).await?;
    let token = endpoints["token_endpoint"].as_str().context("an endpoint")?;
    let userinfo = endpoints["userinfo_endpoint"].as_str().context("an endpoint")?;
    for form in [
        "",
        "grant_type=authorization_code&code=x",
        "grant_type=authorization_code&code=x&client_id=pomerium&client_secret=",
        "grant_type=password&username=developer%40example.com&password=correct+horse+battery+staple",
        "grant_type=client_credentials",
        "grant_type=refresh_token&refresh_token=x",
    ] {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let reply = client.send(Method::POST, token, &kind, form).await?;
        assert!(reply.status.is_client_error(), "{form}: {}", reply.status);
        assert!(
            !reply.text().contains("access_token\""),
            "{form}: {}",
            reply.text()
        );
    }
    for header in ["Bearer x", "Bearer ", "Basic eDp5"] {
        let reply = client.get_with(userinfo, &[("authorization", header)]).await?;
        assert!(reply.status.is_client_error(), "{header}: {}", reply.status);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_typed_into_the_sign_in_page_is_shown_as_text() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    for typed in [
        "\"><script>alert(1)</script>",
        "'><img src=x onerror=alert(1)>",
        "{{7*7}}${7*7}",
        "</title><script>alert(1)</script>",
        "\u{202e}moc.elpmaxe@repoleved",
    ] {
        let form = page(&stage.env, &client).await?;
        let reply = client.sign_in(&form, typed, "wrong").await?;
        let text = reply.text();
        assert!(text.contains("<h1"), "{typed}: {text}");
        for markup in ["<script>alert", "<img src=x", "onerror=alert(1)>", ">49<"] {
            assert!(!text.contains(markup), "{typed}: {text}");
        }
        let policy = reply.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy:?}"
        );
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(
            reply
                .header("cache-control")
                .is_some_and(|value| value.contains("no-store")),
            "{:?}",
            reply.header("cache-control")
        );
    }
    Ok(())
}
