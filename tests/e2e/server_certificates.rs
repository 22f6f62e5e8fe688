//! Server certificates: those of a folder, exchanged under open connections; what is wrong with one; those that come
//! from the shared secret alone; figures about those that end.

use std::path::Path;

use anyhow::{Result, ensure};
use pomerium_testing::{Authority, Environment, Leaf, Route, Upstream, lease, shown};
use serde_json::{Value, json};

#[tokio::test]
async fn services_with_one_secret_trust_each_other_without_files() -> Result<()> {
    // One process is the upstream of the other; they share a secret and no file.
    let upstream = Upstream::start().await?;
    let inner = Environment::builder()?
        .set("tls_derive", "pomerium.internal")
        .set("certificate_file", json!(null))
        .set("certificate_key_file", json!(null))
        .route(Route::new("app", &upstream.url()).public())
        .start()
        .await?;
    let to = format!("https://127.0.0.1:{}", inner.port());
    let route = |name: &str, tls_name: &str| {
        Route::new(name, &to)
            .public()
            .set("tls_upstream_server_name", tls_name)
            .set("host_rewrite", inner.authority_of("app"))
    };
    for (derive, status) in [(Some("outer.internal"), 200), (None, 503)] {
        let mut builder = Environment::builder()?.route(route("good", "pomerium.internal"));
        if let Some(domain) = derive {
            builder = builder.set("tls_derive", domain);
        }
        let outer = builder.start().await?;
        let client = outer.client()?;
        let good = client.get(&outer.url("good", "/")).await?;
        assert_eq!(good.status, status, "{derive:?}: {}", good.text());
    }
    Ok(())
}

#[tokio::test]
async fn the_end_of_each_certificate_is_measured() -> Result<()> {
    let metrics = lease()?;
    let env = Environment::builder()?
        .set("metrics_address", format!("127.0.0.1:{}", metrics.number()))
        .start()
        .await?;
    let url = format!("http://127.0.0.1:{}/metrics", metrics.number());
    let text = env.client()?.get(&url).await?.text();
    for name in ["*.example.com", "127.0.0.1"] {
        let wanted = |line: &&str| {
            line.starts_with("pomerium_certificate_expiry_timestamp_seconds")
                && line.contains(&format!("name=\"{name}\""))
        };
        let line = text.lines().find(wanted).unwrap_or_default();
        let end: f64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
        assert!(end > 1.7e9, "{line}");
    }
    assert!(text.contains("pomerium_certificate_next_expiry_timestamp_seconds"));
    Ok(())
}

/// The key first: a certificate without it is refused.
fn put(folder: &Path, name: &str, leaf: &Leaf) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (end, text) in [("key", &leaf.key_pem), ("crt", &leaf.certificate_pem)] {
        let fresh = folder.join(".fresh");
        std::fs::write(&fresh, text)?;
        std::fs::rename(fresh, folder.join(format!("{name}.{end}")))?;
    }
    Ok(())
}

/// Waits until `name` is shown with a certificate that the test's authority vouches for and that is not `before`.
async fn trusted(env: &Environment, name: &str, before: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut mark = 0;
    loop {
        let next = env.log().mark();
        let seen = shown(env.address(), name, env.authority().pem()).await?;
        if seen.trusted && before.is_none_or(|before| before != seen.chain[0].as_ref()) {
            return Ok(seen.chain[0].to_vec());
        }
        env.log()
            .wait_from(mark, "a configuration", |line| {
                line.contains("loaded configuration")
            })
            .await?;
        mark = next;
    }
}

