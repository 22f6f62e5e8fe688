//! The databroker of another process, over gRPC.
//!
//! [`Remote`] speaks the calls of spec databroker.md 2.1 over the [`Transport`] it is given. Each call brings a new
//! token. Answers of any size are read in portions (`portions`).

mod portions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, future};
use prost::Message;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status, Streaming};
use tower::util::BoxCloneSyncService;

use super::{
    Cleared, Databroker, Error, Latest, LeaseRequest, Options, Page, PutReply, Query, Record, RecordKey,
    RecordStream, ServerInfo, Service, Versions,
};
use crate::pb::databroker as pb;
use crate::pb::databroker::data_broker_service_client::DataBrokerServiceClient;
use crate::pb::pomerium::internal::ReplaceRequest;
use crate::pb::pomerium::internal::conditional_writes_client::ConditionalWritesClient;
use crate::pb::pomerium::internal::copying_client::CopyingClient;
use crate::pb::registry::registry_client::RegistryClient;
use crate::pb::registry::{ListRequest, RegisterRequest};

/// Writes are sent in parts of this size, in bytes (spec databroker.md 3.3).
const PART: usize = 1024 * 1024;
/// The largest message that is read: two records of the largest size, and what is around them.
const LARGEST: usize = 12 * 1024 * 1024;

/// Carries requests to a databroker, and its answers back. Who is at its other end, and how that is made sure of, is
/// decided by whoever made it.
pub type Transport =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, Status>;

/// Makes the token of one call.
pub type Token = Arc<dyn Fn() -> String + Send + Sync>;

/// A databroker at the other end of a transport.
#[derive(Clone)]
pub struct Remote {
    records: DataBrokerServiceClient<InterceptedService<Transport, Signed>>,
    writes: ConditionalWritesClient<InterceptedService<Transport, Signed>>,
    copying: CopyingClient<InterceptedService<Transport, Signed>>,
    registry: RegistryClient<InterceptedService<Transport, Signed>>,
    timeout: Duration,
}

/// The header that names who passed a call on (spec databroker.md 10.4).
pub const FORWARDER: &str = "pomerium-forwarder-id";

/// Puts a token on each call.
#[derive(Clone)]
pub struct Signed {
    token: Token,
    forwarder: Option<AsciiMetadataValue>,
}

impl Interceptor for Signed {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = AsciiMetadataValue::try_from((self.token)())
            .map_err(|_| Status::internal("the token of this process is none"))?;
        request.metadata_mut().insert("jwt", token);
        if let Some(forwarder) = &self.forwarder {
            request.metadata_mut().insert(FORWARDER, forwarder.clone());
        }
        Ok(request)
    }
}

impl Remote {
    /// A client over `transport`. A call other than a stream ends with an error after `timeout`.
    pub fn new(transport: Transport, token: Token, timeout: Duration) -> Self {
        Self::with_forwarder(transport, token, timeout, None)
    }

    /// As [`Self::new`], for a databroker that passes calls on under the name `id` (letters, digits, `-`).
    ///
    /// # Errors
    /// No header can hold `id`.
    pub fn forwarding(
        transport: Transport,
        token: Token,
        timeout: Duration,
        id: &str,
    ) -> Result<Self, Error> {
        let id = AsciiMetadataValue::try_from(id).map_err(|_| {
            Error::Invalid("the name of the databroker has letters that no header can hold".into())
        })?;
        Ok(Self::with_forwarder(transport, token, timeout, Some(id)))
    }

    fn with_forwarder(
        transport: Transport,
        token: Token,
        timeout: Duration,
        forwarder: Option<AsciiMetadataValue>,
    ) -> Self {
        let signed = Signed { token, forwarder };
        Self {
            records: DataBrokerServiceClient::with_interceptor(transport.clone(), signed.clone())
                .max_decoding_message_size(LARGEST),
            writes: ConditionalWritesClient::with_interceptor(transport.clone(), signed.clone())
                .max_decoding_message_size(LARGEST),
            copying: CopyingClient::with_interceptor(transport.clone(), signed.clone())
                .max_decoding_message_size(LARGEST),
            registry: RegistryClient::with_interceptor(transport, signed).max_decoding_message_size(LARGEST),
            timeout,
        }
    }

