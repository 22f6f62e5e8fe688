//! The calls of `databroker.DataBrokerService` (spec databroker.md 3, 5, 7).

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use pomerium_api::databroker::{Databroker, Error, Latest, LeaseRequest, Record, Versions};
use pomerium_api::pb::databroker as pb;
use pomerium_api::pb::databroker::data_broker_service_server::DataBrokerService;
use tonic::{Request, Response, Status};

use super::mode::Served;

/// The service.
pub struct Records(Served);

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Records {
    pub(super) fn new(served: Served) -> Self {
        Self(served)
    }
}

/// What was set for a type, or for every type that has records.
async fn typed_options(broker: &dyn Databroker, record_type: &str) -> Result<Vec<pb::TypedOptions>, Error> {
    let types = match record_type {
        "" => broker.types().await?,
        one => vec![one.to_owned()],
    };
    let mut all = Vec::new();
    // A record may have no type; options need one.
    for record_type in types.into_iter().filter(|name| !name.is_empty()) {
        if let Some(options) = broker.options(&record_type).await? {
            all.push(pb::TypedOptions {
                type_url: record_type,
                options: Some(options),
            });
        }
    }
    Ok(all)
}

/// Why changes are not told from there on, in the words that clients of the original know.
async fn refused(broker: &dyn Databroker, from: Versions, error: Error) -> Status {
    if error == Error::Resync
        && let Ok(here) = broker.versions().await
        && here.server_version == from.server_version
    {
        return Status::aborted("invalid record version: the change log does not hold that position");
    }
    error.into()
}

/// A time of a request, in seconds above none.
fn duration(given: Option<prost_types::Duration>) -> Result<Duration, Status> {
    given
        .and_then(|given| Duration::try_from(given).ok())
        .filter(|given| !given.is_zero())
        .ok_or_else(|| Status::invalid_argument("the lease needs a duration above zero"))
}

