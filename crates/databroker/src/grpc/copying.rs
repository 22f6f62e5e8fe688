//! What a databroker that copies this one asks beyond its records.

use pomerium_api::databroker::Record;
use pomerium_api::pb::databroker::TypedOptions;
use pomerium_api::pb::pomerium::internal as pb;
use pomerium_api::pb::pomerium::internal::copying_server;
use tonic::{Request, Response, Status};

use super::mode::Served;

/// The service.
pub(super) struct Copying(Served);

impl Copying {
    pub(super) fn new(served: Served) -> Self {
        Self(served)
    }
}

#[tonic::async_trait]
impl copying_server::Copying for Copying {
    async fn all_options(&self, request: Request<()>) -> Result<Response<pb::AllOptionsResponse>, Status> {
        // As the options of one type: those of the copy are not up to date at every moment.
        let broker = self.0.writes(request.metadata())?;
        let typed = |(type_url, options)| TypedOptions {
            type_url,
            options: Some(options),
        };
        let types = broker.all_options().await?.into_iter().map(typed).collect();
        Ok(Response::new(pb::AllOptionsResponse { types }))
    }

    async fn unreadable(&self, request: Request<()>) -> Result<Response<pb::UnreadableResponse>, Status> {
        let broker = self.0.reads(request.metadata()).await?;
        let keys = broker.unreadable().await?.into_iter();
        let records = keys.map(|(record_type, id)| Record {
            r#type: record_type,
            id,
            ..Record::default()
        });
        Ok(Response::new(pb::UnreadableResponse {
            records: records.collect(),
        }))
    }
}
