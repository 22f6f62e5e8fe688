//! The store of the new process, as the old one uses it until it ends.
//!
//! Only what a request that is still under way may need: reading and writing single records. The old process
//! takes no new requests, so it does not follow changes any more: its streams stay silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, LeaseRequest, Options, Page, PutReply, Query, Record, RecordStream,
    ServerInfo, Service, Versions,
};
use pomerium_api::pb::databroker::{PatchRequest, ReleaseLeaseRequest, SetOptionsRequest};
use prost_types::FieldMask;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::channel::{self, Body, Failed, Key, Records};

/// Questions that may wait to be sent.
const QUEUE: usize = 64;

type Question = (Body, oneshot::Sender<Body>);

/// A databroker on the other end of the channel.
pub struct Relay {
    questions: mpsc::Sender<Question>,
}

impl Relay {
    /// Asks over this channel from now on, until either process ends.
    pub fn start(reader: OwnedReadHalf, writer: OwnedWriteHalf) -> Self {
        let (questions, asked) = mpsc::channel(QUEUE);
        tokio::spawn(carry(reader, writer, asked));
        Self { questions }
    }

    async fn ask(&self, question: Body) -> Result<Records, Error> {
        let gone = || Error::Unavailable("the process that took over has ended".into());
        let (reply, answer) = oneshot::channel();
        self.questions.send((question, reply)).await.map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())? {
            Body::Answer(records) => Ok(records),
            Body::Failed(Failed { not_found: true, .. }) => Err(Error::NotFound),
            Body::Failed(failed) => Err(Error::Unavailable(failed.text)),
            _ => Err(Error::Unavailable("an answer to no question".into())),
        }
    }
}

async fn carry(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf, mut asked: mpsc::Receiver<Question>) {
    let mut waiting: HashMap<u64, oneshot::Sender<Body>> = HashMap::new();
    let answers = frames(&mut reader);
    let mut answers = std::pin::pin!(answers);
    let mut next = 0;
    loop {
        tokio::select! {
            question = asked.recv() => {
                let Some((question, reply)) = question else { return };
                next += 1;
                waiting.insert(next, reply);
                if channel::write(&mut writer, next, question).await.is_err() {
                    return;
                }
            }
            frame = answers.next() => {
                let Some(frame) = frame else { return };
                if let (Some(reply), Some(body)) = (waiting.remove(&frame.id), frame.body) {
                    let _ = reply.send(body);
                }
            }
        }
    }
}

/// The messages that come in. A stream, so that one half read is not lost when something else happens first.
fn frames(reader: &mut OwnedReadHalf) -> impl futures_util::Stream<Item = channel::Frame> {
    futures_util::stream::unfold(reader, |reader| async {
        let frame = channel::read(reader).await.ok().flatten()?;
        Some((frame, reader))
    })
}

impl Databroker for Relay {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async { Ok(self.ask(Body::Versions(true)).await?.versions()) }.boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        async move {
            let key = Key {
                record_type: record_type.to_owned(),
                id: id.to_owned(),
            };
            let mut answer = self.ask(Body::Get(key)).await?;
            answer.records.pop().ok_or(Error::NotFound)
        }
        .boxed()
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Page, Error>> {
        async move {
            let answer = self.ask(Body::Query(query.into())).await?;
            Ok(Page {
                versions: answer.versions(),
                total: answer.total,
                records: answer.records,
            })
        }
        .boxed()
    }

    fn patch(&self, records: Vec<Record>, mask: Vec<String>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async move {
            let mask = FieldMask { paths: mask };
            let request = PatchRequest {
                records,
                field_mask: Some(mask),
            };
            let answer = self.ask(Body::Patch(request)).await?;
            Ok(PutReply {
                server_version: answer.server_version,
                records: answer.records,
            })
        }
        .boxed()
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async move {
            let records = Records {
                records,
                ..Records::default()
            };
            let answer = self.ask(Body::Put(records)).await?;
            Ok(PutReply {
                server_version: answer.server_version,
                records: answer.records,
            })
        }
        .boxed()
    }

