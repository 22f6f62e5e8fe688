//! Names that look like another (authelia CVE-2026-48794): a host is compared in one ASCII form; letters of other
//! scripts, escapes and second ports are refused or belong to nobody, and the connection's name decides nothing.

use anyhow::Result;
use pomerium_testing::Route;
use pomerium_tests::scripted_with;

#[tokio::test]
async fn one_form_of_a_name_counts() -> Result<()> {
    let stage = scripted_with(|builder| {
        builder
            .route(Route::new("xn--bcher-kva", "http://127.0.0.1:9").any_user())
            .route(Route::new("*", "http://127.0.0.1:9").public())
    })
    .await?;
    let port = stage.env.port();
    // Statuses: 401 is the closed route; 503 the public wildcard beside it; 400 and 404 nobody.
    for (host, expected) in [
        (format!("xn--bcher-kva.example.com:{port}"), &[401][..]),
        (format!("XN--Bcher-KVA.EXAMPLE.com:{port}"), &[401]),
        (format!("xn--bcher-kva.example.com.:{port}"), &[401]),
        (format!("app.example.com:{port}"), &[401]),
        (format!("other.example.com:{port}"), &[503]),
        (format!("b\u{fc}cher.example.com:{port}"), &[400, 401]),
        (format!("\u{ff41}pp.example.com:{port}"), &[400, 401]),
        (format!("%61pp.example.com:{port}"), &[400, 401]),
        (format!("app\u{2024}example.com:{port}"), &[400, 401, 404]),
        (format!("app.example.com:{port}:{port}"), &[400]),
        (format!("app.example.com:-{port}"), &[400]),
        (format!("app.example.com/:{port}"), &[400]),
        (format!("app.example.com\\:{port}"), &[400]),
        (format!("app..example.com:{port}"), &[400, 404, 401]),
        (format!(".app.example.com:{port}"), &[400, 404, 401]),
        (format!("app.example.com..:{port}"), &[400, 404, 401]),
    ] {
        // In SNI stands the name of the public route: it opens nothing.
        let mut client = stage.env.raw("open").await?;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
            ))
            .await?;
        let status = client.reply(false).await?.status;
        assert!(
            expected.contains(&status),
            "{host}: {status}, not one of {expected:?}"
        );
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}
