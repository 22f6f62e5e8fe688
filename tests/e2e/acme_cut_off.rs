//! Orders and reloads that do not come to their end: what was shown is taken back, and what is in force stays so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pomerium_api::clock::SystemClock;
use pomerium_certs::LoadedCertificate;
use pomerium_certs::acme::{Challenges, Dns, DnsExec, Keeper, Observer, Options, Plan};
use pomerium_certs::storage::{FolderStorage, Storage};
use pomerium_certs::web::WebClient;
use pomerium_testing::{
    Environment, EnvironmentBuilder, Pebble, PebbleOptions, lease, within, write_executable,
};
use pomerium_tests::apart::NAME as NAME_WITHIN;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::acme::{look, route, with};
use crate::acme_replicas::Seen;

const NAME: &str = "app.example.com";
/// An order that waits for so long does not end by itself while a test runs.
const LONG: Duration = Duration::from_secs(3600);

/// A program for records that tells of its calls.
struct Told {
    program: PathBuf,
    calls: Lines<BufReader<pipe::Receiver>>,
}

impl Told {
    fn in_folder(folder: &Path) -> Result<Self> {
        let pipe = folder.join("calls");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status()?;
        ensure!(made.success(), "no pipe");
        let program = folder.join("tell");
        let script = format!("#!/bin/sh\necho \"$@\" >{}\n", pipe.display());
        write_executable(&program, &script)?;
        let calls = pipe::OpenOptions::new().read_write(true).open_receiver(&pipe)?;
        Ok(Self {
            program,
            calls: BufReader::new(calls).lines(),
        })
    }

    async fn next(&mut self) -> Result<String> {
        let line = within("a call of the program", self.calls.next_line()).await??;
        line.context("the pipe has ended")
    }
}

/// A certificate from that authority, proven by a program.
fn plan(pebble: &Pebble, storage: &Arc<dyn Storage>, program: &Path, propagation: Duration) -> Result<Plan> {
    let dns = Dns::Exec(DnsExec {
        program: program.to_owned(),
        args: Vec::new(),
        timeout: Duration::from_secs(60),
        propagation,
    });
    let options = Options {
        directory: pebble.directory(),
        email: "ops@example.com".into(),
        external_account: None,
        must_staple: false,
        names: vec![NAME.into()],
        dns: Some(dns),
        tls_challenge: false,
        http_challenge: false,
        storage: Arc::clone(storage),
        web: Arc::new(WebClient::new(pebble.authority_pem().as_bytes())?),
    };
    Ok(Plan {
        options: Some(Arc::new(options)),
        configured: Vec::new(),
    })
}

struct Running {
    seen: Arc<Seen>,
    plans: watch::Sender<Plan>,
    stop: CancellationToken,
    keeping: JoinHandle<()>,
}

async fn keep(plan: Plan) -> Running {
    let seen = Arc::<Seen>::default();
    let mut keeper = Keeper::new(
        Arc::new(SystemClock),
        Arc::<Challenges>::default(),
        Arc::clone(&seen) as Arc<dyn Observer>,
    );
    let plans = watch::Sender::new(plan.clone());
    let mut changes = plans.subscribe();
    changes.mark_unchanged();
    keeper.adopt(plan).await;
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(keeper.run(changes, stop.clone()));
    Running {
        seen,
        plans,
        stop,
        keeping,
    }
}

/// The call that takes back what `shown` has shown.
fn undone(shown: &str) -> Result<String> {
    let record = shown
        .strip_prefix("present _acme-challenge.app.example.com ")
        .with_context(|| format!("{shown:?}"))?;
    Ok(format!("cleanup _acme-challenge.app.example.com {record}"))
}

#[tokio::test]
async fn the_end_of_the_program_leaves_no_record_behind() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let pebble = Pebble::start(&PebbleOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let mut told = Told::in_folder(folder.path())?;
    let storage: Arc<dyn Storage> = Arc::new(FolderStorage::new(folder.path()));
    let running = keep(plan(&pebble, &storage, &told.program, LONG)?).await;
    let shown = told.next().await?;
    running.stop.cancel();
    assert_eq!(told.next().await?, undone(&shown)?);
    within("the keeper", running.keeping).await??;
    Ok(())
}

#[tokio::test]
async fn another_authority_begins_anew_and_nothing_of_the_former_stays() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let former = Pebble::start(&PebbleOptions::default()).await?;
    let next = Pebble::start(&PebbleOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let mut told = Told::in_folder(folder.path())?;
    let publish = folder.path().join("publish");
    write_executable(&publish, &next.record_script())?;
    let storage: Arc<dyn Storage> = Arc::new(FolderStorage::new(folder.path()));
    let running = keep(plan(&former, &storage, &told.program, LONG)?).await;
    let shown = told.next().await?;
    running
        .plans
        .send_replace(plan(&next, &storage, &publish, Duration::ZERO)?);
    assert_eq!(told.next().await?, undone(&shown)?);
    let mut served = running.seen.served.subscribe();
    let has_one = |served: &Vec<LoadedCertificate>| !served.is_empty();
    within("the certificate", served.wait_for(has_one)).await??;
    assert_eq!(running.seen.ordered.load(Ordering::Relaxed), 1);
    assert!(next.orders() >= 1);
    running.stop.cancel();
    within("the keeper", running.keeping).await??;
    Ok(())
}

/// The second proxy cannot prove the name; it has to hear of what the first obtains.
#[tokio::test]
async fn a_reload_that_fails_leaves_the_storage_in_force_alone() -> Result<()> {
    let (grpc, front) = (lease()?, Environment::builder()?);
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: front.port(),
        ..PebbleOptions::default()
    })
    .await?;
    let place = format!("127.0.0.1:{}", grpc.number());
    let databroker = Environment::builder()?
        .set("services", "databroker")
        .set("tls_derive", NAME_WITHIN)
        .set("grpc_address", place.as_str());
    let _databroker = databroker.start().await?;
    let proxy = |builder: EnvironmentBuilder| {
        with(builder, &pebble)
            .set("services", "proxy")
            .set("tls_derive", NAME_WITHIN)
            .set("override_certificate_name", NAME_WITHIN)
            .set("databroker_service_url", format!("https://{place}"))
            .route(route("app"))
    };
    let mut second = proxy(Environment::builder()?).start().await?;
    for name in [NAME, "auth.example.com"] {
        let failed = |line: &str| line.contains("could not be obtained") && line.contains(name);
        second.log().wait("a refused order", failed).await?;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let mark = second.log().mark();
    second.rewrite_config(|config| {
        config["autocert_storage"] = "folder".into();
        config["address"] = address.into();
    })?;
    let refused = |line: &str| line.contains("the previous configuration stays in force");
    second
        .log()
        .wait_from(mark, "the refused reload", refused)
        .await?;

    let _first = proxy(front).start().await?;
    let told = |line: &str| line.contains("another process has obtained") && line.contains(NAME);
    second.log().wait_from(mark, "the certificate", told).await?;
    assert!(look(&second, &pebble, NAME).await?.trusted);
    Ok(())
}
