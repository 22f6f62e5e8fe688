//! Clients of a databroker as tools of this machine have them: over TLS that comes from the shared secret.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use hyper_util::rt::TokioIo;
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_api::databroker::remote::{Remote, Transport};
use pomerium_api::pb::databroker::data_broker_service_client::DataBrokerServiceClient;
use pomerium_certs::{DerivedAuthority, services};
use pomerium_crypto::service_token;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::{ServiceExt, service_fn};

use crate::apart::NAME;
use crate::records::shared_secret;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of the databroker that listens on `port`.
pub fn client(port: u16) -> Result<Remote> {
    let shared = shared_secret()?;
    let channel = channel(port)?.map_err(|error| Status::from_error(Box::new(error)));
    let token = Arc::new(move || service_token::sign(&shared, SystemClock.now().as_second()));
    Ok(Remote::new(Transport::new(channel), token, PATIENCE))
}

/// The calls of a databroker, to be answered by that one alone.
pub type Local = DataBrokerServiceClient<InterceptedService<Channel, Signed>>;

/// As [`client`], but the databroker is not to pass calls on.
pub fn local(port: u16) -> Result<Local> {
    let signed = Signed(shared_secret()?);
    Ok(DataBrokerServiceClient::with_interceptor(channel(port)?, signed))
}

/// Puts a token and the wish for whoever is asked on each call.
#[derive(Clone)]
pub struct Signed([u8; 32]);

impl Interceptor for Signed {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = service_token::sign(&self.0, SystemClock.now().as_second());
        let token: MetadataValue<Ascii> = token.parse().map_err(|_| Status::internal("no token"))?;
        request.metadata_mut().insert("jwt", token);
        let local = MetadataValue::from_static("local");
        request
            .metadata_mut()
            .insert("pomerium-cluster-request-mode", local);
        Ok(request)
    }
}

fn channel(port: u16) -> Result<Channel> {
    let authority = DerivedAuthority::new(&shared_secret()?)?;
    let config = services::client(authority.ca_pem().as_bytes(), None, None)?;
    let tls = TlsConnector::from(Arc::new(config));
    let connect = service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
            io::Result::Ok(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    // The connector adds TLS; the scheme is for the calls.
    Ok(Endpoint::from_shared(format!("http://{NAME}"))?.connect_with_connector_lazy(connect))
}
