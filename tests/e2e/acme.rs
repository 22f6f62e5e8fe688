//! Certificates by ACME, from a real authority, through the program as it is shipped.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pomerium_testing::{
    Authority, Client, ClientOptions, Environment, EnvironmentBuilder, Pebble, PebbleOptions, PrimaryServer,
    RenewalWindow, Route, Shown, lease, shown, within, write_executable,
};
use serde_json::json;

pub(crate) fn route(name: &str) -> Route {
    Route::new(name, "http://127.0.0.1:1").public()
}

/// A server without certificates of its own that gets them from `pebble`. The authenticate service has a name of its own,
/// which is left out: one certificate less to wait for.
pub(crate) fn with(builder: EnvironmentBuilder, pebble: &Pebble) -> EnvironmentBuilder {
    let settings = pebble.settings();
    settings
        .into_iter()
        .fold(builder, |builder, (key, value)| builder.set(key, value))
}

pub(crate) async fn obtained(env: &Environment, name: &str) -> Result<()> {
    let wanted = format!("\"{name}\"");
    env.log()
        .wait(&format!("a certificate for {name}"), |line| {
            line.contains("a certificate was obtained") && line.contains(&wanted)
        })
        .await?;
    Ok(())
}

pub(crate) async fn look(env: &Environment, pebble: &Pebble, name: &str) -> Result<Shown> {
    shown(env.address(), name, &pebble.root_pem().await?).await
}

pub(crate) fn stored(env: &Environment, name: &str, kind: &str) -> Result<PathBuf> {
    let certificates = env.folder().join("data/autocert/certificates");
    let authority = std::fs::read_dir(certificates)?
        .next()
        .context("no authority")??;
    Ok(authority.path().join(name).join(format!("{name}.{kind}")))
}

#[tokio::test]
async fn tls_alpn_on_the_main_listener_and_a_restart_orders_nothing() -> Result<()> {
    let builder = Environment::builder()?;
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        ..PebbleOptions::default()
    })
    .await?;
    let mut env = with(builder, &pebble).route(route("app")).start().await?;
    obtained(&env, "app.example.com").await?;
    obtained(&env, "auth.example.com").await?;
    let first = look(&env, &pebble, "app.example.com").await?;
    assert!(first.trusted);
    assert!(look(&env, &pebble, "auth.example.com").await?.trusted);
    assert!(!look(&env, &pebble, "other.example.com").await?.trusted);

    for kind in ["crt", "key", "json"] {
        let mode = std::fs::metadata(stored(&env, "app.example.com", kind)?)?
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{kind}");
    }
    let key = std::fs::read_to_string(stored(&env, "app.example.com", "key")?)?;
    assert!(
        env.log()
            .all()
            .iter()
            .all(|line| !line.contains(key.lines().nth(1).unwrap()))
    );

    let orders = pebble.orders();
    assert_eq!(orders, 2);
    env.kill().await?;
    env.start_again().await?;
    let again = look(&env, &pebble, "app.example.com").await?;
    assert_eq!(again.chain, first.chain, "the first handshake has it");
    assert_eq!(pebble.orders(), orders);

    env.rewrite_config(|config| {
        let route = json!({
            "from": "https://later.example.com", "to": "http://127.0.0.1:1", "allow_public_unauthenticated_access": true
        });
        config["routes"].as_array_mut().unwrap().push(route);
    })?;
    obtained(&env, "later.example.com").await?;
    assert!(look(&env, &pebble, "later.example.com").await?.trusted);
    assert_eq!(look(&env, &pebble, "app.example.com").await?.chain, first.chain);
    assert_eq!(pebble.orders(), orders + 1);
    Ok(())
}

#[tokio::test]
async fn plain_http_where_the_main_listener_cannot_be_reached() -> Result<()> {
    let redirect = lease()?;
    let pebble = Pebble::start(&PebbleOptions {
        http_port: redirect.number(),
        ..PebbleOptions::default()
    })
    .await?;
    let env = with(Environment::builder()?, &pebble)
        .set("http_redirect_addr", format!("127.0.0.1:{}", redirect.number()))
        .route(route("app"))
        .start()
        .await?;
    obtained(&env, "app.example.com").await?;
    assert!(look(&env, &pebble, "app.example.com").await?.trusted);
    let log = env.log().all();
    assert!(
        log.iter()
            .any(|line| line.contains("TLS-ALPN-01: the certificate authority did not accept"))
    );

    let plain = Client::new(&ClientOptions::default())?;
    let url = format!(
        "http://127.0.0.1:{}/.well-known/acme-challenge/x",
        redirect.number()
    );
    assert_eq!(
        plain.get(&url).await?.status,
        301,
        "nothing is in flight any more"
    );
    Ok(())
}