    fn set_options(&self, record_type: String, options: Options) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let request = SetOptionsRequest {
                r#type: record_type,
                options: Some(options),
            };
            self.ask(Body::SetOptions(request)).await.map(drop)
        }
        .boxed()
    }

    /// Leases are the new process's to take; what this one holds it gives back.
    fn release_lease(&self, name: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let request = ReleaseLeaseRequest { name, id };
            self.ask(Body::Release(request)).await.map(drop)
        }
        .boxed()
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        async move { Ok(self.ask(Body::Replace(record)).await?.records.pop()) }.boxed()
    }

    fn sync_latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        async { Ok(futures_util::stream::pending().boxed()) }.boxed()
    }

    fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        async { Ok(futures_util::stream::pending().boxed()) }.boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        replaced()
    }

    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        replaced()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        replaced()
    }

    fn options<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        replaced()
    }

    fn lease(&self, _: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
        replaced()
    }

    fn report(&self, _: Vec<Service>) -> BoxFuture<'_, Result<Duration, Error>> {
        replaced()
    }

    fn services(&self, _: Vec<i32>) -> BoxFuture<'_, Result<Vec<Service>, Error>> {
        replaced()
    }
}

/// For what the channel has no question for: whoever asks again reaches the new process.
fn replaced<T: Send + 'static>() -> BoxFuture<'static, Result<T, Error>> {
    std::future::ready(Err(Error::Unavailable("this process has been replaced".into()))).boxed()
}

impl Records {
    fn versions(&self) -> Versions {
        Versions {
            server_version: self.server_version,
            latest_record_version: self.latest,
        }
    }
}

/// Answers the questions of the old process until it ends.
pub async fn serve(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf, broker: Arc<dyn Databroker>) {
    while let Ok(Some(frame)) = channel::read(&mut reader).await {
        let Some(question) = frame.body else { continue };
        let answer = match answer(&*broker, question).await {
            Ok(records) => Body::Answer(records),
            Err(error) => Body::Failed(Failed {
                not_found: error == Error::NotFound,
                text: error.to_string(),
            }),
        };
        if channel::write(&mut writer, frame.id, answer).await.is_err() {
            return;
        }
    }
}

async fn answer(broker: &dyn Databroker, question: Body) -> Result<Records, Error> {
    Ok(match question {
        Body::Get(key) => Records {
            records: vec![broker.get(&key.record_type, &key.id).await?],
            ..Records::default()
        },
        Body::Put(records) => {
            let reply = broker.put(records.records).await?;
            Records {
                records: reply.records,
                server_version: reply.server_version,
                ..Records::default()
            }
        }
        Body::Replace(record) => Records {
            records: broker.replace(record).await?.into_iter().collect(),
            ..Records::default()
        },
        Body::Patch(request) => {
            let mask = request.field_mask.unwrap_or_default().paths;
            let reply = broker.patch(request.records, mask).await?;
            Records {
                records: reply.records,
                server_version: reply.server_version,
                ..Records::default()
            }
        }
        Body::SetOptions(request) => {
            let options = request.options.unwrap_or_default();
            broker.set_options(request.r#type, options).await?;
            Records::default()
        }
        Body::Release(request) => {
            broker.release_lease(request.name, request.id).await?;
            Records::default()
        }
        Body::Query(query) => {
            let page = broker.query(query.try_into()?).await?;
            Records {
                records: page.records,
                server_version: page.versions.server_version,
                latest: page.versions.latest_record_version,
                total: page.total,
            }
        }
        Body::Versions(_) => {
            let versions = broker.versions().await?;
            Records {
                server_version: versions.server_version,
                latest: versions.latest_record_version,
                ..Records::default()
            }
        }
        _ => return Err(Error::Invalid("no question".into())),
    })
}
