//! Whose a device is: a key belongs to the first who registered it, for ever.

use anyhow::{Context, Result};
use pomerium_testing::SoftKey;
use serde_json::json;

use super::{ask, link, other_person, register, unregister, usual_answers, with_device};

#[tokio::test]
async fn a_device_of_somebody_else_is_neither_shown_nor_taken_nor_removed() -> Result<()> {
    let (stage, owner, key) = with_device().await?;

    let other = other_person(&stage).await?;
    let asked = ask(&stage, &other).await?;
    assert!(asked.request.is_none(), "it is not offered to them");
    assert_eq!(
        asked.register(&other, &key).await?.status,
        403,
        "nor is it theirs to take"
    );
    // Another key under the same id.
    assert_eq!(register(&stage, &other, &SoftKey::new(b"key")?).await?, 403);

    // With a device of their own they have a challenge; signed by the device of the first.
    assert_eq!(register(&stage, &other, &SoftKey::new(b"own")?).await?, 302);
    let asked = ask(&stage, &other).await?;
    let request = asked.request.clone().context("their own device")?;
    let answer = key.get(&request, &usual_answers(&stage))?;
    assert_eq!(asked.post(&other, "authenticate", &answer).await?.status, 403);

    unregister(&stage, &other, &key).await?;
    assert!(ask(&stage, &owner).await?.request.is_some(), "still the owner's");
    Ok(())
}

#[tokio::test]
async fn a_removed_device_does_not_come_to_somebody_else() -> Result<()> {
    let (stage, owner, key) = with_device().await?;
    let asked = ask(&stage, &owner).await?;
    assert_eq!(unregister(&stage, &owner, &key).await?, 302);
    assert!(ask(&stage, &owner).await?.request.is_none(), "removed");
    // The answer to the page from before the removal.
    let answer = key.get(
        &asked.request.clone().context("it was known")?,
        &usual_answers(&stage),
    )?;
    assert_eq!(asked.post(&owner, "authenticate", &answer).await?.status, 403);

    let other = other_person(&stage).await?;
    assert_eq!(register(&stage, &other, &key).await?, 403);
    stage
        .idp
        .script(|script| script.claims["sub"] = "id-developer".into());
    let owner = stage.signed_in().await?;
    assert_eq!(register(&stage, &owner, &key).await?, 302, "its owner may");
    Ok(())
}

/// A type that wants the key in the device itself is not fulfilled by a key that was registered for any.
#[tokio::test]
async fn a_key_counts_for_the_type_it_was_registered_for() -> Result<()> {
    let (stage, client, _) = with_device().await?;
    let after = stage.env.url("app", "/after");
    let parameters = [
        ("pomerium_device_type", "enclave_only"),
        ("pomerium_redirect_uri", &*after),
    ];
    let url = link(&stage, "app", &parameters, 0)?;
    let asked = pomerium_tests::devices::Asked::of(&client.get(&url).await?)?;
    assert!(asked.request.is_none(), "not offered");
    // The browser says that it is a key that is carried around.
    let how = usual_answers(&stage);
    let mut answer = SoftKey::new(b"stick")?.create(&asked.creation, &how)?;
    answer["authenticatorAttachment"] = json!("cross-platform");
    assert_eq!(asked.post(&client, "register", &answer).await?.status, 400);
    answer["authenticatorAttachment"] = json!("platform");
    assert_eq!(asked.post(&client, "register", &answer).await?.status, 302);
    Ok(())
}
