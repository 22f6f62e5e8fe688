//! The way to the page.

use anyhow::Result;
use http::Method;
use pomerium_crypto::signed_url;
use pomerium_testing::SoftKey;
use pomerium_tests::devices::{Asked, post};
use pomerium_tests::scripted;

use super::{ask, link, usual};
use crate::forge::{encode, key, now};

#[tokio::test]
async fn only_a_link_that_we_signed_for_this_host_and_moment_leads_to_the_page() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let good = usual(&stage)?;
    assert_eq!(client.get(&good).await?.status, 200);
    let (plain, _) = good.split_once('?').unwrap_or_default();
    let foreign = signed_url::sign(&[9; 32], &good.replace("pomerium_signature", "x"), now())?;
    for bad in [
        plain.to_owned(),
        foreign,
        good.replace("device_type=any", "device_type=other"),
        good.replace("app.example.com", "open.example.com"),
        good.replace("pomerium_issued=", "pomerium_issued=0"),
        format!("{good}&pomerium_device_type=other"),
        link(&stage, "app", &[("pomerium_device_type", "any")], 400)?,
    ] {
        for method in [Method::GET, Method::POST] {
            let reply = client
                .send(method.clone(), &bad, &[("accept", "text/html")], "")
                .await?;
            let signed_in_elsewhere = reply.status == 302 && bad.contains("open.example.com");
            assert!(
                reply.status == 400 || signed_in_elsewhere,
                "{method} {bad}: {}",
                reply.status
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_registers_a_device_without_a_session() -> Result<()> {
    let stage = scripted().await?;
    let stranger = stage.env.client()?;
    let reply = stranger
        .get_with(&usual(&stage)?, &[("accept", "text/html")])
        .await?;
    assert_eq!(reply.status, 302, "to the sign-in");
    let reply = stranger
        .get_with(&usual(&stage)?, &[("accept", "application/json")])
        .await?;
    assert_eq!(reply.status, 401);
    // The page of somebody who is signed in, posted by somebody who is not.
    let asked = ask(&stage, &stage.signed_in().await?).await?;
    let reply = asked.register(&stranger, &SoftKey::new(b"stranger")?).await?;
    assert!(
        reply
            .header("location")
            .is_some_and(|to| to.contains("/.pomerium/sign_in")),
        "{reply:?}"
    );
    Ok(())
}

#[tokio::test]
async fn another_site_cannot_post() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let asked = ask(&stage, &client).await?;
    let key = SoftKey::new(b"mine")?;
    assert_eq!(asked.register(&client, &key).await?.status, 302);
    let id = "2NYeK4"; // never mind which: the request ends before
    let body = format!("action=unregister&pomerium_device_credential_id={id}");
    for headers in [
        [
            ("origin", "https://evil.example.org"),
            ("sec-fetch-site", "cross-site"),
        ],
        [
            ("origin", "https://evil.example.com"),
            ("sec-fetch-site", "same-site"),
        ],
        [("origin", "null"), ("x-other", "x")],
        [("origin", "https://evil.example.org"), ("x-other", "x")],
    ] {
        let headers = [
            &headers[..],
            &[("content-type", "application/x-www-form-urlencoded")],
        ]
        .concat();
        let reply = client
            .send(Method::POST, &asked.action, &headers, body.clone())
            .await?;
        assert_eq!(reply.status, 400, "{headers:?}");
    }
    assert!(
        ask(&stage, &client).await?.request.is_some(),
        "the device is still there"
    );
    Ok(())
}

#[tokio::test]
async fn the_page_leads_to_places_of_ours_only() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    for target in [
        "https://evil.example.org/",
        "https://app.example.com.evil.example.org/",
        "//evil.example.org/",
        "/\\evil.example.org",
        "javascript:alert(1)",
        "http://app.example.com/",
        "https://app.example.com@evil.example.org/",
        "/relative",
    ] {
        let parameters = [("pomerium_device_type", "any"), ("pomerium_redirect_uri", target)];
        let url = link(&stage, "app", &parameters, 0)?;
        assert_eq!(client.get(&url).await?.status, 400, "{target}");
        assert_eq!(
            post(&client, &url, &[("action", "register")]).await?.status,
            400,
            "{target}"
        );
    }
    Ok(())
}

/// What the link says counts, and nothing that the form says.
#[tokio::test]
async fn a_form_cannot_change_what_the_link_says() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let asked = ask(&stage, &client).await?;
    let answer = SoftKey::new(b"mine")?
        .create(
            &asked.creation,
            &pomerium_testing::Answering::at(&stage.env.url("app", "")),
        )?
        .to_string();
    let reply = post(
        &client,
        &asked.action,
        &[
            ("action", "register"),
            ("register_response", &answer),
            ("pomerium_redirect_uri", "https://evil.example.org/"),
            ("pomerium_device_type", "enclave_only"),
        ],
    )
    .await?;
    assert_eq!(
        reply.header("location"),
        Some(stage.env.url("app", "/after").as_str())
    );
    assert!(
        ask(&stage, &client).await?.request.is_some(),
        "registered as the link said"
    );
    Ok(())
}

/// The page lives five minutes as a link and fifteen as a form; neither lives for ever.
#[tokio::test]
async fn the_form_of_the_page_ends_too() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let asked = ask(&stage, &client).await?;
    let times: Vec<i64> = ["pomerium_issued", "pomerium_expiry"]
        .iter()
        .filter_map(|name| {
            let (_, rest) = asked.action.split_once(&format!("{name}="))?;
            rest.split('&').next()?.parse().ok()
        })
        .collect();
    assert_eq!(
        times.get(1).zip(times.first()).map(|(end, begin)| end - begin),
        Some(900)
    );
    let (base, _) = asked.action.split_once('?').unwrap_or_default();
    let query = format!(
        "pomerium_device_type=any&pomerium_redirect_uri={}",
        encode(&stage.env.url("app", "/after"))
    );
    let shared = key(&stage.env, "shared_secret")?;
    let old = signed_url::sign_for(&shared, &format!("{base}?{query}"), now() - 1_000, 900)?;
    let late = Asked { action: old, ..asked };
    let reply = late.register(&client, &SoftKey::new(b"late")?).await?;
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("Try again"),
        "the page offers a way on:\n{}",
        reply.text()
    );
    Ok(())
}
