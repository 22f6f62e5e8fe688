//! Registered devices: Chromium with a device of its own that answers at once.

use anyhow::{Context, Result};
use pomerium_api::pb::device::Enrollment;
use pomerium_testing::{Browser, Environment, Look, Page, Route};
use pomerium_tests::records::edit;
use pomerium_tests::{Stage, admin, developer, local_with};
use serde_json::{Value, json};

use crate::browser_local::judge_page;

/// `work` opens on any registered device, `vault` on approved ones.
async fn stage() -> Result<Stage<()>> {
    let upstream = pomerium_testing::Upstream::start().await?;
    let url = upstream.url();
    let policy = |device: Value| json!([{ "allow": { "and": [{ "device": device }] } }]);
    let mut stage = local_with(|builder| {
        builder
            .route(Route::new("work", &url).policy(policy(json!({ "type": "any" }))))
            .route(Route::new("vault", &url).policy(policy(json!({ "type": "any", "approved": true }))))
    })
    .await?;
    stage.upstream = upstream;
    Ok(stage)
}

async fn signed_in(browser: &Browser, env: &Environment, look: Look) -> Result<Page> {
    let page = browser.open(look).await?;
    page.goto(&env.url("work", "/inside?x=1")).await?;
    page.sign_in("developer@example.com", developer().password())
        .await?;
    page.wait_for("#device button").await?;
    Ok(page)
}

async fn press(page: &Page, act: &str) -> Result<String> {
    page.follow(&format!("button[data-act={act}]")).await
}

