//! `pomerium databroker`: backups, checks, the promotion of a standby, certificates of tools. `store` finds what they work on.

pub mod args;
mod certificate;
pub(super) mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_config::settings::Settings;
use pomerium_crypto::{encoding, kdf};
use pomerium_databroker::backup::{self, PURPOSE, Summary};
use pomerium_databroker::cluster::PromoteError;
use pomerium_databroker::store::{Store, Write, Written};

use self::args::{BackupArgs, CheckArgs, DatabrokerCommand, PromoteArgs, RestoreArgs, Secret};
use self::store::{Opened, settings};
use super::print;

/// What to do instead of checking what is in memory.
const UNCHECKED: &str = "take a backup of it (`pomerium databroker backup`) and check that";
/// What to do instead of promoting it.
const UNPROMOTED: &str = "a standby keeps its copy in files: set `databroker_storage_type: file`, let it copy its leader, then promote it";

/// Runs one of them.
pub fn run(command: &DatabrokerCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            DatabrokerCommand::Backup(args) => Box::pin(make(args)).await,
            DatabrokerCommand::Restore(args) => Box::pin(restore(args)).await,
            DatabrokerCommand::Check(args) => Box::pin(check(args)).await,
            DatabrokerCommand::Certificate(args) => certificate::write(args),
            DatabrokerCommand::Promote(args) => Box::pin(promote(args)).await,
        }
    })
}

async fn make(args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.which)?;
    let keys = keys(&args.secret, &settings)?;
    let key = keys
        .first()
        .context("there is no secret to seal the backup with")?;
    let broker = store::databroker(&settings, args.from.as_deref()).await?;
    let summary = backup::write(&*broker, &args.file, key, SystemClock.now()).await?;
    print(&format!("{} is written", args.file.display()));
    tell(&summary);
    Ok(match summary.left_out.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn restore(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.which)?;
    let checked = backup::check(&args.file, &keys(&args.secret, &settings)?)?;
    let now = SystemClock.now();
    match store::target(&settings, args.into.as_deref()).await? {
        Opened::File(store) => checked.restore(&store, now).await?,
        Opened::Postgres(store) => checked.restore(&store, now).await?,
    }
    print(&format!("{} is restored", args.file.display()));
    tell(checked.summary());
    Ok(ExitCode::SUCCESS)
}

async fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.which)?;
    if let Some(file) = &args.file {
        let checked = backup::check(file, &keys(&args.secret, &settings)?)?;
        print(&format!("{} can be restored", file.display()));
        tell(checked.summary());
        return Ok(ExitCode::SUCCESS);
    }
    let (whole, inventory) = match store::existing(&settings, UNCHECKED).await? {
        Opened::File(store) => (store.check()?, store.inspect().await?),
        Opened::Postgres(store) => (true, store.inspect().await?),
    };
    if !whole {
        print("checksums of the file did not hold; what could be was put right");
    }
    for problem in &inventory.unreadable {
        print(&format!("unreadable: {problem}"));
    }
    print_counts(&inventory.records);
    print(&format!("changes remembered: {}", inventory.changes));
    Ok(match whole && inventory.unreadable.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn promote(args: &PromoteArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.which)?;
    if let Some(leader) = store::leader(&settings).filter(|_| !args.force)
        && store::answers(&settings, leader).await?
    {
        bail!(PromoteError::LeaderAnswers(leader.url()));
    }
    let now = SystemClock.now();
    let written = match store::existing(&settings, UNPROMOTED).await? {
        Opened::File(store) => store.write(Write::Promote, now).await,
        Opened::Postgres(store) => store.write(Write::Promote, now).await,
    };
    let Written::Cleared(cleared) = written.context("the store cannot be promoted")? else {
        bail!("the store answered another question");
    };
    print(&format!(
        "promoted: database {:016x} goes on as {:016x}; name this node in databroker_cluster_leader_id of every node, \
         then start it",
        cleared.old, cleared.new
    ));
    Ok(ExitCode::SUCCESS)
}

/// The keys of backups: the first seals, each of them opens.
fn keys(secret: &Secret, settings: &Settings) -> anyhow::Result<Vec<[u8; 32]>> {
    let secrets = match &secret.secret_file {
        Some(file) => vec![read_secret(file)?],
        None => settings
            .at_rest
            .iter()
            .map(|key| crate::server::core::secret(key.expose(), "databroker_encryption_keys"))
            .collect::<anyhow::Result<_>>()?,
    };
    Ok(secrets
        .iter()
        .map(|secret| kdf::derive(secret, PURPOSE))
        .collect())
}

fn read_secret(file: &Path) -> anyhow::Result<[u8; 32]> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let bytes = encoding::base64_decode(text.trim()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("{} must hold the base64 of 32 bytes", file.display()))
}

fn tell(summary: &Summary) {
    print(&format!(
        "of {}, at version {} of database {:016x}",
        summary.created, summary.versions.latest_record_version, summary.versions.server_version
    ));
    print_counts(&summary.records);
    for (record_type, id) in &summary.left_out {
        print(&format!(
            "left out, it could not be read: record {id} of {record_type}"
        ));
    }
    if !summary.left_out.is_empty() {
        print(
            "NOT COMPLETE: records are missing (at most 200 of them are named); look for them in an earlier backup",
        );
    }
}

fn print_counts(records: &BTreeMap<String, u64>) {
    for (record_type, count) in records {
        print(&format!("{count:>10}  {record_type}"));
    }
    print(&format!("{:>10}  records", records.values().sum::<u64>()));
}
