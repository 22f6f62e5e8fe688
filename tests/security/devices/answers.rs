//! Answers that are not for this page, this moment or this session.

use anyhow::{Context, Result};
use pomerium_testing::{Answering, SoftKey};
use pomerium_tests::scripted;
use serde_json::{Value, json};

use super::{ask, other_person, register, usual_answers, with_device};

/// Ways in which an answer lies.
fn lies(origin: &str) -> Vec<(&'static str, Answering)> {
    let truth = Answering::at(origin);
    let with = |change: fn(&mut Answering)| {
        let mut lie = truth.clone();
        change(&mut lie);
        lie
    };
    vec![
        (
            "another site",
            with(|how| how.origin = "https://evil.example.org".into()),
        ),
        (
            "another host of the same domain",
            with(|how| how.origin = "https://evil.example.com".into()),
        ),
        (
            "a host that ends alike",
            with(|how| how.origin = "https://evilexample.com".into()),
        ),
        ("another port", with(|how| how.origin.push('0'))),
        (
            "no TLS",
            with(|how| how.origin = how.origin.replace("https:", "http:")),
        ),
        (
            "the key of another domain",
            with(|how| how.rp_id = Some("evil.example.org".into())),
        ),
        (
            "the key of a host",
            with(|how| how.rp_id = Some("app.example.com".into())),
        ),
        ("nobody was there", with(|how| how.flags = 0)),
        ("another act", with(|how| how.act = Some("payment.get"))),
        ("framed by another site", with(|how| how.framed = true)),
    ]
}

/// The options with another challenge.
fn with_challenge(options: &Value, challenge: &str) -> Value {
    let mut changed = options.clone();
    changed["challenge"] = challenge.into();
    changed
}

#[tokio::test]
async fn an_answer_for_another_page_registers_nothing() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let key = SoftKey::new(b"key")?;
    let origin = stage.env.url("app", "");
    for (what, how) in lies(&origin) {
        let asked = ask(&stage, &client).await?;
        let reply = asked
            .post(&client, "register", &key.create(&asked.creation, &how)?)
            .await?;
        assert_eq!(reply.status, 400, "{what}");
        assert!(ask(&stage, &client).await?.request.is_none(), "{what}");
    }
    assert_eq!(register(&stage, &client, &key).await?, 302, "the truth");
    for (what, how) in lies(&origin) {
        let asked = ask(&stage, &client).await?;
        let request = asked.request.as_ref().context("a known device")?;
        let reply = asked
            .post(&client, "authenticate", &key.get(request, &how)?)
            .await?;
        assert_eq!(reply.status, 400, "{what}");
    }
    assert_eq!(
        ask(&stage, &client).await?.show(&client, &key).await?.status,
        302,
        "the truth"
    );
    Ok(())
}

#[tokio::test]
async fn a_challenge_is_ours_of_this_session_for_this_act_and_good_once() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let key = SoftKey::new(b"key")?;
    let asked = ask(&stage, &client).await?;
    assert_eq!(asked.register(&client, &key).await?.status, 302);
    let again = asked.register(&client, &SoftKey::new(b"another")?).await?;
    assert_eq!(again.status, 400, "the same challenge for another key");

    let how = usual_answers(&stage);
    let asked = ask(&stage, &client).await?;
    let request = asked.request.clone().context("a known device")?;
    let answer = key.get(&request, &how)?;
    assert_eq!(asked.post(&client, "authenticate", &answer).await?.status, 302);
    assert_eq!(
        asked.post(&client, "authenticate", &answer).await?.status,
        400,
        "replayed"
    );

    let own = request["challenge"].as_str().context("a challenge")?;
    let other_session = ask(&stage, &stage.signed_in().await?).await?;
    let foreign = other_session.request.context("the same person")?;
    let mut flipped = own.to_owned();
    flipped.replace_range(10..11, if own[10..11] == *"A" { "B" } else { "A" });
    for (what, challenge) in [
        ("nothing", ""),
        ("not one of ours", "AAAA"),
        ("changed", flipped.as_str()),
        (
            "of another session",
            foreign["challenge"].as_str().unwrap_or_default(),
        ),
        (
            "for a new key",
            asked.creation["challenge"].as_str().unwrap_or_default(),
        ),
    ] {
        let answer = key.get(&with_challenge(&request, challenge), &how)?;
        let reply = asked.post(&client, "authenticate", &answer).await?;
        assert_eq!(reply.status, 400, "{what}");
    }
    Ok(())
}

/// The cookie of the session is refreshed by another process meanwhile, and the memory of used challenges is not
/// shared: the record of the device remembers its last uses.
#[tokio::test]
async fn a_restart_does_not_make_an_old_answer_good_again() -> Result<()> {
    let (mut stage, client, key) = with_device().await?;
    let asked = ask(&stage, &client).await?;
    let request = asked.request.clone().context("a known device")?;
    let answer = key.get(&request, &usual_answers(&stage))?;
    assert_eq!(asked.post(&client, "authenticate", &answer).await?.status, 302);
    stage.env.kill().await?;
    stage.env.start_again().await?;
    assert_eq!(asked.post(&client, "authenticate", &answer).await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_signature_is_checked() -> Result<()> {
    let (stage, client, key) = with_device().await?;
    let how = usual_answers(&stage);
    // The same id, and another key.
    let double = SoftKey::new(b"key")?;
    let asked = ask(&stage, &client).await?;
    let request = asked.request.clone().context("a known device")?;
    assert_eq!(
        asked
            .post(&client, "authenticate", &double.get(&request, &how)?)
            .await?
            .status,
        400
    );
    let mut without = key.get(&request, &how)?;
    without["response"]["signature"] = "".into();
    assert_eq!(asked.post(&client, "authenticate", &without).await?.status, 400);
    let mut foreign_handle = how.clone();
    foreign_handle.user_handle = vec![7; 16];
    let answer = key.get(&request, &foreign_handle)?;
    assert_eq!(
        asked.post(&client, "authenticate", &answer).await?.status,
        400,
        "made for somebody else"
    );
    for junk in [json!(null), json!([]), json!({}), json!({ "response": "x" })] {
        assert_eq!(
            asked.post(&client, "authenticate", &junk).await?.status,
            400,
            "{junk}"
        );
        assert_eq!(
            asked.post(&client, "register", &junk).await?.status,
            400,
            "{junk}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_challenge_of_one_person_is_nothing_to_another() -> Result<()> {
    let stage = scripted().await?;
    let one = stage.signed_in().await?;
    let asked = ask(&stage, &one).await?;
    let other = other_person(&stage).await?;
    let reply = asked.register(&other, &SoftKey::new(b"key")?).await?;
    assert_eq!(reply.status, 400);
    assert!(ask(&stage, &other).await?.request.is_none());
    Ok(())
}
