//! `pomerium health` and `pomerium health watch`, beside a running server, and the probes they look through.

use std::time::Duration;

use anyhow::{Context, Result};
use pomerium_testing::{Environment, Port, Postgres, Program, lease, tools, within};
use pomerium_tests::numbers::Numbers;
use pomerium_tests::services::SHARED;
use serde_json::{Value, json};
use tokio::process::Command;

/// Everything in one process, and where its metrics are.
async fn measured() -> Result<(Environment, Port)> {
    let metrics = lease()?;
    let address = format!("127.0.0.1:{}", metrics.number());
    let builder = Environment::builder()?.set("metrics_address", address);
    Ok((builder.start().await?, metrics))
}

fn health(env: &Environment, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(tools::server()?);
    command
        .arg("health")
        .args(args)
        .current_dir(env.folder())
        .env_remove("SHARED_SECRET");
    Ok(command)
}

#[tokio::test]
async fn one_look_tells_what_runs() -> Result<()> {
    let env = Environment::builder()?.start().await?;
    let address = env.health_url("");
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    let output = health(&env, &["-v", "-a", address])?.output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for line in ["proxy.service: running", "storage.backend: running", "healthy"] {
        assert!(text.contains(line), "{text}");
    }
    let nobody = lease()?;
    let address = format!("127.0.0.1:{}", nobody.number());
    let output = health(&env, &["-a", &address])?.output().await?;
    assert!(!output.status.success());
    Ok(())
}

/// Probes, `/status` and the metrics tell of the same checks, and what keeps the records.
#[tokio::test]
async fn what_the_store_is_shows_and_the_checks_are_measured() -> Result<()> {
    let (env, metrics) = measured().await?;
    let client = env.client()?;
    let status: Value = client.get(&env.health_url("/status")).await?.json()?;
    let probe: Value = client.get(&env.health_url("/readyz")).await?.json()?;
    for checks in [&status["statuses"], &probe] {
        let attributes = |name: &str| checks[name]["attributes"].clone();
        assert_eq!(
            attributes("storage.backend"),
            json!([{"Key": "backend", "Value": "file"}])
        );
        assert_eq!(
            attributes("databroker.cluster"),
            json!([{"Key": "member", "Value": "leader"}])
        );
        assert!(checks["proxy.service"].get("attributes").is_none(), "{checks}");
    }
    let numbers = Numbers::read(&client, metrics.number()).await?;
    let running = ["check=\"storage.backend\"", "status=\"running\""];
    let failing = [running[0], "status=\"error\""];
    for name in ["pomerium_health_status", "pomerium_health_status_total"] {
        assert!(numbers.value(name, &running)? >= 1.0, "{numbers}");
    }
    assert!(numbers.value("pomerium_health_status", &failing)? < 1.0);
    assert!(numbers.value("pomerium_health_startup_duration_seconds", &[])? > 0.0);
    Ok(())
}

