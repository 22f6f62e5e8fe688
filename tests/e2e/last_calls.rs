//! Calls to the databroker of a process that ends: each is answered, or was never made.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use pomerium_api::databroker::{Databroker, Latest, Record};
use pomerium_api::pb::databroker::SyncRequest;
use pomerium_api::pb::databroker::data_broker_service_client::DataBrokerServiceClient;
use pomerium_api::pb::grpc_health::HealthCheckRequest;
use pomerium_api::pb::grpc_health::health_check_response::ServingStatus;
use pomerium_api::pb::grpc_health::health_client::HealthClient;
use pomerium_testing::{Environment, lease, within};
use pomerium_tests::services::{channel, token, tool, with_token};
use prost_types::Any;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::upgrade::upgrade;

const KIND: &str = "example.com/note";
const WRITERS: usize = 8;

/// A databroker on its own, and where it listens for others.
async fn databroker() -> Result<(Environment, SocketAddr)> {
    let port = lease()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let env = Environment::builder()?
        .set("services", "databroker")
        .set("grpc_address", address.to_string())
        .set("grpc_insecure", true)
        .start()
        .await?;
    Ok((env, address))
}

fn note(id: &str) -> Record {
    Record {
        r#type: KIND.into(),
        id: id.into(),
        data: Some(Any {
            type_url: KIND.into(),
            value: vec![b'x'; 2000],
        }),
        ..Record::default()
    }
}

/// What came of the calls of a writer.
#[derive(Default)]
struct Written {
    answered: BTreeSet<String>,
    failed: BTreeSet<String>,
}

/// Writers, until told to stop or, if they are not `patient`, until one of their calls fails.
struct Writers {
    tasks: Vec<tokio::task::JoinHandle<Result<Written>>>,
    answered: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Writers {
    fn start(address: SocketAddr, patient: bool) -> Self {
        let (answered, stop) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
        let tasks = (0..WRITERS).map(|writer| {
            let (answered, stop) = (Arc::clone(&answered), stop.clone());
            tokio::spawn(write(address, writer, patient, answered, stop))
        });
        Self {
            tasks: tasks.collect(),
            answered,
            stop,
        }
    }

    /// Waits for so many answers more.
    async fn more(&self, count: usize) -> Result<()> {
        let before = self.answered.load(Ordering::Relaxed);
        within("more answers", async {
            while self.answered.load(Ordering::Relaxed) < before + count {
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    async fn done(self) -> Result<Written> {
        let mut all = Written::default();
        for task in self.tasks {
            let written = within("a writer", task).await???;
            all.answered.extend(written.answered);
            all.failed.extend(written.failed);
        }
        Ok(all)
    }
}

async fn write(
    address: SocketAddr,
    writer: usize,
    patient: bool,
    answered: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Result<Written> {
    let tool = tool(address)?;
    let mut written = Written::default();
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let id = format!("{writer}-{number}");
        match tool.put(vec![note(&id)]).await {
            Ok(_) => {
                answered.fetch_add(1, Ordering::Relaxed);
                written.answered.insert(id);
            }
            Err(_) => {
                written.failed.insert(id);
                if !patient {
                    break;
                }
            }
        }
    }
    Ok(written)
}

/// The ids of what is there.
async fn there(address: SocketAddr) -> Result<BTreeSet<String>> {
    let tool = tool(address)?;
    let mut latest = tool.sync_latest(KIND).await?;
    let mut ids = BTreeSet::new();
    while let Some(message) = latest.next().await {
        if let Latest::Record(record) = message? {
            ids.insert(record.id);
        }
    }
    Ok(ids)
}

fn compare(written: &Written, there: &BTreeSet<String>) -> Result<()> {
    let lost: Vec<_> = written.answered.difference(there).collect();
    ensure!(lost.is_empty(), "answered and not there: {lost:?}");
    let half: Vec<_> = written.failed.intersection(there).collect();
    ensure!(half.is_empty(), "failed and there: {half:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_it_has_done() -> Result<()> {
    let (mut env, address) = databroker().await?;
    let writers = Writers::start(address, false);
    writers.more(200).await?;
    env.signal("TERM").await?;
    within("the end of the program", env.ended()).await??;
    let written = writers.done().await?;
    env.start_again().await?;
    compare(&written, &there(address).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_answers_what_it_has_done() -> Result<()> {
    let (env, address) = databroker().await?;
    let writers = Writers::start(address, true);
    writers.more(200).await?;
    let _orphan = upgrade(&env).await?;
    writers.more(200).await?;
    writers.stop.cancel();
    let written = writers.done().await?;
    compare(&written, &there(address).await?)
}

#[tokio::test]
async fn streams_end_in_words_when_the_program_does() -> Result<()> {
    let (mut env, address) = databroker().await?;
    let mut health = HealthClient::new(channel(address)?);
    let watched = health.watch(HealthCheckRequest::default()).await?;
    let mut watched = watched.into_inner();
    let first = watched.message().await?.context("a state")?;
    assert_eq!(first.status(), ServingStatus::Serving);
    let versions = tool(address)?.versions().await?;
    let request = SyncRequest {
        server_version: versions.server_version,
        record_version: versions.latest_record_version,
        r#type: KIND.into(),
        ..SyncRequest::default()
    };
    let mut records = DataBrokerServiceClient::new(channel(address)?);
    let followed = records.sync(with_token(request, &token())?).await?;
    let mut followed = followed.into_inner();
    env.signal("TERM").await?;
    let last = within("the last state", watched.message()).await??;
    assert_eq!(last.context("a state")?.status(), ServingStatus::NotServing);
    let ended = within("the end of the state", watched.message()).await?;
    assert_eq!(ended.err().map(|status| status.code()), Some(Code::Unavailable));
    let ended = within("the end of the changes", followed.message()).await?;
    assert_eq!(ended.err().map(|status| status.code()), Some(Code::Unavailable));
    within("the end of the program", env.ended()).await??;
    Ok(())
}
