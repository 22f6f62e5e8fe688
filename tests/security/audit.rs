//! Records and logs as evidence: no secret in them, and nothing that a client sends can forge or hide a line
//! (traefik CVE-2022-23469; Envoy Gateway CVE-2025-25294).

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pomerium_testing::OidcProvider;
use pomerium_tests::scripted_with;
use serde_json::{Value, json};

#[tokio::test]
async fn no_token_cookie_or_query_is_in_a_record_or_a_line() -> Result<()> {
    let mut file = PathBuf::new();
    let mut stage = scripted_with(|builder| {
        file = builder.folder().join("audit.log");
        builder.set("audit", json!([{"type": "file", "path": file}]))
    })
    .await?;
    let client = stage.signed_in().await?;
    let cookie = client
        .cookie(&stage.env.url("app", "/"), "_pomerium")
        .context("no cookie")?;
    let signature = cookie.rsplit('.').next().context("a signature")?.to_owned();
    let headers = [
        ("authorization", "Bearer SECRET-BEARER"),
        ("x-api-key", "SECRET-HEADER"),
        ("referer", "https://x.example.com/?SECRET-REFERER"),
    ];
    for host in ["app", "admin", "open"] {
        client
            .get_with(&stage.env.url(host, "/a?code=SECRET-QUERY"), &headers)
            .await?;
        let anonymous = stage.env.client()?;
        let query = format!("/b?pomerium_session={cookie}");
        anonymous.get(&stage.env.url(host, &query)).await?;
        let handle = format!("Pomerium {cookie}");
        anonymous
            .get_with(&stage.env.url(host, "/c"), &[("authorization", handle.as_str())])
            .await?;
    }
    stage.env.signal("TERM").await?;
    stage.env.ended().await?;
    let records = std::fs::read_to_string(&file)?;
    ensure!(records.lines().count() > 9, "{records}");
    let log = stage.env.log().all().join("\n");
    for (name, secret) in [
        ("session handle", signature.as_str()),
        ("bearer token", "SECRET-BEARER"),
        ("header", "SECRET-HEADER"),
        ("referer", "SECRET-REFERER"),
        ("query", "SECRET-QUERY"),
        ("access token", "the-access-token"),
        ("client secret", OidcProvider::CLIENT_SECRET),
    ] {
        for (place, text) in [("the records", &records), ("the log", &log)] {
            let line = text.lines().find(|line| line.contains(secret));
            ensure!(line.is_none(), "{name} in {place}: {line:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_a_client_sends_ends_a_record_or_begins_another() -> Result<()> {
    let mut file = PathBuf::new();
    let forged =
        r#"{"stream":"x","seq":1,"kind":"decision","version":1,"outcome":"allow","user":{"id":"FORGED"}}"#;
    let mut stage = scripted_with(|builder| {
        file = builder.folder().join("audit.log");
        builder.set("audit", json!([{"type": "file", "path": file}]))
    })
    .await?;
    let host = stage.env.authority_of("open");
    let encoded: String = forged.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut sent = 0;
    for (path, header) in [
        (format!("/%0a{encoded}"), String::new()),
        (format!("/%0d%0a{encoded}"), String::new()),
        ("/%e2%80%ae%e2%80%a8%1b%5b2J%00".to_owned(), String::new()),
        ("/\"},{\"".to_owned(), String::new()),
        ("/a".to_owned(), format!("Origin: {forged}\r\n")),
        ("/b".to_owned(), "Origin: \u{202e}\u{2028}\u{85}\r\n".to_owned()),
        ("/c".to_owned(), "Origin: a\\\",\"kind\":\"gap\"\r\n".to_owned()),
        ("/d".to_owned(), format!("X-Request-Id: x\\n{forged}\r\n")),
        ("/e".to_owned(), format!("User-Agent: {forged}\r\n")),
    ] {
        for method in ["GET", "FORGED-METHOD"] {
            let mut raw = stage.env.raw("open").await?;
            raw.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\r\n"
            ))
            .await?;
            let reply = raw.reply(false).await?;
            sent += u64::from(reply.status != 400 && reply.status != 501);
        }
    }
    stage.env.signal("TERM").await?;
    stage.env.ended().await?;
    let text = std::fs::read_to_string(&file)?;
    let mut decisions = 0;
    for (index, line) in text.lines().enumerate() {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(record["seq"] == index as u64 + 1, "{line}");
        ensure!(record["user"]["id"] != "FORGED");
        ensure!(
            line.chars()
                .all(|c| !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c)),
            "{line:?}"
        );
        decisions += u64::from(record["kind"] == "decision");
    }
    ensure!(decisions > 0 && decisions <= sent, "{decisions} of {sent}");
    for line in stage.env.log().all() {
        ensure!(!line.starts_with("{\"stream\""), "{line}");
    }
    Ok(())
}
