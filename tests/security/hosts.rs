//! Host tricks (authelia CVE-2026-48794; traefik CVE-2022-23632): one spelling of a host, before anything.

use anyhow::Result;
use pomerium_tests::scripted;

#[tokio::test]
async fn no_spelling_of_a_host_opens_a_closed_route() -> Result<()> {
    let stage = scripted().await?;
    let port = stage.env.port();
    for host in [
        format!("APP.example.com:{port}"),
        format!("app.EXAMPLE.com:{port}"),
        format!("app.example.com.:{port}"),
        format!("app.example.com:0{port}"),
        "app.example.com".to_owned(),
        format!("app.example.com:{port}@open.example.com:{port}"),
        format!("open.example.com:{port}@app.example.com:{port}"),
        format!("app.example.com%2eopen.example.com:{port}"),
        format!("app.example.com\u{3002}:{port}"),
        format!("app.example.com:{port}, open.example.com:{port}"),
        "[::1]".to_owned(),
        String::new(),
    ] {
        let mut client = stage.env.raw("app").await?;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"
            ))
            .await?;
        let status = client.reply(false).await?.status;
        assert!(matches!(status, 400 | 401 | 404 | 421), "{host:?}: {status}");
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_target_in_absolute_form_counts_and_nothing_beside_it() -> Result<()> {
    let stage = scripted().await?;
    let (app, open) = (stage.env.authority_of("app"), stage.env.authority_of("open"));
    for (target, host, closed) in [(&app, &open, true), (&open, &app, false)] {
        let mut client = stage.env.raw("open").await?;
        client
            .send(format!(
                "GET https://{target}/ HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"
            ))
            .await?;
        let status = client.reply(false).await?.status;
        if closed {
            assert!(matches!(status, 400 | 401), "{status}");
            assert!(stage.upstream.requests().is_empty());
        } else {
            // Judged by the target, or refused; never judged by one and forwarded by the other.
            assert!(matches!(status, 200 | 400), "{status}");
        }
    }
    Ok(())
}