/// Who keeps up with the databroker is told of, and how far it has come.
#[tokio::test]
async fn those_who_follow_the_databroker_are_measured() -> Result<()> {
    let (env, metrics) = measured().await?;
    let client = env.client()?;
    let of = |record_type, id| {
        [
            format!("record_type=\"{record_type}\""),
            format!("syncer_id=\"{id}\""),
        ]
    };
    let syncers = [
        of("", "records"),
        of("type.googleapis.com/session.Session", "identity_manager"),
    ];
    for labels in syncers {
        let labels = labels.each_ref().map(String::as_str);
        let value = |numbers: &Numbers, name: &str| {
            numbers.value(&format!("pomerium_databroker_syncer_{name}"), &labels)
        };
        let numbers = within("a syncer that follows", async {
            loop {
                let numbers = Numbers::read(&client, metrics.number()).await?;
                // The one that refreshes sessions needs its lease first.
                if value(&numbers, "active").is_ok_and(|state| state == 1.0) {
                    return anyhow::Ok(numbers);
                }
            }
        })
        .await??;
        for (name, least) in [
            ("server_version", 1.0),
            ("sync_total", 1.0),
            ("sync_latest_total", 1.0),
            ("clear_records_total", 1.0),
            ("update_records_total", 1.0),
        ] {
            assert!(value(&numbers, name)? >= least, "{name} of {labels:?}");
        }
        for name in [
            "latest_record_version",
            "sync_failures_total",
            "sync_latest_failures_total",
            "clear_records_duration_seconds_total",
            "update_records_duration_seconds_total",
        ] {
            assert!(value(&numbers, name)? >= 0.0, "{name} of {labels:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_gone_shows_until_it_is_back() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let env = Environment::builder()?
        .set("databroker_storage_type", "postgres")
        .set(
            "databroker_storage_connection_string",
            postgres.connection("postgres"),
        )
        .start()
        .await?;
    let client = env.client()?;
    let probe = async |path: &str| anyhow::Ok(client.get(&env.health_url(path)).await?.status.as_u16());
    let address = env.health_url("");
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    for (gone, wanted) in [(true, 503), (false, 200)] {
        match gone {
            true => postgres.crash()?,
            false => postgres.go_on()?,
        }
        within("the probes", async {
            while (probe("/readyz").await?, probe("/healthz").await?) != (wanted, wanted) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        })
        .await??;
        assert_eq!(probe("/startupz").await?, 200, "it has started");
        let output = health(&env, &["-a", address])?.output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(i32::from(gone)), "{text}");
        assert_eq!(text.contains("storage.backend: PostgreSQL"), gone, "{text}");
        // Who leaves that check out is told of no other.
        let output = health(&env, &["-a", address, "-e", "storage.backend"])?
            .output()
            .await?;
        assert!(output.status.success(), "{output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn watch_follows_a_server_to_its_end() -> Result<()> {
    let port = lease()?;
    let address = format!("127.0.0.1:{}", port.number());
    let mut env = Environment::builder()?
        .set("grpc_address", address.as_str())
        .start()
        .await?;
    let secret = pomerium_crypto::encoding::base64_encode(SHARED);
    let config = env.folder().join("config.yaml").display().to_string();
    let mut by_environment = health(&env, &["watch", "-a", &address])?;
    by_environment.env("SHARED_SECRET", &secret);
    let ways = [
        by_environment,
        health(&env, &["watch", "-a", &address, "-s", &secret])?,
        health(&env, &["watch", "-a", &address, "--config", &config])?,
    ];
    let mut watching = Vec::new();
    for way in ways {
        let program = Program::start(way)?;
        program
            .output()
            .wait("the state", |line| line.ends_with(" running"))
            .await?;
        program
            .output()
            .wait("a part", |line| line == "  storage.backend: running")
            .await?;
        watching.push(program);
    }
    env.kill().await?;
    for mut program in watching {
        let status = within("the end", program.wait()).await??;
        assert!(!status.success(), "{}", program.output().tail(20));
        assert!(program.output().tail(20).contains(&address));
    }
    Ok(())
}

#[tokio::test]
async fn watch_says_what_is_missing() -> Result<()> {
    let port = lease()?;
    let address = format!("127.0.0.1:{}", port.number());
    let env = Environment::builder()?
        .set("grpc_address", address.as_str())
        .start()
        .await?;
    let wrong = pomerium_crypto::encoding::base64_encode(&[7; 32]);
    for (args, word) in [
        (&["watch", "-a", &address][..], "SHARED_SECRET"),
        (&["watch", "-a", &address, "-s", "nonsense"], "base64 of 32 bytes"),
        (
            &["watch", "-a", &address, "-s", &wrong],
            "does not take the shared secret",
        ),
        (&["watch", "-a", "nowhere", "-s", &wrong], "nowhere"),
    ] {
        let output = health(&env, args)?.output().await.context("health watch")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(word),
            "{args:?}: {text}"
        );
        assert!(!text.contains(&wrong), "the secret is not repeated: {text}");
    }
    Ok(())
}
