//! The audit stream: whole, in order, and honest about what is missing, whatever happens to the file or the receiver.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Collector, Environment, Mood, Route, Upstream, lease, tools, within};
use pomerium_tests::decision::{DecisionStage, question};
use pomerium_tests::{developer, local_with, scripted_with};
use serde_json::{Value, json};

use crate::impersonation::{session, signed_in_as};

fn records(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    let records = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    records.with_context(|| text.clone())
}

fn decisions(records: &[Value]) -> Vec<&Value> {
    records
        .iter()
        .filter(|record| record["kind"] == "decision")
        .collect()
}

/// Every number is there once, or in a gap; how many records are missing.
fn accounted(records: &[Value]) -> Result<u64> {
    let mut expected = 1;
    let mut missing = 0;
    for record in records {
        if record["kind"] == "gap" {
            ensure!(
                record["first_seq"] == expected,
                "{record} where {expected} is next"
            );
            missing += record["dropped"].as_u64().unwrap_or_default();
            expected = record["last_seq"].as_u64().unwrap_or_default() + 1;
        }
        ensure!(record["seq"] == expected, "{record} where {expected} is next");
        expected += 1;
    }
    Ok(missing)
}

/// Holds the file against the documented schema, by a validator that is not ours.
async fn fits_the_schema(path: &Path) -> Result<u64> {
    let output = tools::python("json_schema.py")?
        .arg(tools::root().join("docs/audit.schema.json"))
        .arg(path)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text.trim().parse()?)
}

async fn policy(env: &Environment, args: &[&str]) -> Result<(bool, String)> {
    let mut command = tokio::process::Command::new(tools::server()?);
    let output = command
        .arg("policy")
        .args(args)
        .current_dir(env.folder())
        .output()
        .await?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((output.status.success(), text))
}

/// Ends the program softly and waits for it.
async fn end(env: &mut Environment) -> Result<()> {
    env.signal("TERM").await?;
    env.ended().await
}