#[tonic::async_trait]
impl DataBrokerService for Records {
    async fn get(&self, request: Request<pb::GetRequest>) -> Answer<pb::GetResponse> {
        let broker = self.0.reads(request.metadata()).await?;
        let pb::GetRequest { r#type, id } = request.into_inner();
        let record = Some(broker.get(&r#type, &id).await?);
        Ok(Response::new(pb::GetResponse { record }))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Answer<pb::PutResponse> {
        let broker = self.0.writes(request.metadata())?;
        let written = broker.put(request.into_inner().records).await?;
        Ok(Response::new(pb::PutResponse {
            server_version: written.server_version,
            records: written.records,
        }))
    }

    async fn patch(&self, request: Request<pb::PatchRequest>) -> Answer<pb::PatchResponse> {
        let broker = self.0.writes(request.metadata())?;
        let pb::PatchRequest { records, field_mask } = request.into_inner();
        let mask = field_mask.unwrap_or_default().paths;
        let written = broker.patch(records, mask).await?;
        Ok(Response::new(pb::PatchResponse {
            server_version: written.server_version,
            records: written.records,
        }))
    }

    async fn query(&self, request: Request<pb::QueryRequest>) -> Answer<pb::QueryResponse> {
        let broker = self.0.reads(request.metadata()).await?;
        let page = broker.query(request.into_inner().try_into()?).await?;
        Ok(Response::new(pb::QueryResponse {
            records: page.records,
            total_count: i64::try_from(page.total).unwrap_or(i64::MAX),
            server_version: page.versions.server_version,
            record_version: page.versions.latest_record_version,
        }))
    }

    async fn list_types(&self, request: Request<()>) -> Answer<pb::ListTypesResponse> {
        let broker = self.0.reads(request.metadata()).await?;
        let types = broker.types().await?;
        Ok(Response::new(pb::ListTypesResponse { types }))
    }

    async fn clear(&self, request: Request<()>) -> Answer<pb::ClearResponse> {
        let broker = self.0.writes(request.metadata())?;
        let cleared = broker.clear().await?;
        Ok(Response::new(pb::ClearResponse {
            old_server_version: cleared.old,
            new_server_version: cleared.new,
        }))
    }

    async fn server_info(&self, request: Request<()>) -> Answer<pb::ServerInfoResponse> {
        let broker = self.0.reads(request.metadata()).await?;
        let info = broker.info().await?;
        Ok(Response::new(pb::ServerInfoResponse {
            server_version: info.server_version,
            earliest_record_version: info.earliest,
            latest_record_version: info.latest,
            term: info.term,
        }))
    }

    async fn get_options(&self, request: Request<pb::GetOptionsRequest>) -> Answer<pb::GetOptionsResponse> {
        let broker = self.0.writes(request.metadata())?;
        let options = broker.options(&request.into_inner().r#type).await?;
        let options = Some(options.ok_or(Error::NotFound)?);
        Ok(Response::new(pb::GetOptionsResponse { options }))
    }

    /// Options that say nothing are forgotten, and then there is nothing to answer with: clients know that as
    /// "not found" (spec databroker.md 3).
    async fn set_options(&self, request: Request<pb::SetOptionsRequest>) -> Answer<pb::SetOptionsResponse> {
        let broker = self.0.writes(request.metadata())?;
        let pb::SetOptionsRequest { r#type, options } = request.into_inner();
        broker
            .set_options(r#type.clone(), options.unwrap_or_default())
            .await?;
        let options = Some(broker.options(&r#type).await?.ok_or(Error::NotFound)?);
        Ok(Response::new(pb::SetOptionsResponse { options }))
    }

    async fn acquire_lease(
        &self,
        request: Request<pb::AcquireLeaseRequest>,
    ) -> Answer<pb::AcquireLeaseResponse> {
        let broker = self.0.writes(request.metadata())?;
        let pb::AcquireLeaseRequest { name, duration } = request.into_inner();
        let request = LeaseRequest {
            name,
            ttl: self::duration(duration)?,
            id: None,
        };
        match broker.lease(request).await? {
            Some(id) => Ok(Response::new(pb::AcquireLeaseResponse { id })),
            None => Err(Status::already_exists("lease is already taken")),
        }
    }

    async fn renew_lease(&self, request: Request<pb::RenewLeaseRequest>) -> Answer<()> {
        let broker = self.0.writes(request.metadata())?;
        let pb::RenewLeaseRequest { name, id, duration } = request.into_inner();
        if id.is_empty() {
            return Err(Status::invalid_argument("the lease to renew needs its id"));
        }
        let request = LeaseRequest {
            name,
            ttl: self::duration(duration)?,
            id: Some(id),
        };
        match broker.lease(request).await? {
            Some(_) => Ok(Response::new(())),
            None => Err(Status::already_exists("lease no longer held")),
        }
    }

    async fn release_lease(&self, request: Request<pb::ReleaseLeaseRequest>) -> Answer<()> {
        let broker = self.0.writes(request.metadata())?;
        let pb::ReleaseLeaseRequest { name, id } = request.into_inner();
        broker.release_lease(name, id).await?;
        Ok(Response::new(()))
    }

    type SyncStream = Answers<pb::SyncResponse>;

    async fn sync(&self, request: Request<pb::SyncRequest>) -> Answer<Self::SyncStream> {
        let broker = self.0.reads(request.metadata()).await?;
        use pb::sync_response::Response as Message;
        let request = request.into_inner();
        let from = Versions {
            server_version: request.server_version,
            latest_record_version: request.record_version,
        };
        let records = match request.wait {
            Some(false) => broker.sync_until_now(&request.r#type, from).await,
            _ => broker.sync(&request.r#type, from).await,
        };
        let records = match records {
            Ok(records) => records,
            Err(error) => return Err(refused(&*broker, from, error).await),
        };
        let options = typed_options(&*broker, &request.r#type).await?;
        let message = |response| pb::SyncResponse {
            response: Some(response),
        };
        let options = options
            .into_iter()
            .map(move |options| Ok(message(Message::Options(options))));
        let records = records.map(move |record: Result<Record, Error>| {
            record
                .map(|record| message(Message::Record(record)))
                .map_err(Status::from)
        });
        Ok(Response::new(stream::iter(options).chain(records).boxed()))
    }

    type SyncLatestStream = Answers<pb::SyncLatestResponse>;

    async fn sync_latest(&self, request: Request<pb::SyncLatestRequest>) -> Answer<Self::SyncLatestStream> {
        let broker = self.0.reads(request.metadata()).await?;
        use pb::sync_latest_response::Response as Message;
        let record_type = request.into_inner().r#type;
        let latest = broker.sync_latest(&record_type).await?;
        let options = typed_options(&*broker, &record_type).await?;
        let message = |response| {
            Ok(pb::SyncLatestResponse {
                response: Some(response),
            })
        };
        // Options come before the versions, which come last.
        let mut options = Some(options);
        let messages = latest.flat_map(move |item| {
            stream::iter(match item {
                Ok(Latest::Record(record)) => vec![message(Message::Record(record))],
                Ok(Latest::Versions(versions)) => {
                    let options = options.take().unwrap_or_default().into_iter();
                    options
                        .map(|options| message(Message::Options(options)))
                        .chain([message(Message::Versions(versions))])
                        .collect()
                }
                Err(error) => vec![Err(Status::from(error))],
            })
        });
        Ok(Response::new(messages.boxed()))
    }
}
