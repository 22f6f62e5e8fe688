//! Connections to the listener for other proxies: whoever is not trusted is cut off before a byte is read.

use std::net::SocketAddr;
use std::sync::Arc;

use pomerium_config::settings::Codec;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::io::Transport;
use super::serve::{HANDSHAKE, serve, serve_plain};
use crate::worker::{Serving, Worker};

/// Serves one accepted socket. No PROXY protocol: the peer itself is what is trusted.
pub(super) async fn serve_decision(
    worker: Arc<Worker>,
    socket: TcpStream,
    addresses: (SocketAddr, SocketAddr),
) {
    let snapshot = worker.snapshot();
    let peer = addresses.0;
    let Some(plan) = snapshot.decision.as_ref().filter(|plan| plan.trusts(peer)) else {
        worker.shared.metrics.decision_peers_refused.inc();
        if let Some(left_out) = worker.turned_away.line() {
            tracing::warn!(%peer, left_out, "decision_listener: a peer that is not in trusted_peers is cut off");
        }
        return;
    };
    let tls = plan.tls.clone();
    drop(snapshot);
    let Some(tls) = tls else {
        return serve_plain(worker, socket, addresses, (Codec::Auto, Serving::Decision)).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(socket);
    let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        failed => {
            worker.shared.metrics.handshake_failures.inc();
            let error = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => "it took too long".to_owned(),
            };
            tracing::info!(%peer, error, "decision_listener: a TLS handshake failed");
            return;
        }
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let transport = (Transport::Tls(Box::new(stream)), None);
    serve(worker, transport, (h2, Serving::Decision), addresses).await;
}
