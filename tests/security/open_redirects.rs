//! Ways on that leave the house (oauth2-proxy CVE-2021-21291; Pomerium CVE-2021-29651; OPA-Envoy CVE-2026-26205):
//! no path, host or parameter makes a redirect, or a token, go to a stranger, not even in a link that is signed.

use anyhow::{Context, Result};
use pomerium_crypto::signed_url;
use pomerium_testing::{RawClient, lease};
use pomerium_tests::{scripted, scripted_with};

use crate::forge::{encode, key, now};

/// Paths that a careless join with a host turns into another host.
const PATHS: [&str; 8] = [
    "//evil.example.org/",
    "///evil.example.org",
    "/\\evil.example.org/",
    "\\\\evil.example.org/",
    "/@evil.example.org/",
    "/.evil.example.org/",
    "/x/..//evil.example.org",
    "/?//evil.example.org",
];

#[tokio::test]
async fn a_path_does_not_become_a_host_on_the_way_to_the_sign_in_and_back() -> Result<()> {
    let stage = scripted().await?;
    let authority = stage.env.authority_of("app");
    for path in PATHS {
        let mut raw = stage.env.raw("app").await?;
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
        ))
        .await?;
        let reply = raw.reply(false).await?;
        if reply.status == 400 {
            continue;
        }
        assert_eq!(reply.status, 302, "{path}");
        let location = reply.header("location").context("a way on")?.to_owned();
        assert!(
            location.starts_with(&stage.env.url("auth", "/.pomerium/sign_in?")),
            "{path}: {location}"
        );
        let plain = location
            .replace("%3A", ":")
            .replace("%2F", "/")
            .replace("%40", "@");
        assert!(
            plain.contains(&format!("pomerium_redirect_uri=https://{authority}/")),
            "{path}: {plain}"
        );
        let end = stage.env.client()?.follow(&location).await?;
        assert_eq!(end.status, 200, "{path}");
        for hop in &end.hops {
            let host = hop.host_str().unwrap_or_default();
            assert!(
                matches!(host, "app.example.com" | "auth.example.com" | "127.0.0.1"),
                "{path} led to {hop}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_plain_listener_sends_people_to_the_same_host() -> Result<()> {
    let port = lease()?;
    let stage =
        scripted_with(|builder| builder.set("http_redirect_addr", format!("127.0.0.1:{}", port.number())))
            .await?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port.number()));
    for path in PATHS {
        let mut raw = RawClient::connect(address, None).await?;
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Host: evil.example.org\r\nConnection: close\r\n\r\n"
        ))
        .await?;
        let reply = raw.reply(false).await?;
        match reply.header("location") {
            Some(location) => assert!(
                location.starts_with("https://app.example.com/")
                    || location.starts_with("https://app.example.com:"),
                "{path}: {location}"
            ),
            None => assert!((400..500).contains(&reply.status), "{path}: {}", reply.status),
        }
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_signed_link_carries_no_session_to_a_stranger() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let shared = key(&stage.env, "shared_secret")?;
    let (app, evil) = (stage.env.url("app", "/"), "https://evil.example.org/");
    let own_callback = stage.env.url("app", "/.pomerium/callback/");
    let sign_in = |parameters: &[(&str, &str)]| -> Result<String> {
        let query: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let url = stage
            .env
            .url("auth", &format!("/.pomerium/sign_in?{}", query.join("&")));
        Ok(signed_url::sign(&shared, &url, now())?)
    };
    let (to, callback, programmatic, hosts) = (
        "pomerium_redirect_uri",
        "pomerium_callback_uri",
        "pomerium_programmatic",
        "pomerium_additional_hosts",
    );
    for parameters in [
        &[(to, evil)][..],
        &[(to, evil), (programmatic, "true")],
        &[(to, evil), (callback, &own_callback)],
        &[(to, evil), (callback, &own_callback), (programmatic, "true")],
        &[
            (to, app.as_str()),
            (callback, "https://evil.example.org/.pomerium/callback/"),
        ],
        &[
            (to, "http://localhost:1/"),
            (callback, "https://evil.example.org/.pomerium/callback/"),
            (programmatic, "true"),
        ],
        &[(to, app.as_str()), (callback, app.as_str())],
        &[(to, app.as_str()), (hosts, "evil.example.org")],
        &[(to, app.as_str()), (hosts, "admin.example.com,evil.example.org")],
        &[(to, "javascript:alert(1)")],
        &[(to, "")],
        &[],
    ] {
        let reply = client
            .get_with(&sign_in(parameters)?, &[("accept", "text/html")])
            .await?;
        assert!(
            reply.status.is_client_error(),
            "{parameters:?}: {} {:?}",
            reply.status,
            reply.location()
        );
    }
    let good = client
        .get_with(&sign_in(&[(to, &app)])?, &[("accept", "text/html")])
        .await?;
    assert!(good.status.is_redirection(), "the control: {}", good.status);
    Ok(())
}

#[tokio::test]
async fn a_programmatic_login_serves_listed_hosts_only() -> Result<()> {
    let stage = scripted_with(|builder| {
        builder.set(
            "programmatic_redirect_domain_whitelist",
            serde_json::json!(["cli.example.org"]),
        )
    })
    .await?;
    let client = stage.signed_in().await?;
    let ask = async |target: &str| -> Result<u16> {
        let path = format!("/.pomerium/api/v1/login?pomerium_redirect_uri={}", encode(target));
        Ok(client.get(&stage.env.url("app", &path)).await?.status.as_u16())
    };
    for target in ["https://cli.example.org/x", "http://CLI.example.org:8080/"] {
        assert_eq!(ask(target).await?, 200, "{target}");
    }
    for target in [
        "https://x.cli.example.org/",
        "https://cli.example.org.evil.example.org/",
        "https://evilcli.example.org/",
        "https://cli.example.org@evil.example.org/",
        "https://evil.example.org/cli.example.org",
        "https://evil.example.org?cli.example.org",
        "https://evil.example.org#cli.example.org",
        "https://evil.example.org\\.cli.example.org/",
        "https://cli.example.org%2eevil.example.org/",
        "https://cli.example.org\t.evil.example.org/",
        "https://cli。example.org/",
        "http://localhost:1/",
        "http://127.0.0.1:1/",
        "ftp://cli.example.org/",
        "cli.example.org",
        "//cli.example.org/",
    ] {
        assert!((400..500).contains(&ask(target).await?), "{target}");
    }
    Ok(())
}
