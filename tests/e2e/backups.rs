//! `pomerium databroker backup`, `restore` and `check`, as commands beside a databroker that runs and one that does not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pomerium_api::databroker::{Databroker, Error, Record};
use pomerium_api::records::struct_record;
use pomerium_testing::{Environment, EnvironmentBuilder, Port, Postgres, Program, lease, tools, within};
use pomerium_tests::services::tool;
use serde_json::json;
use tokio::process::Command;

const KIND: &str = "example.com/Cat";

fn cat(id: &str) -> Record {
    struct_record(KIND, id, &json!({ "name": id }))
}

/// A databroker that tools can ask, with a folder for backups.
struct Stage {
    env: Environment,
    port: Port,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn start(change: impl FnOnce(EnvironmentBuilder) -> EnvironmentBuilder) -> Result<Stage> {
        let port = lease()?;
        let builder = Environment::builder()?
            .set("grpc_address", format!("127.0.0.1:{}", port.number()))
            .set("grpc_insecure", true);
        Ok(Stage {
            env: change(builder).start().await?,
            port,
            folder: tempfile::tempdir()?,
        })
    }

    async fn put(&self, ids: &[&str]) -> Result<()> {
        let broker = tool(([127, 0, 0, 1], self.port.number()).into())?;
        broker.put(ids.iter().map(|id| cat(id)).collect()).await?;
        Ok(())
    }

    /// The record, if it is there.
    async fn has(&self, id: &str) -> Result<bool> {
        let broker = tool(([127, 0, 0, 1], self.port.number()).into())?;
        Ok(broker.get(KIND, id).await.is_ok())
    }

    async fn stop(&mut self) -> Result<()> {
        self.env.signal("TERM").await?;
        self.env.ended().await
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn store(&self) -> PathBuf {
        self.env.folder().join("data/databroker")
    }

    /// Runs a command, which must succeed; what it says.
    async fn done(&self, args: &[&str]) -> Result<String> {
        let (done, said) = run(&self.env, args).await?;
        ensure!(done, "{args:?}: {said}");
        Ok(said)
    }

    /// Runs a command, which must fail and say why.
    async fn refused(&self, args: &[&str], why: &str) -> Result<()> {
        let (done, said) = run(&self.env, args).await?;
        ensure!(!done && said.contains(why), "{args:?}, {why}: {said}");
        Ok(())
    }
}

async fn run(env: &Environment, args: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(tools::server()?);
    command
        .arg("databroker")
        .args(args)
        .arg("--config")
        .arg(env.folder().join("config.yaml"));
    let mut program = Program::start(command)?;
    let status = program.wait().await?;
    ensure!(status.code().is_some_and(|code| code < 2), "{status}");
    Ok((status.success(), program.output().tail(40)))
}

fn counts(said: &str, count: usize) -> bool {
    let line = format!("{count:>10}  {KIND}");
    said.lines().any(|found| found == line)
}

/// Changes one byte of a file, which may be in use.
fn damage(file: &Path, at: usize) -> Result<()> {
    let file = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64)?;
    Ok(file.write_all_at(&[byte[0] ^ 0x20], at as u64)?)
}

#[tokio::test]
async fn a_file_store_in_use_is_asked_for_through_its_listener() -> Result<()> {
    let stage = Stage::start(|builder| builder).await?;
    stage.put(&["tom", "kim"]).await?;
    let monday = stage.file("monday");
    let said = stage.done(&["backup", &monday]).await?;
    ensure!(counts(&said, 2), "{said}");
    let said = stage.done(&["check", &monday]).await?;
    ensure!(counts(&said, 2) && said.contains("can be restored"), "{said}");
    // What exists is never overwritten.
    let before = fs::read(&monday)?;
    stage.refused(&["backup", &monday], "exists").await?;
    ensure!(fs::read(&monday)? == before);
    // Of one that runs somewhere.
    let url = format!("http://127.0.0.1:{}", stage.port.number());
    stage.put(&["liz"]).await?;
    let said = stage
        .done(&["backup", &stage.file("tuesday"), "--from", &url])
        .await?;
    ensure!(counts(&said, 3), "{said}");
    let nobody = lease()?;
    let nowhere = format!("http://127.0.0.1:{}", nobody.number());
    let wednesday = stage.file("wednesday");
    stage
        .refused(&["backup", &wednesday, "--from", &nowhere], &nowhere)
        .await?;
    ensure!(
        !Path::new(&wednesday).exists(),
        "it gets its name when it is whole"
    );
    // The store itself must not be in use.
    stage.refused(&["check"], "in use").await?;
    stage.refused(&["restore", &monday], "in use").await
}

#[tokio::test]
async fn a_store_in_use_by_one_that_cannot_be_asked_says_what_to_do() -> Result<()> {
    let stage = Stage::start(|builder| builder.set("grpc_address", "").set("grpc_insecure", "")).await?;
    stage
        .refused(&["backup", &stage.file("monday")], "set grpc_address")
        .await
}

