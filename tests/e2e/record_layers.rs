//! Settings, policies and certificates of records, written while the program runs.

use anyhow::{Context as _, Result};
use pomerium_api::clock::{Clock as _, SystemClock};
use pomerium_api::databroker::Record;
use pomerium_api::records::{to_proto_time, to_record};
use pomerium_crypto::encoding::base64_encode;
use pomerium_testing::{Authority, Leaf, RawClient, shown, within};
use pomerium_tests::inside::{Inside, session, user};
use pomerium_tests::records::record;
use serde_json::{Value, json};

fn gone(mut record: Record) -> Record {
    record.deleted_at = Some(to_proto_time(SystemClock.now()));
    record
}

/// Asks again and again on one connection until the answer has a header with this value.
async fn until_header(client: &mut RawClient, name: &str, value: Option<&str>) -> Result<()> {
    within(&format!("{name}: {value:?}"), async {
        loop {
            client
                .send("GET / HTTP/1.1\r\nHost: file.example.com\r\nAccept: application/json\r\n\r\n")
                .await?;
            let reply = client.reply(false).await?;
            if reply.header(name) == value {
                return Ok(());
            }
        }
    })
    .await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_change_under_an_open_connection_and_a_bad_one_changes_nothing() -> Result<()> {
    let anyone = json!([{"allow": {"or": [{"accept": true}]}}]);
    let more = json!({"set_response_headers": {"x-of-file": "yes"}});
    let inside = Inside::start(&[("file", anyone)], more).await?;
    let address = *inside.server.local_addrs().first().context("no address")?;
    let mut client = RawClient::connect(address, None).await?;
    until_header(&mut client, "x-of-file", Some("yes")).await?;

    let settings = |id: &str, message: Value| record("Settings", id, &message);
    let header = |value: &str| json!({"set_response_headers": {"x-of-record": value}});
    inside.put(vec![settings("s", header("one"))?]).await?;
    until_header(&mut client, "x-of-record", Some("one")).await?;
    until_header(&mut client, "x-of-file", None).await?;

    // One that only the local file may say, and one that is no value: told, and nothing else of them counts.
    let bad = [
        settings(
            "t",
            json!({"shared_secret": "x", "set_response_headers": {"x-bad": "1"}}),
        )?,
        settings(
            "u",
            json!({"log_level": "loud", "set_response_headers": {"x-bad": "1"}}),
        )?,
        settings("v", json!({"set_response_headers": {"x-more": "1"}}))?,
    ];
    inside.put(bad.to_vec()).await?;
    until_header(&mut client, "x-more", Some("1")).await?;
    until_header(&mut client, "x-of-record", Some("one")).await?;
    until_header(&mut client, "x-bad", None).await?;
    assert_eq!(inside.server.settings().cookie.name, "_pomerium");

    inside
        .put(vec![
            settings("s", header("two"))?,
            gone(settings("v", json!({}))?),
        ])
        .await?;
    until_header(&mut client, "x-of-record", Some("two")).await?;
    until_header(&mut client, "x-more", None).await?;
    inside.put(vec![gone(settings("s", json!({}))?)]).await?;
    until_header(&mut client, "x-of-file", Some("yes")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_by_its_id_decides_and_its_change_counts_at_once() -> Result<()> {
    let inside = Inside::start(&[], json!({})).await?;
    let allow = |email: &str| {
        let source = json!([{"allow": {"or": [{"email": {"is": email}}]}}]).to_string();
        record("Policy", "p", &json!({"name": "people", "source_ppl": source}))
    };
    let route =
        json!({"from": "https://app.example.com", "to": [inside.upstream.url()], "policy_ids": ["p"]});
    let people = [
        user("u1", "user@example.com"),
        to_record(&session("s1", "u1", &json!({}))),
    ];
    inside.put(people.to_vec()).await?;
    let config = json!({"name": "c", "routes": [], "settings": {"cookie_name": "of_record"}});
    inside
        .put(vec![
            allow("user@example.com")?,
            record("Route", "r", &route)?,
            record("Config", "c", &config)?,
        ])
        .await?;
    let until = async |wanted: u16| {
        within(&format!("status {wanted}"), async {
            while inside.status("app", "s1").await? != wanted {}
            anyhow::Ok(())
        })
        .await?
    };
    until(200).await?;
    assert_eq!(inside.server.settings().cookie.name, "of_record");
    inside.put(vec![allow("other@example.com")?]).await?;
    until(403).await?;
    inside.put(vec![allow("user@example.com")?]).await?;
    until(200).await?;
    // Without its policy nobody knows what the route would forbid.
    inside.put(vec![gone(allow("user@example.com")?)]).await?;
    until(403).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_pair_is_served_replaced_and_withdrawn() -> Result<()> {
    let inside = Inside::start(&[], json!({"insecure_server": false})).await?;
    let address = *inside.server.local_addrs().first().context("no address")?;
    let authority = Authority::new()?;
    let pair = |leaf: &Leaf| {
        let (certificate, key) = (&leaf.certificate_pem, &leaf.key_pem);
        let message = json!({"certificate": base64_encode(certificate.as_bytes()), "key": base64_encode(key.as_bytes())});
        record("KeyPair", "k", &message)
    };
    let look = async || shown(address, "kp.example.com", authority.pem()).await;
    let generated = look().await?;
    assert!(!generated.trusted);
    let (first, second) = (
        authority.issue(&["kp.example.com"])?,
        authority.issue(&["kp.example.com"])?,
    );
    let named = record("Settings", "s", &json!({"certificate_key_pair_ids": ["k"]}))?;
    inside.put(vec![pair(&first)?, named]).await?;
    let until_other = async |than: &pomerium_testing::Shown| {
        within("another certificate", async {
            loop {
                let look = look().await?;
                if look.chain != than.chain {
                    return anyhow::Ok(look);
                }
            }
        })
        .await?
    };
    let one = until_other(&generated).await?;
    assert!(one.trusted, "{}", one.doubt);
    inside.put(vec![pair(&second)?]).await?;
    let two = until_other(&one).await?;
    assert!(two.trusted, "{}", two.doubt);
    // One whose parts do not go together is told and not served.
    let mut mixed = second.clone();
    mixed.key_pem.clone_from(&first.key_pem);
    inside.put(vec![pair(&mixed)?]).await?;
    let none = until_other(&two).await?;
    assert!(!none.trusted);
    inside.put(vec![pair(&first)?]).await?;
    assert!(until_other(&none).await?.trusted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_record_takes_no_name_of_a_local_one() -> Result<()> {
    let anyone = json!([{"allow": {"or": [{"accept": true}]}}]);
    let authority = Authority::new()?;
    let local = authority.issue(&["*.local.example.com"])?;
    let more = json!({"insecure_server": false, "certificate": base64_encode(local.certificate_pem.as_bytes()),
        "certificate_key": base64_encode(local.key_pem.as_bytes())});
    let inside = Inside::start(&[("file", anyone)], more).await?;
    let address = *inside.server.local_addrs().first().context("no address")?;
    let pair = |id: &str, leaf: &Leaf| {
        let message = json!({"certificate": base64_encode(leaf.certificate_pem.as_bytes()),
            "key": base64_encode(leaf.key_pem.as_bytes())});
        record("KeyPair", id, &message)
    };
    // More exact than the local one, and beside it.
    let (taken, free) = (
        authority.issue(&["app.local.example.com"])?,
        authority.issue(&["free.example.com"])?,
    );
    let named = record("Settings", "s", &json!({"certificate_key_pair_ids": ["a", "b"]}))?;
    inside
        .put(vec![pair("a", &taken)?, pair("b", &free)?, named])
        .await?;
    within("the other certificate", async {
        while !shown(address, "free.example.com", authority.pem()).await?.trusted {}
        anyhow::Ok(())
    })
    .await??;
    let first = shown(address, "any.local.example.com", authority.pem()).await?;
    let second = shown(address, "app.local.example.com", authority.pem()).await?;
    assert!(second.trusted, "{}", second.doubt);
    assert_eq!(first.chain, second.chain);
    Ok(())
}