#[tokio::test]
async fn from_the_first_visit_to_the_application_and_back() -> Result<()> {
    let stage = stage().await?;
    let browser = Browser::start().await?;
    let page = signed_in(&browser, &stage.env, Look::PHONE).await?;
    page.add_authenticator(false, &[]).await?;
    let text = page.text("main").await?;
    assert!(text.contains("work"), "the page says what for:\n{text}");
    assert_eq!(
        page.count("button[data-act=authenticate]").await?,
        0,
        "no device is known yet"
    );
    assert_eq!(
        press(&page, "register").await?,
        stage.env.url("work", "/inside?x=1")
    );
    assert_eq!(page.credentials().await?.len(), 1);
    assert_eq!(
        page.goto(&stage.env.url("work", "/again")).await?.0,
        200,
        "and stays"
    );

    // Another session of the same person, with the same device.
    let keys = page.credentials().await?;
    let second = signed_in(&browser, &stage.env, Look::DESKTOP).await?;
    second.add_authenticator(false, &keys).await?;
    assert_eq!(
        press(&second, "authenticate").await?,
        stage.env.url("work", "/inside?x=1")
    );
    assert_eq!(second.credentials().await?.len(), 1, "no new key was made");

    // One of them takes it away; both are asked again.
    page.goto(&stage.env.url("work", "/.pomerium/")).await?;
    let text = page.text("section:has(#devices)").await?;
    assert!(
        text.contains("Shown in this session") && text.contains("Not approved yet"),
        "{text}"
    );
    judge_page(&page, "account-device-390-light").await?;
    page.click("section:has(#devices) summary").await?;
    page.follow("section:has(#devices) button[type=submit]").await?;
    assert_eq!(page.count("section:has(#devices) button").await?, 0);
    for page in [&page, &second] {
        page.goto(&stage.env.url("work", "/once-more")).await?;
        assert!(
            page.url().await?.contains("/.pomerium/webauthn"),
            "{}",
            page.url().await?
        );
        assert_eq!(page.count("button[data-act=authenticate]").await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn an_approved_device_opens_what_a_registered_one_does_not() -> Result<()> {
    let mut stage = stage().await?;
    let browser = Browser::start().await?;
    let page = signed_in(&browser, &stage.env, Look::DESKTOP).await?;
    page.add_authenticator(true, &[]).await?;
    press(&page, "register").await?;
    let (status, _) = page.goto(&stage.env.url("vault", "/")).await?;
    assert_eq!(status, 450);
    let text = page.text("main").await?;
    assert!(text.contains("approve"), "{text}");
    judge_page(&page, "device-not-approved-1280-light").await?;

    stage.env.kill().await?;
    approve(&stage.env).await?;
    stage.env.start_again().await?;
    assert_eq!(page.goto(&stage.env.url("vault", "/")).await?.0, 200);
    Ok(())
}

/// As an administrator: the record says who approved.
async fn approve(env: &Environment) -> Result<()> {
    let approved = |enrollment: &mut Enrollment| "id-admin".clone_into(&mut enrollment.approved_by);
    let count = edit(&env.folder().join("data"), approved).await?;
    anyhow::ensure!(count == 1, "{count} enrollments");
    Ok(())
}

#[tokio::test]
async fn a_device_of_somebody_else_is_no_use() -> Result<()> {
    let stage = stage().await?;
    let browser = Browser::start().await?;
    let page = signed_in(&browser, &stage.env, Look::DESKTOP).await?;
    page.add_authenticator(false, &[]).await?;
    press(&page, "register").await?;

    let other = browser.open(Look::DESKTOP).await?;
    other.goto(&stage.env.url("work", "/")).await?;
    other.sign_in("admin@example.com", admin().password()).await?;
    other.wait_for("#device button").await?;
    other.add_authenticator(false, &page.credentials().await?).await?;
    assert_eq!(
        other.count("button[data-act=authenticate]").await?,
        0,
        "it is not offered"
    );
    // They ask the device all the same, with the only question that they have. (With one of a device of their own:
    // `security/devices/owners`.)
    let script = r#"(async () => {
        const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
        const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
          .replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
        const asked = JSON.parse(document.getElementById('device-register').textContent);
        const found = await navigator.credentials.get({ publicKey: { challenge: bytes(asked.challenge), rpId: asked.rp.id,
          allowCredentials: [{ type: 'public-key', id: bytes('KEY') }] } });
        const { response } = found;
        const form = document.getElementById('device');
        const answer = { id: found.id, rawId: text(found.rawId), type: found.type, response: {
          clientDataJSON: text(response.clientDataJSON), authenticatorData: text(response.authenticatorData),
          signature: text(response.signature), userHandle: text(response.userHandle) } };
        form.elements.action.value = 'authenticate';
        form.elements.authenticate_response.value = JSON.stringify(answer);
        form.append(Object.assign(document.createElement('button'), { id: 'send', textContent: 'Send' }));
    })()"#;
    let keys = page.credentials().await?;
    let id = keys[0]["credentialId"].as_str().context("an id")?;
    other.evaluate(&script.replace("KEY", id)).await?;
    other.follow("#send").await?;
    assert!(
        other.text("footer").await?.contains("device-not-recognised"),
        "{}",
        other.text("body").await?
    );
    other.goto(&stage.env.url("work", "/")).await?;
    assert!(other.url().await?.contains("/.pomerium/webauthn"));
    Ok(())
}

#[tokio::test]
async fn all_looks_and_no_scripts() -> Result<()> {
    let stage = stage().await?;
    let browser = Browser::start().await?;
    for look in Look::ALL {
        let page = signed_in(&browser, &stage.env, look).await?;
        judge_page(&page, &format!("device-{}", look.name())).await?;
        page.close().await?;
    }
    // A device that answers nothing: the page says so and offers the button again.
    let page = signed_in(&browser, &stage.env, Look::DESKTOP).await?;
    page.evaluate(
        "navigator.credentials.create = () => Promise.reject(new DOMException('no', 'NotAllowedError'))",
    )
    .await?;
    page.click("button[data-act=register]").await?;
    page.wait_for("#device-problem:not([hidden])").await?;
    judge_page(&page, "device-refused-1280-light").await?;
    assert_eq!(page.count("button[data-act=register]:not([disabled])").await?, 1);

    let look = Look {
        scripts: false,
        ..Look::PHONE
    };
    let page = browser.open(look).await?;
    page.goto(&stage.env.url("work", "/")).await?;
    page.sign_in("developer@example.com", developer().password())
        .await?;
    let text = page.text("main").await?;
    assert!(text.contains("needs JavaScript"), "{text}");
    assert_eq!(
        page.count("#device:not([hidden])").await?,
        0,
        "no button that does nothing"
    );
    page.goto(&stage.env.url("work", "/.pomerium/device-enrolled"))
        .await?;
    assert!(page.text("h1").await?.contains("registered"));
    Ok(())
}