#[tokio::test]
async fn a_backup_is_restored_into_a_store_without_records_and_served() -> Result<()> {
    let mut stage = Stage::start(|builder| builder).await?;
    stage.put(&["tom", "kim"]).await?;
    stage.stop().await?;
    let monday = stage.file("monday");
    stage.done(&["backup", &monday]).await?;
    let said = stage.done(&["check"]).await?;
    ensure!(counts(&said, 2), "{said}");
    stage.refused(&["restore", &monday], "records").await?;
    // Beside it.
    let other = stage.file("other");
    stage.done(&["restore", &monday, "--into", &other]).await?;
    ensure!(Path::new(&other).join("databroker.lock").exists());
    // In its place.
    fs::rename(stage.store(), stage.folder.path().join("away"))?;
    stage.refused(&["check"], "no store").await?;
    stage.done(&["restore", &monday]).await?;
    stage.env.start_again().await?;
    ensure!(stage.has("tom").await? && stage.has("kim").await?);
    Ok(())
}

/// Whatever is no place for records is refused, instead of becoming a folder of that name.
#[tokio::test]
async fn a_restore_goes_where_it_is_told_or_nowhere() -> Result<()> {
    let mut stage = Stage::start(|builder| builder).await?;
    stage.put(&["tom"]).await?;
    stage.stop().await?;
    let monday = stage.file("monday");
    stage.done(&["backup", &monday]).await?;
    let here = tempfile::tempdir()?;
    let restore = |into: &str| {
        let mut command = Command::new(tools::server()?);
        command
            .args(["databroker", "restore", &monday, "--into", into, "--config"])
            .arg(stage.env.folder().join("config.yaml"))
            .current_dir(here.path());
        anyhow::Ok(command)
    };
    for (into, why) in [
        ("", "empty"),
        ("memory://", "memory"),
        ("mysql://u:hunter2@127.0.0.1/x", "mysql://"),
        ("POSTGRES://u:hunter2@127.0.0.1:1/x", "PostgreSQL at 127.0.0.1:1"),
        (
            "host=127.0.0.1 port=1 user=x password=hunter2",
            "PostgreSQL at 127.0.0.1:1",
        ),
        ("hunter2=x", "neither a folder"),
        ("folder", "neither a folder"),
    ] {
        let output = restore(into)?.output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(why), "{into}: {said}");
        ensure!(!said.contains("hunter2"), "{said}");
        ensure!(
            fs::read_dir(here.path())?.next().is_none(),
            "{into} left something"
        );
    }
    for (into, made) in [
        (format!("file://{}/url", here.path().display()), "url"),
        ("./relative".to_owned(), "relative"),
    ] {
        ensure!(restore(&into)?.output().await?.status.success(), "{into}");
        ensure!(here.path().join(made).join("databroker.lock").exists(), "{into}");
    }
    Ok(())
}

#[tokio::test]
async fn records_in_memory_are_asked_for_and_cannot_be_promoted() -> Result<()> {
    let stage = Stage::start(|builder| builder.set("databroker_storage_type", "memory")).await?;
    stage.put(&["tom"]).await?;
    let said = stage.done(&["backup", &stage.file("monday")]).await?;
    ensure!(counts(&said, 1), "{said}");
    stage.refused(&["promote"], "keeps its copy in files").await?;
    stage.refused(&["check"], "take a backup").await?;
    stage.refused(&["restore", &stage.file("monday")], "--into").await
}

#[tokio::test]
async fn a_backup_can_have_a_secret_of_its_own() -> Result<()> {
    let mut stage = Stage::start(|builder| builder).await?;
    stage.put(&["tom"]).await?;
    stage.stop().await?;
    let (monday, secret) = (stage.file("monday"), stage.file("secret"));
    fs::write(&secret, "YSBzZWNyZXQgZm9yIGJhY2t1cHMsIDMyIGJ5dGVzIC4=\n")?;
    stage.done(&["backup", &monday, "--secret-file", &secret]).await?;
    stage.refused(&["check", &monday], "secret").await?;
    let other = stage.file("other");
    stage
        .refused(&["restore", &monday, "--into", &other], "secret")
        .await?;
    ensure!(!Path::new(&other).exists(), "refused before anything is written");
    stage.done(&["check", &monday, "--secret-file", &secret]).await?;
    stage
        .done(&["restore", &monday, "--into", &other, "--secret-file", &secret])
        .await?;
    fs::write(&secret, "short")?;
    stage
        .refused(&["check", &monday, "--secret-file", &secret], "32 bytes")
        .await
}

