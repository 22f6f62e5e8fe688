//! Enrollment links that an administrator made: for one person, one type, one device.

use anyhow::Result;
use pomerium_crypto::secure_token;
use pomerium_testing::SoftKey;
use pomerium_tests::devices::{Asked, enrollment};
use pomerium_tests::records::write;
use pomerium_tests::scripted;

use super::link;
use crate::forge::{key, now};

const FOR_US: [u8; 16] = [0x11; 16];
const FOR_OTHERS: [u8; 16] = [0x22; 16];
const FOR_ANOTHER_TYPE: [u8; 16] = [0x33; 16];
const NEVER_MADE: [u8; 16] = [0x44; 16];

fn id(bytes: [u8; 16]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits = digits.concat();
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    parts.join("-")
}

#[tokio::test]
async fn an_invitation_is_good_for_whom_and_what_it_was_made_and_once() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    stage.env.kill().await?;
    let records = vec![
        enrollment(&id(FOR_US), "id-developer", "any", "id-admin"),
        enrollment(&id(FOR_OTHERS), "id-other", "any", "id-admin"),
        enrollment(&id(FOR_ANOTHER_TYPE), "id-developer", "enclave_only", "id-admin"),
    ];
    write(&stage.env.folder().join("data"), records).await?;
    stage.env.start_again().await?;

    let shared = key(&stage.env, "shared_secret")?;
    let end = (now() + 3_600) * 1_000;
    let good = secure_token::seal_text(&shared, &FOR_US, end);
    let ask = async |token: &str| -> Result<Asked> {
        let after = stage.env.url("app", "/after");
        let parameters = [
            ("pomerium_device_type", "any"),
            ("pomerium_redirect_uri", after.as_str()),
            ("pomerium_enrollment_token", token),
        ];
        Asked::of(&client.get(&link(&stage, "app", &parameters, 0)?).await?)
    };
    for (what, token) in [
        (
            "another person",
            secure_token::seal_text(&shared, &FOR_OTHERS, end),
        ),
        (
            "another type",
            secure_token::seal_text(&shared, &FOR_ANOTHER_TYPE, end),
        ),
        ("taken back", secure_token::seal_text(&shared, &NEVER_MADE, end)),
        (
            "too old",
            secure_token::seal_text(&shared, &FOR_US, (now() - 1) * 1_000),
        ),
        ("not ours", secure_token::seal_text(&[9; 32], &FOR_US, end)),
        (
            "changed",
            good.replacen(&good[5..6], if &good[5..6] == "2" { "3" } else { "2" }, 1),
        ),
        ("nonsense", "0OIl".to_owned()),
    ] {
        let reply = ask(&token)
            .await?
            .register(&client, &SoftKey::new(b"key")?)
            .await?;
        assert_eq!(reply.status, 403, "{what}");
    }
    let reply = ask(&good)
        .await?
        .register(&client, &SoftKey::new(b"key")?)
        .await?;
    assert_eq!(reply.status, 302, "{}", reply.text());
    let reply = ask(&good)
        .await?
        .register(&client, &SoftKey::new(b"second")?)
        .await?;
    assert_eq!(reply.status, 403, "used already");
    let page = client.follow(&stage.env.url("app", "/.pomerium/")).await?.text();
    assert!(
        page.contains("Approved"),
        "the administrator approved it beforehand:\n{page}"
    );
    Ok(())
}
