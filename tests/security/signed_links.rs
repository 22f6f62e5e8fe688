//! Signed links made with the right key (Pomerium CVE-2021-29652): expired, not yet good, used twice, made for
//! another endpoint or host, with parameters said twice.

use anyhow::{Context, Result};
use pomerium_crypto::signed_url;
use pomerium_tests::scripted;

use crate::forge::{encode, key, now, walk_to};

/// Seconds: a link lives five minutes, clocks may be one apart.
const OLD: i64 = 300 + 60 + 5;

#[tokio::test]
async fn sign_in_links_have_their_time_and_place() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let (shared, now) = (key(&stage.env, "shared_secret")?, now());
    let target = format!(
        "pomerium_redirect_uri={}",
        encode(&stage.env.url("app", "/elsewhere"))
    );
    let good = stage.env.url("auth", &format!("/.pomerium/sign_in?{target}"));
    let status = async |url: &str| -> Result<u16> {
        let reply = client.get_with(url, &[("accept", "text/html")]).await?;
        Ok(reply.status.as_u16())
    };
    let right = signed_url::sign(&shared, &good, now)?;
    assert_eq!(status(&right).await?, 302, "the forger works");
    let foreign_host = format!("https://evil.example.org/.pomerium/sign_in?{target}");
    let moved = |url: &str| -> Result<String> {
        let signed = signed_url::sign(&shared, url, now)?;
        let query = signed.split_once('?').context("a query")?.1.to_owned();
        Ok(stage.env.url("auth", &format!("/.pomerium/sign_in?{query}")))
    };
    for (name, url) in [
        ("not signed", good.clone()),
        ("expired", signed_url::sign(&shared, &good, now - OLD)?),
        ("from the future", signed_url::sign(&shared, &good, now + 70)?),
        ("another key", signed_url::sign(&[0; 32], &good, now)?),
        (
            "the cookie secret",
            signed_url::sign(&key(&stage.env, "cookie_secret")?, &good, now)?,
        ),
        ("made for another host", moved(&foreign_host)?),
        (
            "made for another endpoint",
            moved(&stage.env.url("auth", &format!("/.pomerium/sign_out?{target}")))?,
        ),
        (
            "one more parameter",
            format!("{right}&pomerium_programmatic=true"),
        ),
        (
            "target twice",
            format!(
                "{right}&pomerium_redirect_uri={}",
                encode("https://evil.example.org/")
            ),
        ),
        (
            "target twice, first",
            right.replacen("sign_in?", &format!("sign_in?{target}&"), 1),
        ),
        ("broken escape", format!("{right}&x=%zz")),
        ("semicolon", format!("{right};pomerium_programmatic=true")),
    ] {
        assert_eq!(status(&url).await?, 400, "{name}: {url}");
    }
    // Signed, and yet leading elsewhere: a signature is no reason to trust what came from a request once.
    for foreign in [
        "https://evil.example.org/",
        "https://app.example.com@evil.example.org/",
        "http://app.example.com/",
    ] {
        let url = stage.env.url(
            "auth",
            &format!("/.pomerium/sign_in?pomerium_redirect_uri={}", encode(foreign)),
        );
        let reply = client
            .get_with(&signed_url::sign(&shared, &url, now)?, &[("accept", "text/html")])
            .await?;
        assert!(reply.status.is_client_error(), "{foreign}: {}", reply.status);
    }
    Ok(())
}

#[tokio::test]
async fn a_callback_is_good_once_in_its_time_on_its_host() -> Result<()> {
    let stage = scripted().await?;
    let shared = key(&stage.env, "shared_secret")?;
    let fresh = stage.env.client()?;
    let callback = walk_to(&fresh, &stage.env.url("app", "/"), |path| {
        path == "/.pomerium/callback/"
    })
    .await?;
    let app = stage.env.url("app", "/");
    let visit = async |url: &str| -> Result<(u16, Option<String>)> {
        let client = stage.env.client()?;
        let reply = client.get_with(url, &[("accept", "text/html")]).await?;
        let host = reply.url.clone();
        let cookie = client.cookie(host.as_str(), "_pomerium");
        Ok((reply.status.as_u16(), cookie))
    };
    let pairs: Vec<&str> = callback
        .split_once('?')
        .context("a query")?
        .1
        .split('&')
        .filter(|pair| {
            !pair.starts_with("pomerium_signature=")
                && !pair.starts_with("pomerium_issued=")
                && !pair.starts_with("pomerium_expiry=")
        })
        .collect();
    let unsigned = stage
        .env
        .url("app", &format!("/.pomerium/callback/?{}", pairs.join("&")));
    for (name, url) in [
        ("not signed", unsigned.clone()),
        ("expired", signed_url::sign(&shared, &unsigned, now() - OLD)?),
        (
            "from the future",
            signed_url::sign(&shared, &unsigned, now() + 70)?,
        ),
        ("another key", signed_url::sign(&[1; 32], &unsigned, now())?),
        (
            "moved to another host",
            callback.replacen("//app.", "//admin.", 1),
        ),
        (
            "signed for another host",
            signed_url::sign(&shared, &unsigned.replacen("//app.", "//admin.", 1), now())?,
        ),
    ] {
        let (status, cookie) = visit(&url).await?;
        assert_eq!(status, 400, "{name}");
        assert_eq!(cookie, None, "{name}");
    }
    let (status, cookie) = visit(&callback).await?;
    assert_eq!(status, 302, "the honest one");
    assert!(cookie.is_some());
    let (status, cookie) = visit(&callback).await?;
    assert!(
        (400..500).contains(&status),
        "replayed in another browser: {status}"
    );
    assert_eq!(cookie, None, "replayed in another browser");
    assert!(fresh.cookie(&app, "_pomerium").is_none());
    Ok(())
}

#[tokio::test]
async fn a_sign_out_link_names_a_session_only_when_signed() -> Result<()> {
    let stage = scripted().await?;
    let victim = stage.signed_in().await?;
    // The link that a route makes for its own visitor, taken to another browser.
    let reply = victim
        .get_with(
            &stage.env.url("app", "/.pomerium/sign_out"),
            &[("accept", "text/html"), ("sec-fetch-site", "same-origin")],
        )
        .await?;
    let link = reply.location().context("a link to the authenticate host")?;
    assert_eq!(link.path(), "/.pomerium/sign_out");
    let thief = stage.signed_in().await?;
    let session = link
        .query_pairs()
        .find(|(name, _)| name == "pomerium_session_ref")
        .map(|(_, value)| value.into_owned())
        .context("names a session")?;
    // Unsigned, and on a route: it ends nothing.
    for host in ["auth", "app"] {
        let url = stage.env.url(
            host,
            &format!("/.pomerium/sign_out?pomerium_session_ref={}", encode(&session)),
        );
        thief
            .get_with(&url, &[("accept", "text/html"), ("sec-fetch-site", "cross-site")])
            .await?;
    }
    let own = stage.env.client()?;
    let victims = victim.cookie(&stage.env.url("app", "/"), "_pomerium");
    assert_eq!(victims, None, "the route took its own cookie back");
    drop(own);
    let again = victim.follow(&stage.env.url("app", "/")).await?;
    assert_eq!(again.status, 200);
    let asked = stage
        .idp
        .seen()
        .iter()
        .filter(|path| *path == "/authorize")
        .count();
    assert_eq!(asked, 2, "the victim's session at the authenticate host went on");
    Ok(())
}
