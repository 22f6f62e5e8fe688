//! The handshake of a connection, and what a client shows in it (spec proxy.md 2).

use std::io;
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, Incoming, TransportErrorCode};
use rustls_pki_types::CertificateDer;

use super::super::handshake::{NOTHING, Story};
use crate::client_tls::ClientTls;
use crate::listener::quic::Offer;
use crate::worker::Worker;

/// The TLS alert about a client without a certificate, where one is demanded (RFC 8446 section 6.2).
const CERTIFICATE_REQUIRED: u8 = 116;

/// Takes a client through the handshake. The second is there when it was asked for a certificate.
///
/// Errors when there is no connection; one about a certificate is in the access log.
pub(super) async fn accept(
    worker: &Worker,
    incoming: Incoming,
    offer: &Offer,
) -> io::Result<(quinn::Connection, Option<Arc<ClientTls>>)> {
    let peer = incoming.remote_address();
    let (config, refused) = offer.handshake()?;
    let mut connecting = incoming.accept_with(config)?;
    let hello = connecting.handshake_data().await.ok();
    let hello = hello.and_then(|hello| hello.downcast::<HandshakeData>().ok());
    let name = hello.and_then(|hello| hello.server_name);
    let story = Story {
        worker,
        peer,
        name: name.as_deref(),
    };
    let quic = match connecting.await {
        Ok(quic) => quic,
        Err(error) => {
            if refused.is_some_and(|slot| !story.refused(&slot)) && is_about_nothing_shown(&error) {
                story.tell(None, NOTHING);
            }
            return Err(error.into());
        }
    };
    let Some(demand) = offer.demand() else {
        return Ok((quic, None));
    };
    let client = ClientTls::presented(Arc::clone(demand), &shown(&quic));
    story.judge(&client)?;
    Ok((quic, Some(Arc::new(client))))
}

/// The certificates of the client; none if it has sent none.
fn shown(quic: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let identity = quic.peer_identity();
    let certificates = identity.and_then(|identity| identity.downcast().ok());
    certificates.map(|certificates| *certificates).unwrap_or_default()
}

fn is_about_nothing_shown(error: &ConnectionError) -> bool {
    let ConnectionError::TransportError(error) = error else {
        return false;
    };
    error.code == TransportErrorCode::crypto(CERTIFICATE_REQUIRED)
}