#[tokio::test]
async fn certificates_of_a_folder_come_and_go_under_open_connections() -> Result<()> {
    let upstream = Upstream::start().await?;
    let builder = Environment::builder()?;
    let folder = tempfile::tempdir()?;
    put(
        folder.path(),
        "app",
        &builder.authority().issue(&["app.example.com"])?,
    )?;
    let env = builder
        .set("certificate_file", Value::Null)
        .set("certificate_key_file", Value::Null)
        .set("certificates_dir", folder.path().display().to_string())
        .route(Route::new("app", &upstream.url()).public())
        .start()
        .await?;
    let mut open = env.raw("app").await?;
    let mut get = async || {
        let host = env.authority_of("app");
        open.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await?;
        anyhow::Ok(open.reply(false).await?.status)
    };
    ensure!(get().await? == 200);
    let first = trusted(&env, "app.example.com", None).await?;

    // One more, in a folder of its own as certbot has it, with a wildcard.
    let other = env.authority().issue(&["*.other.example.com"])?;
    let below = folder.path().join("other.example.com");
    std::fs::create_dir(&below)?;
    std::fs::write(below.join("privkey.pem"), &other.key_pem)?;
    std::fs::write(below.join("fullchain.pem"), &other.certificate_pem)?;
    trusted(&env, "any.other.example.com", None).await?;

    // The first one renewed.
    put(
        folder.path(),
        "app",
        &env.authority().issue(&["app.example.com"])?,
    )?;
    let second = trusted(&env, "app.example.com", Some(&first)).await?;

    // Half a pair: what is served stays.
    let mark = env.log().mark();
    std::fs::write(folder.path().join("half.crt"), &other.certificate_pem)?;
    let said = env
        .log()
        .wait_from(mark, "a refusal", |line| line.contains("without its key"))
        .await?;
    ensure!(
        said.contains("half.crt") && said.contains("certificates_dir"),
        "{said}"
    );
    ensure!(trusted(&env, "app.example.com", None).await? == second);
    ensure!(get().await? == 200, "the connection saw nothing of it");
    Ok(())
}

#[tokio::test]
async fn half_a_certificate_or_two_halves_stop_the_start() -> Result<()> {
    let authority = Authority::new()?;
    let (one, two) = (
        authority.issue(&["a.example.com"])?,
        authority.issue(&["a.example.com"])?,
    );
    let cases: [(&[(&str, &str)], &str); 4] = [
        (
            &[("a.crt", &one.certificate_pem)],
            "a certificate without its key",
        ),
        (&[("a.key", &one.key_pem)], "a key without its certificate"),
        (&[("a.pem", &one.certificate_pem)], "key:"),
        (
            &[("a.crt", &one.certificate_pem), ("a.key", &two.key_pem)],
            "a.crt",
        ),
    ];
    for (files, wanted) in cases {
        let folder = tempfile::tempdir()?;
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text)?;
        }
        let (status, output) = Environment::builder()?
            .set("certificates_dir", folder.path().display().to_string())
            .refused()
            .await?;
        let said = output.tail(50);
        ensure!(!status.success() && said.contains(wanted), "{wanted}: {said}");
        ensure!(!said.contains("PRIVATE KEY"), "{said}");
    }
    let (status, output) = Environment::builder()?
        .set("certificates_dir", "/nowhere")
        .refused()
        .await?;
    ensure!(
        !status.success() && output.tail(50).contains("/nowhere"),
        "{}",
        output.tail(50)
    );
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_has_ended_or_is_for_another_name_is_served_and_told() -> Result<()> {
    let builder = Environment::builder()?;
    let folder = tempfile::tempdir()?;
    put(
        folder.path(),
        "old",
        &builder.authority().issue_ended(&["old.example.com"])?,
    )?;
    let env = builder
        .set("certificate_file", Value::Null)
        .set("certificate_key_file", Value::Null)
        .set("certificates_dir", folder.path().display().to_string())
        .start()
        .await?;
    let told = |line: &Value| line["level"] == "error" && line["names"] == "old.example.com";
    let line = env.log().wait_json(0, "the end of the certificate", told).await?;
    ensure!(
        line["origin"]
            .as_str()
            .is_some_and(|origin| origin.ends_with("old.crt")),
        "{line}"
    );
    ensure!(line["days-ago"].as_i64().is_some_and(|days| days > 365), "{line}");
    let root = env.authority().pem();
    let old = shown(env.address(), "old.example.com", root).await?;
    ensure!(old.doubt.contains("xpired"), "{}", old.doubt);
    let another = shown(env.address(), "another.example.com", root).await?;
    ensure!(
        another.chain == old.chain && !another.trusted,
        "the first one is shown"
    );
    Ok(())
}