fn file_of(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

#[tokio::test]
async fn every_decision_is_in_the_file_and_can_be_explained_and_replayed() -> Result<()> {
    let mut file = PathBuf::new();
    let mut stage = local_with(|builder| {
        file = file_of(builder.folder());
        builder.set("audit", json!([{"type": "file", "path": file}]))
    })
    .await?;
    let client = stage.env.client()?;
    let page = client.follow(&stage.env.url("app", "/")).await?;
    client
        .sign_in(&page, "developer@example.com", developer().password())
        .await?;
    ensure!(
        client
            .get(&stage.env.url("app", "/one?token=QUERY"))
            .await?
            .status
            == 200
    );
    // A host of its own: the sign-in there asks for nothing any more.
    let denied = client.follow(&stage.env.url("admin", "/two")).await?;
    ensure!(denied.status == 403);
    ensure!(client.get(&stage.env.url("open", "/three")).await?.status == 200);
    end(&mut stage.env).await?;

    let all = records(&file)?;
    ensure!(accounted(&all)? == 0);
    ensure!(all[0]["kind"] == "start" && all[all.len() - 1]["kind"] == "stop");
    ensure!(fits_the_schema(&file).await? == all.len() as u64);
    let came_to: Vec<(&str, &str)> = decisions(&all)
        .iter()
        .map(|record| {
            (
                record["path"].as_str().unwrap_or(""),
                record["outcome"].as_str().unwrap_or(""),
            )
        })
        .collect();
    for expected in [
        ("/", "login"),
        ("/one", "allow"),
        ("/two", "denied"),
        ("/three", "allow"),
    ] {
        ensure!(came_to.contains(&expected), "{expected:?} in {came_to:?}");
    }
    let refused = decisions(&all)
        .into_iter()
        .find(|record| record["path"] == "/two" && record["outcome"] == "denied")
        .context("no record")?;
    ensure!(refused["user"]["email"] == "developer@example.com", "{refused}");
    ensure!(refused["route"]["name"] == "admin");
    let id = refused["request_id"].as_str().context("no id")?;
    ensure!(denied.header("x-request-id") == Some(id));

    let (good, text) = policy(
        &stage.env,
        &["explain", "--request", id, "--config", "config.yaml"],
    )
    .await?;
    ensure!(good && text.contains("outcome: denied 403"), "{text}");
    ensure!(
        text.contains("claim/groups: {\"has\":\"admins\"}; found [\"staff\"]; claim-unauthorized"),
        "{text}"
    );
    ensure!(text.contains("with this configuration: the same"), "{text}");
    let log = file.to_string_lossy().into_owned();
    let (good, text) = policy(&stage.env, &["replay", &log, "--config", "config.yaml"]).await?;
    ensure!(good && text.contains(" 0 differ, 0 cannot be judged"), "{text}");
    // A configuration under which one differs, and one that looks at something that was not logged.
    let mut config = stage.env.config().clone();
    config["routes"][1]["policy"] = json!([{"allow": {"or": [{"claim/groups": {"has": "staff"}}]}}]);
    config["routes"][0]["policy"] = json!([{"allow": {"or": [{"claim/department": "north"}]}}]);
    config["routes"][0]["allow_any_authenticated_user"] = json!(false);
    std::fs::write(stage.env.folder().join("next.json"), config.to_string())?;
    let (good, text) = policy(&stage.env, &["replay", &log, "--config", "next.json"]).await?;
    ensure!(
        !good
            && text.contains("denied 403 -> allow (policy[0].allow.or: policy[0].allow.or[0] claim/groups)"),
        "{text}"
    );
    ensure!(
        text.contains("cannot judge: the log does not hold the claim department"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn only_refusals_without_inputs_when_asked_so() -> Result<()> {
    let mut file = PathBuf::new();
    let mut stage = local_with(|builder| {
        file = file_of(builder.folder());
        builder.set(
            "audit",
            json!([{"type": "file", "path": file, "decisions": "denied", "inputs": false}]),
        )
    })
    .await?;
    let client = stage.env.client()?;
    client.get(&stage.env.url("open", "/open")).await?;
    client.get(&stage.env.url("app", "/closed")).await?;
    end(&mut stage.env).await?;
    let all = records(&file)?;
    let seen = decisions(&all);
    ensure!(
        seen.len() == 1 && seen[0]["path"] == "/closed" && seen[0]["inputs"].is_null(),
        "{seen:?}"
    );
    ensure!(
        seen[0]["criteria"] == json!(["allow_any_authenticated_user authenticated_user"]),
        "{}",
        seen[0]
    );
    fits_the_schema(&file).await?;
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_dead_slow_or_mad_gets_everything_once_it_is_well() -> Result<()> {
    let upstream = Upstream::start().await?;
    let collector = Collector::start(Mood::Silent).await?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .set(
            "audit",
            json!([{
                "type": "http", "url": collector.url(), "headers": {"X-Key": "THE-KEY"},
                "batch_interval": "10ms", "timeout": "300ms",
            }]),
        )
        .start()
        .await?;
    let client = env.client()?;
    let moods = [
        Mood::Silent,
        Mood::Garbage,
        Mood::Refuse(500),
        Mood::Refuse(401),
        Mood::Refuse(302),
        Mood::Refuse(413),
    ];
    let mut attempts = 0;
    for (index, mood) in moods.into_iter().enumerate() {
        collector.be(mood);
        for number in 0..5 {
            // Nobody waits for the receiver.
            let reply = client
                .get(&env.url("open", &format!("/{index}/{number}")))
                .await?;
            ensure!(reply.status == 200);
        }
        attempts += 1;
        collector.wait_for_attempts(attempts).await?;
    }
    collector.be(Mood::Take);
    let all = collector
        .wait("all records", |records| {
            decisions(records).len() + lost(records) >= 30
        })
        .await?;
    ensure!(all.iter().all(|record| !record.is_null()));
    let head = &collector.heads()[0];
    ensure!(
        head.contains("THE-KEY") && head.contains("application/x-ndjson"),
        "{head}"
    );
    end(&mut env).await?;
    let all = collector.records();
    ensure!(
        all[all.len() - 1]["kind"] == "stop",
        "what waited at the end was sent"
    );
    let log = env.log().all().join("\n");
    ensure!(log.contains("audit: records cannot be passed on"), "{log}");
    ensure!(!log.contains("THE-KEY"));
    Ok(())
}

fn lost(records: &[Value]) -> usize {
    let gaps = records.iter().filter(|record| record["kind"] == "gap");
    gaps.filter_map(|gap| gap["dropped"].as_u64())
        .sum::<u64>()
        .try_into()
        .unwrap_or(usize::MAX)
}

#[tokio::test]
async fn what_finds_no_room_is_counted_logged_and_marked() -> Result<()> {
    let upstream = Upstream::start().await?;
    let collector = Collector::start(Mood::Refuse(503)).await?;
    let metrics = lease()?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .set("metrics_address", format!("127.0.0.1:{}", metrics.number()))
        .set(
            "audit",
            json!([{"type": "http", "url": collector.url(), "batch_interval": "10ms", "queue_bytes": 65536}]),
        )
        .start()
        .await?;
    let client = env.client()?;
    let mut asked = 0;
    while !env
        .log()
        .all()
        .iter()
        .any(|line| line.contains("records are left out"))
    {
        ensure!(asked < 2000, "nothing was left out");
        let reply = client.get(&env.url("open", &format!("/{asked}"))).await?;
        ensure!(reply.status == 200);
        asked += 1;
    }
    collector.be(Mood::Take);
    // One more, behind the gap.
    client.get(&env.url("open", "/last")).await?;
    end(&mut env).await?;
    let all = collector.records();
    let missing = accounted(&all)?;
    ensure!(
        missing > 0 && decisions(&all).len() as u64 + missing == asked + 1,
        "{missing} of {asked}"
    );
    ensure!(all[all.len() - 1]["dropped"] == missing);
    Ok(())
}

#[tokio::test]
async fn a_program_that_is_killed_leaves_whole_lines_and_a_stream_without_an_end() -> Result<()> {
    let upstream = Upstream::start().await?;
    let builder = Environment::builder()?;
    let file = file_of(builder.folder());
    let mut env = builder
        .route(Route::new("open", &upstream.url()).public())
        .set(
            "audit",
            json!([{"type": "file", "path": file, "fsync": "always"}]),
        )
        .start()
        .await?;
    let client = env.client()?;
    let url = env.url("open", "/load");
    let load = tokio::spawn(async move { while client.get(&url).await.is_ok() {} });
    within("records", async {
        while std::fs::metadata(&file).map_or(0, |data| data.len()) < 50_000 {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    env.kill().await?;
    load.await?;
    let before = std::fs::read_to_string(&file)?;
    env.start_again().await?;
    env.client()?.get(&env.url("open", "/again")).await?;
    end(&mut env).await?;
    let after = std::fs::read_to_string(&file)?;
    ensure!(after.starts_with(&before));
    let mut first: Vec<Value> = Vec::new();
    let mut second: Vec<Value> = Vec::new();
    for line in after.lines() {
        // At most the last line of the first process is torn.
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            ensure!(second.is_empty() && before.ends_with(line), "{line}");
            continue;
        };
        if first
            .first()
            .is_none_or(|known| known["stream"] == record["stream"])
        {
            first.push(record);
        } else {
            second.push(record);
        }
    }
    ensure!(accounted(&first)? == 0 && accounted(&second)? == 0);
    ensure!(first.iter().all(|record| record["kind"] != "stop"));
    let kinds: Vec<&Value> = second.iter().map(|record| &record["kind"]).collect();
    ensure!(kinds == ["start", "decision", "stop"], "{kinds:?}");
    Ok(())
}

#[tokio::test]
async fn a_rotated_file_and_a_reload_lose_nothing() -> Result<()> {
    let upstream = Upstream::start().await?;
    let builder = Environment::builder()?;
    let file = file_of(builder.folder());
    let mut env = builder
        .route(Route::new("open", &upstream.url()).public())
        .set("audit", json!([{"type": "file", "path": file}]))
        .start()
        .await?;
    let client = env.client()?;
    client.get(&env.url("open", "/one")).await?;
    let moved = env.folder().join("audit.log.moved");
    std::fs::rename(&file, &moved)?;
    client.get(&env.url("open", "/two")).await?;
    // Another file: the stream of the first one ends, another begins.
    let other = env.folder().join("other.log");
    let mark = env.log().mark();
    env.rewrite_config(|config| config["audit"][0]["path"] = json!(other))?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    client.get(&env.url("open", "/three")).await?;
    // What cannot be opened is refused, and the stream goes on.
    let mark = env.log().mark();
    env.rewrite_config(|config| config["audit"][0]["path"] = json!("/nowhere/at/all.log"))?;
    env.log()
        .wait_from(mark, "the refusal", |line| {
            line.contains("/nowhere/at/all.log cannot be written")
        })
        .await?;
    client.get(&env.url("open", "/four")).await?;
    end(&mut env).await?;
    let mut all = if moved.exists() {
        records(&moved)?
    } else {
        Vec::new()
    };
    all.extend(records(&file)?);
    ensure!(accounted(&all)? == 0);
    let paths = |records: &[Value]| -> Vec<String> {
        let paths = decisions(records)
            .into_iter()
            .map(|record| record["path"].as_str().unwrap_or("").to_owned());
        paths.collect()
    };
    ensure!(paths(&all) == ["/one", "/two"], "{all:?}");
    ensure!(all[all.len() - 1]["kind"] == "stop");
    let rest = records(&other)?;
    ensure!(
        accounted(&rest)? == 0 && paths(&rest) == ["/three", "/four"],
        "{rest:?}"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_is_called_allowed_that_could_not_be_sent_on() -> Result<()> {
    let mut file = PathBuf::new();
    let upstream = Upstream::start().await?;
    let kubernetes = |name: &str| Route::new(name, &upstream.url()).any_user();
    let mut stage = scripted_with(|builder| {
        file = file_of(builder.folder());
        let nowhere = builder.folder().join("no-token");
        let path = nowhere.to_string_lossy().into_owned();
        builder
            .set("audit", json!([{"type": "file", "path": file}]))
            .route(kubernetes("tokenless").set("kubernetes_service_account_token_file", path))
            .route(kubernetes("nameless").set("kubernetes_service_account_token", "the-token"))
    })
    .await?;
    stage.idp.script(|script| {
        script.claims["sub"] = "system:admin".into();
        script.claims["email"] = "".into();
    });
    let client = stage.signed_in().await?;
    for (host, status) in [("tokenless", 503), ("nameless", 403)] {
        let reply = client.follow(&stage.env.url(host, "/api")).await?;
        ensure!(reply.status == status, "{host}: {}", reply.status);
    }
    ensure!(upstream.requests().is_empty());
    end(&mut stage.env).await?;
    let all = records(&file)?;
    fits_the_schema(&file).await?;
    for (host, status, word) in [("tokenless", 503, "no token"), ("nameless", 403, "no name")] {
        let of_host: Vec<&Value> = decisions(&all)
            .into_iter()
            .filter(|record| record["route"]["name"] == host && record["outcome"] != "login")
            .collect();
        let [record] = of_host[..] else {
            anyhow::bail!("{host}: {of_host:?}")
        };
        ensure!(
            record["outcome"] == "error" && record["status"] == status,
            "{record}"
        );
        ensure!(
            record["problem"]
                .as_str()
                .is_some_and(|problem| problem.contains(word)),
            "{record}"
        );
        ensure!(record["user"]["id"] == "system:admin", "{record}");
    }
    Ok(())
}

#[tokio::test]
async fn decisions_for_other_proxies_are_in_the_stream() -> Result<()> {
    let mut file = PathBuf::new();
    let mut stage = DecisionStage::start_with(|builder| {
        file = file_of(builder.folder());
        builder.set("audit", json!([{"type": "file", "path": file}]))
    })
    .await?;
    let (app, admin, cookie) = (stage.host("app"), stage.host("admin"), stage.cookie.clone());
    for host in [&app, &admin] {
        let asked = [
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-Uri", "/forward-auth-page"),
            ("Cookie", &cookie),
        ];
        stage.ask("/forward-auth", &asked).await?;
        stage
            .check(&question(host, b"/ext-authz-page", &[("cookie", &cookie)]))
            .await?;
    }
    end(&mut stage.stage.env).await?;
    let all = records(&file)?;
    ensure!(accounted(&all)? == 0);
    fits_the_schema(&file).await?;
    for path in ["/forward-auth-page", "/ext-authz-page"] {
        for (route, outcome) in [("app", "allow"), ("admin", "denied")] {
            let found = decisions(&all).into_iter().filter(|record| {
                record["path"] == path && record["route"]["name"] == route && record["outcome"] == outcome
            });
            ensure!(found.count() == 1, "{path} of {route}: {all:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn impersonation_is_in_the_stream_even_without_decisions() -> Result<()> {
    let mut file = PathBuf::new();
    let mut stage = scripted_with(|builder| {
        file = file_of(builder.folder());
        builder.set(
            "audit",
            json!([{"type": "file", "path": file, "decisions": "denied"}]),
        )
    })
    .await?;
    let (_other, target) = signed_in_as(&stage, "member").await?;
    let (_client, own) = signed_in_as(&stage, "helpdesk").await?;
    let begin = [
        "impersonate",
        "--session",
        &own,
        "--as-session",
        &target,
        "--reason",
        "ticket 4711",
    ];
    ensure!(session(&stage.env, &begin).await?.0.success());
    ensure!(
        session(&stage.env, &["impersonate", "--session", &own, "--end"])
            .await?
            .0
            .success()
    );
    end(&mut stage.env).await?;
    let all = records(&file)?;
    ensure!(accounted(&all)? == 0);
    fits_the_schema(&file).await?;
    let told: Vec<&Value> = all
        .iter()
        .filter(|record| record["kind"] == "impersonation")
        .collect();
    ensure!(told.len() == 2, "{all:?}");
    for (record, action, reason) in [(told[0], "began", "ticket 4711"), (told[1], "ended", "")] {
        ensure!(
            record["action"] == action && record["reason"] == reason,
            "{record}"
        );
        ensure!(record["session"]["id"] == own.as_str(), "{record}");
        ensure!(record["session"]["email"] == "helpdesk@example.com", "{record}");
        ensure!(record["target"]["id"] == target.as_str(), "{record}");
        ensure!(record["by"]["uid"].is_u64(), "{record}");
    }
    Ok(())
}
