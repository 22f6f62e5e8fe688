//! Guessing passwords (authelia CVE-2026-47203, CVE-2025-24806; CVE-2026-32595): attempts are limited per
//! person, whatever the spelling, and an unknown name answers as a wrong password does.

use anyhow::Result;
use pomerium_tests::{developer, local};

#[tokio::test]
async fn guesses_run_dry_and_spelling_does_not_help() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    let mut limited = false;
    for attempt in 0..40 {
        let name = if attempt % 2 == 0 {
            "developer@example.com"
        } else {
            "DEVELOPER@Example.COM"
        };
        let page = client.follow(&stage.env.url("app", "/")).await?;
        let reply = client.sign_in(&page, name, "a wrong guess").await?;
        assert_ne!(reply.url.as_str(), stage.env.url("app", "/"));
        if reply.status == 429 {
            limited = true;
            break;
        }
    }
    assert!(limited, "40 guesses were taken");
    // Right or not, the answer is the same while the limit holds.
    let page = client.follow(&stage.env.url("app", "/")).await?;
    let reply = client
        .sign_in(&page, "Developer@example.com", developer().password())
        .await?;
    assert_eq!(reply.status, 429);
    Ok(())
}

#[tokio::test]
async fn an_unknown_name_looks_like_a_wrong_password() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    let page = client.follow(&stage.env.url("app", "/")).await?;
    let known = client.sign_in(&page, "developer@example.com", "wrong").await?;
    let page = client.follow(&stage.env.url("app", "/")).await?;
    let unknown = client.sign_in(&page, "nobody@example.com", "wrong").await?;
    assert_eq!(known.status, unknown.status);
    let heading = |text: &str| {
        text.split("role=\"alert\"")
            .nth(1)
            .and_then(|rest| rest.split('<').next())
            .map(str::to_owned)
    };
    assert_eq!(heading(&known.text()), heading(&unknown.text()));
    assert!(heading(&known.text()).is_some());
    Ok(())
}
