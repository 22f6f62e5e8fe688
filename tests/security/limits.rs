//! Sizes (traefik CVE-2026-26998): headers have a limit, bodies that we read have one.

use anyhow::Result;
use pomerium_tests::scripted;

#[tokio::test]
async fn oversized_headers_are_a_431() -> Result<()> {
    let stage = scripted().await?;
    let authority = stage.env.authority_of("open");
    let large = format!("X-Large: {}\r\n", "a".repeat(140 * 1024));
    let many: String = (0..1100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("/{}", "a".repeat(140 * 1024));
    for (target, headers) in [("/", large.as_str()), ("/", many.as_str()), (long.as_str(), "")] {
        let mut client = stage.env.raw("open").await?;
        // The answer may come, and the connection close, before all is sent.
        let _ = client
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n"
            ))
            .await;
        let reply = client.reply(false).await?;
        assert!(matches!(reply.status, 431 | 414), "{}", reply.status);
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_endless_provider_is_cut_off() -> Result<()> {
    let stage = scripted().await?;
    stage.idp.script(|script| script.padding = 64 << 20);
    let reply = stage.env.client()?.follow(&stage.env.url("app", "/")).await?;
    assert!(
        reply.status.is_server_error() || reply.status.is_client_error(),
        "{}",
        reply.status
    );
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_large_form_is_refused_by_our_own_pages() -> Result<()> {
    let stage = scripted().await?;
    let url = stage.env.url("auth", "/.pomerium/sign_out");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let reply = stage
        .env
        .client()?
        .send(http::Method::POST, &url, &headers, "a=".repeat(4 << 20))
        .await;
    // Refused with an answer, or cut off while sending.
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status.is_client_error()));
    Ok(())
}