#[tokio::test]
async fn a_wildcard_by_a_program_that_publishes_records() -> Result<()> {
    let builder = Environment::builder()?;
    let pebble = Pebble::start(&PebbleOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("publish");
    write_executable(&script, &pebble.record_script())?;
    let env = with(builder, &pebble)
        .set(
            "autocert_dns",
            json!({"provider": "exec", "program": script, "timeout": "10s", "propagation": "0s"}),
        )
        .route(route("*"))
        .start()
        .await?;
    obtained(&env, "*.example.com").await?;
    let any = look(&env, &pebble, "any.example.com").await?;
    assert!(any.trusted);
    assert!(stored(&env, "wildcard_.example.com", "crt")?.is_file());
    Ok(())
}

#[tokio::test]
async fn a_wildcard_by_dynamic_update() -> Result<()> {
    let names = PrimaryServer::start().await?;
    let pebble = Pebble::start(&PebbleOptions {
        name_server: Some(names.address()),
        ..PebbleOptions::default()
    })
    .await?;
    let dns = |secret: &str| {
        json!({
            "provider": "rfc2136", "server": names.address().to_string(), "key_name": PrimaryServer::KEY_NAME,
            "secret": secret, "propagation": "10s", "ttl": "60s"
        })
    };
    let wrong = "dGVzdHMgb25seTogYW5vdGhlciBrZXkgZm9yIGl0ICE=";
    let refused = with(Environment::builder()?, &pebble)
        .set("autocert_dns", dns(wrong))
        .route(route("*"))
        .start()
        .await?;
    let said = refused
        .log()
        .wait("a refusal", |line| line.contains("could not be obtained"))
        .await?;
    assert!(
        said.contains("autocert_dns: the server") && said.contains("refused"),
        "{said}"
    );
    assert!(refused.log().all().iter().all(|line| !line.contains(wrong)));
    assert!(!look(&refused, &pebble, "any.example.com").await?.trusted);

    let env = with(Environment::builder()?, &pebble)
        .set("autocert_dns", dns(PrimaryServer::KEY))
        .route(route("*"))
        .start()
        .await?;
    obtained(&env, "*.example.com").await?;
    assert!(look(&env, &pebble, "any.example.com").await?.trusted);
    Ok(())
}

#[tokio::test]
async fn an_account_that_was_opened_elsewhere() -> Result<()> {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let builder = Environment::builder()?;
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        external_accounts: vec![("kid-1".into(), key.into())],
        ..PebbleOptions::default()
    })
    .await?;
    let without = with(Environment::builder()?, &pebble)
        .route(route("app"))
        .start()
        .await?;
    let said = without
        .log()
        .wait("a refusal", |line| line.contains("could not be obtained"))
        .await?;
    assert!(said.contains("externalAccountRequired"), "{said}");

    let env = with(builder, &pebble)
        .set("autocert_eab_key_id", "kid-1")
        .set("autocert_eab_mac_key", key)
        .set("autocert_email", "ops@example.com")
        .route(route("app"))
        .start()
        .await?;
    obtained(&env, "app.example.com").await?;
    assert!(look(&env, &pebble, "app.example.com").await?.trusted);
    let account = env.folder().join("data/autocert/acme");
    let account = std::fs::read_dir(account)?.next().context("no account")??.path();
    let registration = std::fs::read_to_string(account.join("users/ops@example.com/ops.json"))?;
    assert!(registration.contains("mailto:ops@example.com"), "{registration}");
    let mode = std::fs::metadata(account.join("users/ops@example.com/ops.key"))?
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(env.log().all().iter().all(|line| !line.contains(key)));
    Ok(())
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_gets_no_order() -> Result<()> {
    let builder = Environment::builder()?;
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        ..PebbleOptions::default()
    })
    .await?;
    let env = with(builder, &pebble)
        .set("autocert_trusted_ca", json!(null))
        .route(route("app"))
        .start()
        .await?;
    let said = env
        .log()
        .wait("a refusal", |line| line.contains("could not be obtained"))
        .await?;
    assert!(
        said.contains("UnknownIssuer") && said.contains("next-attempt"),
        "{said}"
    );
    assert_eq!(pebble.orders(), 0);
    // The generated certificate serves meanwhile.
    assert!(!look(&env, &pebble, "app.example.com").await?.trusted);
    Ok(())
}

async fn metric(address: &str, name: &str) -> Result<f64> {
    let client = Client::new(&ClientOptions::default())?;
    let text = client.get(&format!("http://{address}/metrics")).await?.text();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
    Ok(line
        .context("no such metric")?
        .rsplit(' ')
        .next()
        .context("no value")?
        .parse()?)
}