    /// One call, within the time for calls.
    fn call<'a, T, F>(&'a self, call: F) -> BoxFuture<'a, Result<T, Error>>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>> + Send + 'a,
        T: Send + 'a,
    {
        async move { Ok(self.within_time(call).await??) }.boxed()
    }

    /// As [`Self::call`]; `None` when the answer is larger than what is read: then the databroker has done what it was
    /// asked for.
    fn sized_call<'a, T, F>(&'a self, call: F) -> BoxFuture<'a, Result<Option<T>, Error>>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>> + Send + 'a,
        T: Send + 'a,
    {
        async move {
            match self.within_time(call).await? {
                Ok(answer) => Ok(Some(answer)),
                Err(status) if status.code() == Code::OutOfRange => Ok(None),
                Err(status) => Err(status.into()),
            }
        }
        .boxed()
    }

    async fn within_time<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<Result<T, Status>, Error> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => Ok(answer.map(tonic::Response::into_inner)),
            Err(_) => Err(Error::Unavailable(format!(
                "the databroker did not answer within {} ms",
                self.timeout.as_millis()
            ))),
        }
    }

    async fn write(&self, records: Vec<Record>) -> Result<pb::PutResponse, Error> {
        let mut client = self.records.clone();
        self.call(async move { client.put(pb::PutRequest { records }).await })
            .await
    }

    fn follow<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
        wait: bool,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        let mut client = self.records.clone();
        let request = pb::SyncRequest {
            server_version: from.server_version,
            record_version: from.latest_record_version,
            r#type: record_type.to_owned(),
            wait: Some(wait),
        };
        async move {
            let stream = self.call(async move { client.sync(request).await }).await?;
            let records = messages(stream).filter_map(|message| {
                future::ready(match message {
                    Ok(pb::SyncResponse {
                        response: Some(pb::sync_response::Response::Record(record)),
                    }) => Some(Ok(record)),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
            });
            Ok(records.boxed())
        }
        .boxed()
    }
}

/// The messages of a stream, up to its first error.
fn messages<T: Send + 'static>(
    stream: Streaming<T>,
) -> impl futures_util::Stream<Item = Result<T, Error>> + Send {
    stream.map(|message| message.map_err(Error::from))
}

/// Records in parts that one message can carry.
fn parts(records: Vec<Record>) -> Vec<Vec<Record>> {
    let (mut parts, mut size) = (vec![Vec::new()], 0);
    for record in records {
        let length = record.encoded_len();
        if size + length > PART
            && let Some(last) = parts.last()
            && !last.is_empty()
        {
            parts.push(Vec::new());
            size = 0;
        }
        size += length;
        if let Some(last) = parts.last_mut() {
            last.push(record);
        }
    }
    parts
}

impl Databroker for Remote {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        self.info()
            .map(|info| {
                info.map(|info| Versions {
                    server_version: info.server_version,
                    latest_record_version: info.latest,
                })
            })
            .boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        let mut client = self.records.clone();
        async move {
            let info = self.call(async move { client.server_info(()).await }).await?;
            Ok(ServerInfo {
                server_version: info.server_version,
                earliest: info.earliest_record_version,
                latest: info.latest_record_version,
                term: info.term,
            })
        }
        .boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        let mut client = self.records.clone();
        let request = pb::GetRequest {
            r#type: record_type.to_owned(),
            id: id.to_owned(),
        };
        async move {
            let found = self.call(async move { client.get(request).await }).await?;
            found.record.ok_or(Error::NotFound)
        }
        .boxed()
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Page, Error>> {
        self.in_portions(query).boxed()
    }

