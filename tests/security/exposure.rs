//! Secrets and operators' data (Pomerium CVE-2022-24797; traefik CVE-2022-23469; Envoy Gateway CVE-2025-24030):
//! no secret in a log line, a page or a metric; metrics only for those who may.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use pomerium_testing::{OidcProvider, lease};
use pomerium_tests::{developer, local, scripted, scripted_with};
use serde_json::json;

use crate::forge::{encode, walk_to};

const METRICS_PASSWORD: &str = "the-password-of-the-scraper";
const HEADER_SECRET: &str = "the-secret-in-a-set-header";

#[tokio::test]
async fn no_secret_is_in_logs_pages_or_metrics() -> Result<()> {
    let metrics = lease()?;
    let scrape = format!("http://127.0.0.1:{}/metrics", metrics.number());
    let basic = STANDARD.encode(format!("scraper:{METRICS_PASSWORD}"));
    let mut stage = scripted_with(|builder| {
        builder
            .set("metrics_address", format!("127.0.0.1:{}", metrics.number()))
            .set("metrics_basic_auth", basic.clone())
            .set("log_level", "debug")
            .set("set_response_headers", json!({ "X-Frame-Options": "DENY" }))
    })
    .await?;
    let client = stage.signed_in().await?;
    let cookie = client
        .cookie(&stage.env.url("app", "/"), "_pomerium")
        .context("no cookie")?;
    // Everything that could make the program talk: errors, refusals, a bad reload, a good one.
    let stranger = stage.env.client()?;
    let callback = walk_to(&stranger, &stage.env.url("app", "/"), |path| {
        path == "/.pomerium/callback/"
    })
    .await?;
    let blob = callback
        .split("pomerium_session_encrypted=")
        .nth(1)
        .and_then(|rest| rest.split('&').next())
        .context("a sealed handle")?
        .to_owned();
    stranger.get(&callback).await?;
    stranger.get(&callback).await?;
    for token in [&cookie, &format!("{cookie}x")] {
        let headers = [("authorization", format!("Pomerium {token}"))];
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        stranger.get_with(&stage.env.url("admin", "/"), &headers).await?;
        let query = format!("/?pomerium_session={token}&access_token=secret-of-a-query");
        stranger.get(&stage.env.url("app", &query)).await?;
    }
    let mut pages = String::new();
    for host in ["app", "auth", "admin", "nowhere"] {
        for path in [
            "/.pomerium/",
            "/x",
            "/oauth2/callback?code=x&state=y",
            "/.pomerium/sign_in",
        ] {
            for accept in ["text/html", "application/json"] {
                let headers = [("accept", accept)];
                pages += &client
                    .get_with(&stage.env.url(host, path), &headers)
                    .await?
                    .text();
            }
        }
    }
    let mark = stage.env.log().mark();
    stage.env.rewrite_config(|config| {
        config["set_response_headers"]["Authorization"] = HEADER_SECRET.into();
        config["routes"][0]["to"] = "gopher://user:the-secret-of-an-upstream@nowhere".into();
    })?;
    stage
        .env
        .log()
        .wait_from(mark, "the bad reload", |line| line.contains("gopher"))
        .await?;
    let numbers = client
        .get_with(&scrape, &[("authorization", &format!("Basic {basic}"))])
        .await?;
    assert_eq!(numbers.status, 200);

    let config = stage.env.config();
    let secret = |name: &str| config[name].as_str().map(str::to_owned).context("a secret");
    let pem = std::fs::read_to_string(stage.env.folder().join("server.key"))?;
    let pem_line = pem.lines().nth(1).context("a key")?.to_owned();
    let signature = cookie.rsplit('.').next().unwrap_or_default().to_owned();
    let log = stage.env.log().all().join("\n");
    for (name, secret) in [
        ("shared secret", secret("shared_secret")?),
        ("cookie secret", secret("cookie_secret")?),
        ("client secret", OidcProvider::CLIENT_SECRET.to_owned()),
        ("metrics password", METRICS_PASSWORD.to_owned()),
        ("metrics password, encoded", basic.clone()),
        ("private key", pem_line),
        ("session handle", signature),
        ("sealed handle", blob),
        ("access token", "the-access-token".to_owned()),
        ("code", "the-code".to_owned()),
        ("header of the configuration", HEADER_SECRET.to_owned()),
        ("password of an upstream", "the-secret-of-an-upstream".to_owned()),
    ] {
        for (place, text) in [
            ("the log", &log),
            ("a page", &pages),
            ("metrics", &numbers.text()),
        ] {
            let line = text.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{name} in {place}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn passwords_of_people_are_not_logged() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    for password in ["a-wrong-guess", developer().password()] {
        let page = client.follow(&stage.env.url("app", "/")).await?;
        client.sign_in(&page, "developer@example.com", password).await?;
    }
    let url = stage.env.url("app", &format!("/?password={}", encode("x")));
    client.get(&url).await?;
    let hash = std::fs::read_to_string(stage.env.folder().join("users.yaml"))?;
    let hash = hash
        .split("$argon2id$")
        .nth(1)
        .and_then(|rest| rest.split(['\n', '"', '\'']).next())
        .context("a hash")?
        .to_owned();
    for line in stage.env.log().all() {
        for secret in ["a-wrong-guess", developer().password(), hash.as_str()] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn metrics_ask_for_the_password() -> Result<()> {
    let port = lease()?;
    let basic = STANDARD.encode(format!("scraper:{METRICS_PASSWORD}"));
    let stage = scripted_with(|builder| {
        builder
            .set("metrics_address", format!("127.0.0.1:{}", port.number()))
            .set("metrics_basic_auth", basic.clone())
    })
    .await?;
    let client = stage.env.client()?;
    let url = format!("http://127.0.0.1:{}/metrics", port.number());
    let other = STANDARD.encode("scraper:another");
    let shorter = STANDARD.encode(format!("scraper:{}", &METRICS_PASSWORD[..10]));
    let without_name = STANDARD.encode(format!(":{METRICS_PASSWORD}"));
    for header in [
        String::new(),
        "Basic".to_owned(),
        "Basic !!!".to_owned(),
        format!("Basic {other}"),
        format!("Basic {shorter}"),
        format!("Basic {without_name}"),
        format!("Bearer {basic}"),
        format!("Bearer {METRICS_PASSWORD}"),
    ] {
        let headers: &[(&str, &str)] = &[("authorization", &header)];
        let headers = if header.is_empty() { &[] } else { headers };
        let reply = client.get_with(&url, headers).await?;
        assert_eq!(reply.status, 401, "{header}");
        assert!(!reply.text().contains("pomerium_build_info"), "{header}");
    }
    let right: &[(&str, &str)] = &[("authorization", &format!("Basic {basic}"))];
    let reply = client.get_with(&url, right).await?;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("pomerium_build_info"));
    for path in ["/", "/debug/pprof/", "/config_dump", "/.pomerium/", "/healthz"] {
        let reply = client
            .get_with(&format!("http://127.0.0.1:{}{path}", port.number()), right)
            .await?;
        assert_eq!(reply.status, 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn clients_do_not_grow_the_metrics_and_do_not_write_in_the_log() -> Result<()> {
    let port = lease()?;
    let stage =
        scripted_with(|builder| builder.set("metrics_address", format!("127.0.0.1:{}", port.number())))
            .await?;
    let client = stage.env.client()?;
    let url = format!("http://127.0.0.1:{}/metrics", port.number());
    client.get(&stage.env.url("open", "/")).await?;
    client.get(&stage.env.url("nowhere", "/")).await?;
    let method = Method::from_bytes(b"FIRST")?;
    client.send(method, &stage.env.url("open", "/"), &[], "").await?;
    let before = client.get(&url).await?.text().lines().count();
    for n in 0..30 {
        let method = Method::from_bytes(format!("VERB{n}").as_bytes())?;
        let open = stage.env.url("open", &format!("/{n}?x={n}"));
        client
            .send(method, &open, &[("user-agent", &format!("agent {n}"))], "")
            .await?;
        client.get(&stage.env.url(&format!("nowhere{n}"), "/")).await?;
    }
    let after = client.get(&url).await?.text().lines().count();
    assert!(after < before + 30, "{before} lines became {after}");
    // Line ends that a client writes stay inside one JSON string.
    let path = "/%0a%7B%22message%22:%22forged%22%7D?x=%0a{\"message\":\"forged\"}";
    let agent = "x\",\"message\":\"forged\"";
    client
        .get_with(&stage.env.url("open", path), &[("user-agent", agent)])
        .await?;
    let mark = stage.env.log().json();
    assert!(mark.iter().all(|line| line["message"] != "forged"));
    Ok(())
}

#[tokio::test]
async fn unknown_hosts_learn_nothing() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    for host in ["nowhere", "evil"] {
        for accept in ["text/html", "application/json"] {
            let reply = client
                .get_with(&stage.env.url(host, "/"), &[("accept", accept)])
                .await?;
            assert_eq!(reply.status, 404, "{host}");
            let text = reply.text();
            for told in [
                "app.example.com",
                "admin.example.com",
                "127.0.0.1",
                "developer@example.com",
            ] {
                assert!(!text.contains(told), "{host} is told about {told}:\n{text}");
            }
            assert!(reply.header("server").is_none_or(|server| !server.contains('/')));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_is_refused_is_told_without_its_secrets() -> Result<()> {
    const SECRET: &str = "the-secret-in-the-wrong-place";
    let stage = local().await?;
    let server = stage.env.folder();
    let key = std::fs::read(server.join("server.key"))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.yaml");
    let route = |to: String| json!({ "from": "https://a.example.com", "to": to });
    let config = json!({
        "routes": [
            route(format!("gopher://user:{SECRET}@nowhere")),
            route(format!("http://user:{SECRET}@no where")),
            route(format!("http://user:{SECRET}@h:port")),
        ],
        "shared_secret": SECRET,
        "cookie_secret": SECRET,
        "signing_key": SECRET,
        "metrics_basic_auth": SECRET,
        "idp_client_secret": [SECRET],
        "databroker_storage_connection_string": format!("postgres://user:{SECRET}@h"),
        "certificates": [{ "cert": server.join("server.pem"), "key": STANDARD.encode(&key) }],
    });
    std::fs::write(&file, config.to_string())?;
    let mut command = tokio::process::Command::new(pomerium_testing::tools::server()?);
    command.arg("validate").arg("--config").arg(&file);
    let output = command.output().await?;
    assert!(!output.status.success());
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("shared_secret") && said.contains("routes[2]"),
        "{said}"
    );
    assert!(!said.contains(SECRET), "{said}");
    assert!(said.contains("certificates[0]"), "{said}");
    assert!(!said.contains(&STANDARD.encode(&key)[..40]), "{said}");
    Ok(())
}