#[tokio::test]
async fn renewal_in_time_and_a_failed_one_keeps_what_there_is() -> Result<()> {
    let builder = Environment::builder()?;
    let metrics = lease()?;
    let metrics_address = format!("127.0.0.1:{}", metrics.number());
    let mut pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        validity: Some(Duration::from_secs(21)),
        ..PebbleOptions::default()
    })
    .await?;
    let root = pebble.root_pem().await?;
    let env = with(builder, &pebble)
        .set("metrics_address", metrics_address.as_str())
        .set("authenticate_service_url", json!(null))
        .route(route("app"))
        .start()
        .await?;
    obtained(&env, "app.example.com").await?;
    let first = shown(env.address(), "app.example.com", &root).await?;
    let renewed =
        |line: &str| line.contains("a certificate was obtained") && line.contains("\"renewal\":true");
    env.log().wait("a renewal", renewed).await?;
    let second = shown(env.address(), "app.example.com", &root).await?;
    assert_ne!(first.chain[0], second.chain[0]);
    assert!(second.trusted);
    assert!(metric(&metrics_address, "pomerium_autocert_renewals_total").await? >= 1.0);
    assert!(
        (metric(&metrics_address, "pomerium_autocert_certificates_total").await? - 1.0).abs() < f64::EPSILON
    );
    assert!(
        metric(
            &metrics_address,
            "pomerium_autocert_certificate_next_expires_seconds"
        )
        .await?
            > 1.7e9
    );

    pebble.kill().await?;
    let before = shown(env.address(), "app.example.com", &root).await?;
    let mark = env.log().mark();
    env.log()
        .wait_from(mark, "a failed renewal", |line| {
            line.contains("could not be obtained")
        })
        .await?;
    let after = shown(env.address(), "app.example.com", &root).await?;
    assert_eq!(after.chain, before.chain);
    within("the failure in the metrics", async {
        while metric(&metrics_address, "pomerium_autocert_failing_certificates").await? < 1.0 {}
        anyhow::Ok(())
    })
    .await??;
    let client = Client::new(&ClientOptions::default())?;
    assert_eq!(
        client.get(&env.health_url("/readyz")).await?.status,
        200,
        "an alarm, no outage"
    );
    let status = client.get(&env.health_url("/status")).await?.text();
    assert!(status.contains("app.example.com"), "{status}");
    Ok(())
}

#[tokio::test]
async fn two_processes_with_one_folder_order_once() -> Result<()> {
    let builder = Environment::builder()?;
    let folder = tempfile::tempdir()?;
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        ..PebbleOptions::default()
    })
    .await?;
    // Only the first can be reached by the authority; an order of the second would fail.
    let one = with(builder, &pebble)
        .set("autocert_dir", folder.path().display().to_string())
        .set("authenticate_service_url", json!(null))
        .route(route("app"));
    let two = with(Environment::builder()?, &pebble)
        .set("autocert_dir", folder.path().display().to_string())
        .set("authenticate_service_url", json!(null))
        .route(route("app"));
    let one = one.start().await?;
    let two = two.start().await?;
    obtained(&one, "app.example.com").await?;
    let adopted = async {
        while !look(&two, &pebble, "app.example.com").await?.trusted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    within("the certificate in the other process", adopted).await??;
    let (first, second) = (
        look(&one, &pebble, "app.example.com").await?,
        look(&two, &pebble, "app.example.com").await?,
    );
    assert_eq!(first.chain, second.chain);
    assert_eq!(pebble.orders(), 1);
    Ok(())
}

#[tokio::test]
async fn a_configured_certificate_comes_first_and_is_not_ordered_again() -> Result<()> {
    let builder = Environment::builder()?;
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        ..PebbleOptions::default()
    })
    .await?;
    let own = builder
        .authority()
        .issue(&["own.example.com", "auth.example.com"])?;
    let folder = tempfile::tempdir()?;
    let (chain, key) = (folder.path().join("own.pem"), folder.path().join("own.key"));
    std::fs::write(&chain, &own.certificate_pem)?;
    std::fs::write(&key, &own.key_pem)?;
    let env = with(builder, &pebble)
        .set("certificates", json!([{ "cert": chain, "key": key }]))
        .route(route("own"))
        .route(route("app"))
        .start()
        .await?;
    obtained(&env, "app.example.com").await?;
    assert!(look(&env, &pebble, "app.example.com").await?.trusted);
    let own = shown(env.address(), "own.example.com", env.authority().pem()).await?;
    assert!(own.trusted);
    assert_eq!(pebble.orders(), 1);
    Ok(())
}

#[tokio::test]
async fn the_authority_says_when_to_renew() -> Result<()> {
    let builder = Environment::builder()?;
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: builder.port(),
        ..PebbleOptions::default()
    })
    .await?;
    let authority = Authority::new()?;
    let front = RenewalWindow::start(&pebble, &authority).await?;
    let env = with(builder, &pebble)
        .set("autocert_ca", front.directory())
        .set(
            "autocert_trusted_ca",
            pomerium_crypto::encoding::base64_encode(authority.pem().as_bytes()),
        )
        .set("authenticate_service_url", json!(null))
        .route(route("app"))
        .start()
        .await?;
    let renewed =
        |line: &str| line.contains("a certificate was obtained") && line.contains("\"renewal\":true");
    env.log().wait("a renewal", renewed).await?;
    let now = look(&env, &pebble, "app.example.com").await?;
    assert!(now.trusted, "{}", now.doubt);
    assert_eq!(front.replaced(), [front.first().context("it was not asked")?]);
    assert_eq!(pebble.orders(), 2, "the new certificate is not wanted back");
    Ok(())
}