    /// All or nothing up to a megabyte; more is sent in parts.
    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async move {
            let mut reply = PutReply {
                server_version: 0,
                records: Vec::with_capacity(records.len()),
            };
            for part in parts(records) {
                let written = self.write(part).await?;
                reply.server_version = written.server_version;
                reply.records.extend(written.records);
            }
            Ok(reply)
        }
        .boxed()
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        let mut client = self.writes.clone();
        let request = ReplaceRequest { record: Some(record) };
        async move {
            let written = self.call(async move { client.replace(request).await }).await?;
            Ok(written.record)
        }
        .boxed()
    }

    /// Sent in parts as [`Self::put`] is.
    fn patch(&self, records: Vec<Record>, mask: Vec<String>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async move {
            let mut reply = PutReply {
                server_version: 0,
                records: Vec::with_capacity(records.len()),
            };
            for part in parts(records) {
                let written = self.patch_part(part, mask.clone()).await?;
                reply.server_version = written.server_version;
                reply.records.extend(written.records);
            }
            Ok(reply)
        }
        .boxed()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        let mut client = self.records.clone();
        async move { Ok(self.call(async move { client.list_types(()).await }).await?.types) }.boxed()
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        let mut client = self.records.clone();
        let request = pb::GetOptionsRequest {
            r#type: record_type.to_owned(),
        };
        async move {
            match self.call(async move { client.get_options(request).await }).await {
                Ok(found) => Ok(found.options),
                Err(Error::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        let mut client = self.copying.clone();
        async move {
            let all = self.call(async move { client.all_options(()).await }).await?;
            let types = all.types.into_iter();
            Ok(types
                .map(|of| (of.type_url, of.options.unwrap_or_default()))
                .collect())
        }
        .boxed()
    }

    fn unreadable(&self) -> BoxFuture<'_, Result<Vec<RecordKey>, Error>> {
        let mut client = self.copying.clone();
        async move {
            let all = self.call(async move { client.unreadable(()).await }).await?;
            let records = all.records.into_iter();
            Ok(records.map(|record| (record.r#type, record.id)).collect())
        }
        .boxed()
    }

    fn set_options(&self, record_type: String, options: Options) -> BoxFuture<'_, Result<(), Error>> {
        let mut client = self.records.clone();
        let request = pb::SetOptionsRequest {
            r#type: record_type,
            options: Some(options),
        };
        async move {
            match self.call(async move { client.set_options(request).await }).await {
                // Nothing is left to be read back, which is what was asked for.
                Ok(_) | Err(Error::NotFound) => Ok(()),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
        async move {
            let duration = prost_types::Duration::try_from(request.ttl).ok();
            let name = request.name;
            let mut client = self.records.clone();
            let answer = match request.id {
                None => {
                    let request = pb::AcquireLeaseRequest { name, duration };
                    let call = async { client.acquire_lease(request).await };
                    tokio::time::timeout(self.timeout, call)
                        .await
                        .map(|answer| answer.map(|taken| taken.into_inner().id))
                }
                Some(id) => {
                    let request = pb::RenewLeaseRequest {
                        name,
                        id: id.clone(),
                        duration,
                    };
                    let call = async { client.renew_lease(request).await };
                    tokio::time::timeout(self.timeout, call)
                        .await
                        .map(|answer| answer.map(|_| id))
                }
            };
            match answer {
                Ok(Ok(id)) => Ok(Some(id)),
                Ok(Err(status)) if status.code() == Code::AlreadyExists => Ok(None),
                Ok(Err(status)) => Err(status.into()),
                Err(_) => Err(Error::Unavailable("the databroker did not answer in time".into())),
            }
        }
        .boxed()
    }

    fn release_lease(&self, name: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
        let mut client = self.records.clone();
        let request = pb::ReleaseLeaseRequest { name, id };
        self.call(async move { client.release_lease(request).await })
    }

    fn report(&self, services: Vec<Service>) -> BoxFuture<'_, Result<Duration, Error>> {
        let mut client = self.registry.clone();
        let request = RegisterRequest {
            services,
            ..RegisterRequest::default()
        };
        async move {
            let answer = self.call(async move { client.report(request).await }).await?;
            let again = answer
                .call_back_after
                .and_then(|after| Duration::try_from(after).ok());
            again.ok_or_else(|| Error::Unavailable("the databroker did not say when to report again".into()))
        }
        .boxed()
    }

    fn services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<Vec<Service>, Error>> {
        let mut client = self.registry.clone();
        let request = ListRequest { kinds };
        async move {
            Ok(self
                .call(async move { client.list(request).await })
                .await?
                .services)
        }
        .boxed()
    }

    fn watch_services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<RecordStream<Vec<Service>>, Error>> {
        let mut client = self.registry.clone();
        let request = ListRequest { kinds };
        async move {
            let stream = self.call(async move { client.watch(request).await }).await?;
            let lists = messages(stream).map(|list| list.map(|list| list.services));
            Ok(lists.boxed())
        }
        .boxed()
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        use pb::sync_latest_response::Response;
        let mut client = self.records.clone();
        let request = pb::SyncLatestRequest {
            r#type: record_type.to_owned(),
        };
        async move {
            let stream = self
                .call(async move { client.sync_latest(request).await })
                .await?;
            let latest = messages(stream).filter_map(|message| {
                future::ready(match message.map(|message| message.response) {
                    Ok(Some(Response::Record(record))) => Some(Ok(Latest::Record(record))),
                    Ok(Some(Response::Versions(versions))) => Some(Ok(Latest::Versions(versions))),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
            });
            Ok(latest.boxed())
        }
        .boxed()
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        self.follow(record_type, from, true)
    }

    fn sync_until_now<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        self.follow(record_type, from, false)
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        let mut client = self.records.clone();
        async move {
            let cleared = self.call(async move { client.clear(()).await }).await?;
            Ok(Cleared {
                old: cleared.old_server_version,
                new: cleared.new_server_version,
            })
        }
        .boxed()
    }
}
