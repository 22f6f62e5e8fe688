//! The way in: who is sent to a page and who is told, loops that end, sign-ins that start clean
//! (oauth2-proxy CVE-2026-34454, oauth2-proxy issues 1522 and 1393).

use anyhow::{Context, Result};
use http::Method;
use pomerium_tests::{local, scripted};

use crate::forge::walk_to;

#[tokio::test]
async fn only_a_navigation_is_sent_to_the_sign_in_page() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let url = stage.env.url("app", "/data?x=1");
    let scripts: &[&[(&str, &str)]] = &[
        &[("accept", "application/json")],
        &[
            ("accept", "*/*"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
        ],
        &[("accept", "*/*"), ("x-requested-with", "XMLHttpRequest")],
        &[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")],
        &[
            ("accept", "text/html"),
            ("sec-fetch-mode", "no-cors"),
            ("sec-fetch-dest", "image"),
        ],
        &[
            ("accept", "application/grpc"),
            ("content-type", "application/grpc"),
        ],
        &[("accept", "text/event-stream"), ("sec-fetch-mode", "cors")],
    ];
    for headers in scripts {
        let reply = client.get_with(&url, headers).await?;
        let grpc = headers.iter().any(|(_, value)| *value == "application/grpc");
        if grpc {
            assert_eq!(reply.header("grpc-status"), Some("16"), "{headers:?}");
        } else {
            assert_eq!(reply.status, 401, "{headers:?}");
        }
        assert!(reply.header("location").is_none(), "{headers:?}");
        assert!(!reply.text().contains("<html"), "{headers:?}: {}", reply.text());
    }
    let json = client.get_with(&url, &[("accept", "application/json")]).await?;
    let json = json.json()?;
    let page = json.to_string();
    assert!(
        page.contains("/.pomerium/sign_in?"),
        "the way in is in the body: {page}"
    );
    let navigation = client
        .get_with(&url, &[("accept", "text/html"), ("sec-fetch-mode", "navigate")])
        .await?;
    assert_eq!(navigation.status, 302);
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_browser_that_keeps_no_cookie_is_told_so_after_two_rounds() -> Result<()> {
    let stage = scripted().await?;
    // The route's cookie is refused: the authenticate host sees the same destination again and again.
    let client = stage.env.client()?;
    let app = stage.env.url("app", "/");
    let mut url = app.clone();
    let mut sign_ins = 0;
    let page = loop {
        anyhow::ensure!(sign_ins <= 3, "round and round: {url}");
        let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
        client.set_cookie(&app, "_pomerium", "refused")?;
        let Some(next) = reply.location() else { break reply };
        if next.path() == "/.pomerium/callback/" {
            sign_ins += 1;
        }
        next.as_str().clone_into(&mut url);
    };
    assert!(page.status.is_client_error(), "{}", page.status);
    assert!(page.text().to_lowercase().contains("cookie"), "{}", page.text());
    assert_eq!(sign_ins, 2, "two rounds");
    stage
        .env
        .log()
        .wait("the broken loop", |line| line.contains("sign-in loop broken"))
        .await?;

    // Every cookie is refused: the count is in the signed address.
    let mut url = app;
    let mut rounds = 0;
    let page = loop {
        anyhow::ensure!(rounds <= 5, "round and round: {url}");
        let client = stage.env.client()?;
        let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
        let Some(next) = reply.location() else { break reply };
        if next.path() == "/authorize" {
            rounds += 1;
        }
        next.as_str().clone_into(&mut url);
    };
    assert!(page.status.is_client_error(), "{}", page.status);
    assert!(page.text().to_lowercase().contains("cookie"), "{}", page.text());
    Ok(())
}

#[tokio::test]
async fn a_denied_person_sees_a_page_and_no_loop() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let reply = client.follow(&stage.env.url("admin", "/")).await?;
    assert_eq!(reply.status, 403);
    assert!(reply.hops.len() <= 6, "{:?}", reply.hops);
    let again = client
        .get_with(&stage.env.url("admin", "/"), &[("accept", "text/html")])
        .await?;
    assert_eq!(again.status, 403, "at once, the second time");
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn cookies_planted_before_a_sign_in_are_worth_nothing_after_it() -> Result<()> {
    let stage = scripted().await?;
    let (app, auth) = (stage.env.url("app", "/"), stage.env.url("auth", "/"));
    let attacker = stage.signed_in().await?;
    let planted = attacker.cookie(&app, "_pomerium").context("a cookie")?;
    let planted_auth = attacker
        .cookie(&auth, "_pomerium_authenticate")
        .context("a cookie")?;
    // The attacker ends the session and plants its cookies; the victim signs in with them in the jar.
    let page = attacker
        .follow(&stage.env.url("app", "/.pomerium/sign_out"))
        .await?;
    if page.text().contains("<form") {
        attacker.submit_form(&page, "sign_out").await?;
    }
    let victim = stage.env.client()?;
    victim.set_cookie(&app, "_pomerium", &planted)?;
    victim.set_cookie(&auth, "_pomerium_authenticate", &planted_auth)?;
    assert_eq!(victim.follow(&app).await?.status, 200);
    assert_ne!(victim.cookie(&app, "_pomerium"), Some(planted.clone()));
    assert_ne!(
        victim.cookie(&auth, "_pomerium_authenticate"),
        Some(planted_auth.clone())
    );
    let thief = stage.env.client()?;
    thief.set_cookie(&app, "_pomerium", &planted)?;
    thief.set_cookie(&auth, "_pomerium_authenticate", &planted_auth)?;
    assert_eq!(
        stage.api(&thief, "app", "/").await?.status,
        401,
        "the planted session is dead"
    );
    Ok(())
}

#[tokio::test]
async fn a_link_to_the_callback_of_a_stranger_signs_nobody_in_as_them() -> Result<()> {
    let stage = scripted().await?;
    let attacker = stage.env.client()?;
    // Login CSRF: the attacker's own, fresh answer of the provider, opened by a victim with a login under way.
    let app = stage.env.url("app", "/");
    let link = walk_to(&attacker, &app, |path| path == "/oauth2/callback").await?;
    let victim = stage.env.client()?;
    walk_to(&victim, &app, |path| path == "/oauth2/callback").await?;
    let reply = victim.get_with(&link, &[("accept", "text/html")]).await?;
    assert!(reply.status.is_client_error(), "{}", reply.status);
    assert_eq!(
        victim.cookie(&stage.env.url("auth", "/"), "_pomerium_authenticate"),
        None
    );
    assert!(stage.idp.seen().iter().all(|path| path != "/token"));
    Ok(())
}

#[tokio::test]
async fn the_sign_in_form_takes_no_post_of_another_site() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    let page = client.follow(&stage.env.url("app", "/")).await?;
    assert!(page.text().contains("type=\"password\""), "{}", page.text());
    let form = "email=developer%40example.com&username=developer%40example.com&login=developer%40example.com\
                &password=correct+horse+battery+staple";
    for headers in [
        &[
            ("origin", "https://evil.example.org"),
            ("sec-fetch-site", "cross-site"),
        ][..],
        &[("origin", "null")],
        // Without its token, even from our own page.
        &[("sec-fetch-site", "same-origin")],
    ] {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let headers = [&kind[..], headers].concat();
        let reply = client
            .send(Method::POST, page.url.as_str(), &headers, form)
            .await?;
        let onward = reply
            .location()
            .is_some_and(|url| url.query().is_some_and(|query| query.contains("code=")));
        assert!(!onward, "{headers:?}: {} {:?}", reply.status, reply.location());
        assert_eq!(client.cookie(&stage.env.url("app", "/"), "_pomerium"), None);
    }
    Ok(())
}
