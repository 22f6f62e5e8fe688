//! Calls to the listener for services (`grpc_address`), as another service or a tool makes them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use pomerium_api::clock::{Clock as _, SystemClock};
use pomerium_api::databroker::remote::{Remote, Transport};
use pomerium_api::pb::ext_authz::authorization_client::AuthorizationClient;
use pomerium_api::pb::ext_authz::{CheckRequest, CheckResponse};
use pomerium_crypto::service_token;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

/// The shared secret of every environment of the tests.
pub const SHARED: &[u8; 32] = b"tests only: the shared secret !!";

/// A good token.
pub fn token() -> String {
    service_token::sign(SHARED, SystemClock.now().as_second())
}

/// A connection without TLS, made when it is needed.
pub fn channel(address: SocketAddr) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_lazy())
}

/// The databroker there, for whoever has the secret.
pub fn tool(address: SocketAddr) -> Result<Remote> {
    let channel = channel(address)?;
    let transport = Transport::new(channel.map_err(|error| tonic::Status::from_error(Box::new(error))));
    Ok(Remote::new(transport, Arc::new(token), Duration::from_secs(10)))
}

/// A request that brings `token`.
pub fn with_token<T>(message: T, token: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("jwt", token.parse()?);
    Ok(request)
}

/// Asks the authorization service there, with this token.
///
/// # Errors
/// The token cannot be sent. Whether the call went well is in the value.
pub async fn check(
    address: SocketAddr,
    message: CheckRequest,
    token: &str,
) -> Result<Result<CheckResponse, tonic::Status>> {
    let request = with_token(message, token)?;
    let answer = AuthorizationClient::new(channel(address)?).check(request).await;
    Ok(answer.map(tonic::Response::into_inner))
}