#[tokio::test]
async fn damage_is_told_and_nothing_damaged_is_restored() -> Result<()> {
    let mut stage = Stage::start(|builder| builder).await?;
    stage.put(&["tom"]).await?;
    stage.put(&["kim", "liz"]).await?;
    stage.stop().await?;
    let monday = stage.file("monday");
    stage.done(&["backup", &monday]).await?;
    let (short, changed, other) = (stage.file("short"), stage.file("changed"), stage.file("other"));
    let whole = fs::read(&monday)?;
    fs::write(&short, &whole[..whole.len() - 1])?;
    fs::write(&changed, &whole)?;
    damage(Path::new(&changed), whole.len() / 2)?;
    for broken in [&short, &changed] {
        stage.refused(&["check", broken], broken).await?;
        stage
            .refused(&["restore", broken, "--into", &other], broken)
            .await?;
    }
    ensure!(!Path::new(&other).exists(), "refused before anything is written");
    // The store itself.
    let mut segments: Vec<PathBuf> = fs::read_dir(stage.store())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "records"))
        .collect();
    segments.sort();
    let segment = segments.first().context("a segment")?;
    // Types are not sealed, so that the first of the records can be found.
    let bytes = fs::read(segment)?;
    let record = bytes
        .windows(KIND.len())
        .position(|bytes| bytes == KIND.as_bytes());
    damage(segment, record.context("a record")?)?;
    let name = segment
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();
    stage.refused(&["check"], &name).await
}

/// A backup holds what can be read, and says loudly what it lacks; the process goes on, and shows it.
#[tokio::test]
async fn a_backup_without_a_damaged_record_is_written_and_ends_with_an_error() -> Result<()> {
    let mut stage = Stage::start(|builder| builder).await?;
    stage.put(&["tom", "kim"]).await?;
    let segment = stage.store().join("databroker.0000000001.records");
    let bytes = fs::read(&segment)?;
    // Ids are not sealed; behind that of the record comes its value.
    let id = [&3_u32.to_le_bytes()[..], b"tom"].concat();
    let tom = bytes.windows(id.len()).position(|found| found == id);
    damage(&segment, tom.context("the record")? + 40)?;
    let why = format!("left out, it could not be read: record tom of {KIND}");
    let monday = stage.file("monday");
    stage.refused(&["backup", &monday], &why).await?;
    let said = stage.done(&["check", &monday]).await?;
    ensure!(counts(&said, 1) && said.contains(&why), "{said}");
    let url = format!("http://127.0.0.1:{}", stage.port.number());
    let tuesday = stage.file("tuesday");
    stage.refused(&["backup", &tuesday, "--from", &url], &why).await?;
    shown(&stage, "records that cannot be read: 1, among them tom").await?;
    // Its key is enough to delete it.
    let broker = tool(([127, 0, 0, 1], stage.port.number()).into())?;
    let damaged = broker.get(KIND, "tom").await;
    ensure!(matches!(damaged, Err(Error::Damaged(_))), "{damaged:?}");
    let deletion = Record {
        deleted_at: Some(prost_types::Timestamp::default()),
        ..cat("tom")
    };
    broker.put(vec![deletion]).await?;
    let said = stage.done(&["backup", &stage.file("wednesday")]).await?;
    ensure!(counts(&said, 1) && !said.contains("left out"), "{said}");
    stage.stop().await
}

/// Waits until `/readyz` shows a text, and passes all the while.
async fn shown(stage: &Stage, text: &str) -> Result<()> {
    let client = stage.env.client()?;
    within(text, async {
        loop {
            let answer = client.get(&stage.env.health_url("/readyz")).await?;
            ensure!(answer.status == 200, "{}", answer.text());
            if answer.text().contains(text) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?
}

#[tokio::test]
async fn postgresql_is_backed_up_checked_and_restored_beside_a_databroker_that_runs() -> Result<()> {
    let (first, second) = (Postgres::start()?, Postgres::start()?);
    let over = |connection: &str| {
        let connection = connection.to_owned();
        move |builder: EnvironmentBuilder| {
            builder
                .set("databroker_storage_type", "postgres")
                .set("databroker_storage_connection_string", connection)
        }
    };
    let stage = Stage::start(over(&first.connection("postgres"))).await?;
    stage.put(&["tom", "kim"]).await?;
    let monday = stage.file("monday");
    let said = stage.done(&["backup", &monday]).await?;
    ensure!(counts(&said, 2), "{said}");
    let said = stage.done(&["check"]).await?;
    ensure!(counts(&said, 2), "{said}");
    stage.refused(&["restore", &monday], "records").await?;
    let into = second.connection("postgres");
    stage.done(&["restore", &monday, "--into", &into]).await?;
    let restored = Stage::start(over(&into)).await?;
    ensure!(restored.has("tom").await? && restored.has("kim").await?);
    // And from there into files.
    let files = stage.file("files");
    let tuesday = restored.file("tuesday");
    restored.done(&["backup", &tuesday]).await?;
    restored.done(&["restore", &tuesday, "--into", &files]).await?;
    Ok(())
}
