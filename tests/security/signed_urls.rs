//! Signed addresses (Pomerium CVE-2021-29652): missing, altered, swapped or foreign signatures are refused
//! by every endpoint that asks for one.

use anyhow::{Context, Result};
use pomerium_tests::scripted;

#[tokio::test]
async fn a_changed_sign_in_address_is_refused() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let fresh = stage.env.client()?;
    let reply = fresh
        .get_with(&stage.env.url("app", "/"), &[("accept", "text/html")])
        .await?;
    let signed = reply.location().context("no sign-in address")?;
    let good = client
        .get_with(signed.as_str(), &[("accept", "text/html")])
        .await?;
    assert!(
        good.location()
            .is_some_and(|url| url.path() == "/.pomerium/callback/"),
        "{:?}",
        good.header("location")
    );

    let pairs: Vec<(String, String)> = signed.query_pairs().into_owned().collect();
    for index in 0..pairs.len() {
        for change in ["removed", "altered"] {
            let mut pairs = pairs.clone();
            if change == "removed" {
                pairs.remove(index);
            } else {
                pairs[index].1.push('1');
            }
            let mut url = signed.clone();
            url.query_pairs_mut().clear().extend_pairs(&pairs);
            let reply = client.get_with(url.as_str(), &[("accept", "text/html")]).await?;
            let callback = reply
                .location()
                .is_some_and(|url| url.path().starts_with("/.pomerium/callback"));
            assert!(
                !callback,
                "{change} {}: {:?}",
                pairs.get(index).map_or("last", |pair| pair.0.as_str()),
                reply.header("location")
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_callback_sets_no_cookie() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let fresh = stage.env.client()?;
    let reply = fresh
        .get_with(&stage.env.url("app", "/"), &[("accept", "text/html")])
        .await?;
    let signed = reply.location().context("no sign-in address")?;
    let reply = client
        .get_with(signed.as_str(), &[("accept", "text/html")])
        .await?;
    let callback = reply.location().context("no callback")?;
    let pairs: Vec<(String, String)> = callback.query_pairs().into_owned().collect();
    for index in 0..pairs.len() {
        let mut pairs = pairs.clone();
        pairs[index].1.push('A');
        let mut url = callback.clone();
        url.query_pairs_mut().clear().extend_pairs(&pairs);
        let victim = stage.env.client()?;
        let reply = victim.get_with(url.as_str(), &[("accept", "text/html")]).await?;
        assert!(
            reply.status.is_client_error(),
            "{}: {}",
            pairs[index].0,
            reply.status
        );
        assert_eq!(
            victim.cookie(&stage.env.url("app", "/"), "_pomerium"),
            None,
            "{}",
            pairs[index].0
        );
    }
    Ok(())
}
