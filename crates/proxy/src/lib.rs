//! The data plane: listeners, TLS, HTTP, routing, upstreams, access log.
//!
//! A request on its way: `listener` and `conn` (socket, TLS, HTTP/1.1 or HTTP/2) → [`flow`] (canonical
//! request, route, decision) → `headers` (what changes) → [`upstream`] (pools of this worker) → back
//! through `body`, which counts and watches the time. [`Dataplane`] is the handle on all of it,
//! [`Snapshot`] one version of what it serves.
//!
//! A worker is a thread with its own runtime, sockets and upstream connections; the request path shares
//! snapshots and counters only and never waits for anything but the two ends of the request. Sign-in,
//! pages and records are not here: they come in through [`ControlPlane`], [`LoginLinks`] and the
//! resolver in [`Shared`].
//!
//! # Framing
//!
//! The HTTP library hides some raw forms; what is left has one reading, and every request is serialised
//! anew:
//! - `Transfer-Encoding` beside `Content-Length`: the library reads chunks, drops the length and closes
//!   after the answer, so that nothing behind the body is read as a request. One framing goes upstream.
//! - `Content-Length` repeated with one value: read as one; with different values: 400.
//! - `Transfer-Encoding` other than a single `chunked`, folded header lines, a blank before the colon,
//!   HTTP/1.0 with `Transfer-Encoding`: 400 and the connection ends.
//! - `#…` in a target is dropped while parsing: what is judged and forwarded is the target without it.
//! - A body of unknown length is sent upstream chunked (HTTP/1.1) or in frames (HTTP/2), whatever the
//!   method; the client's own framing headers never pass.
//! - Of an upstream's answer: any transfer coding but a single `chunked` of HTTP/1.1, or one beside a
//!   length, is a broken protocol. Informational answers (100, 102, 103) are dropped, and bounded. What
//!   comes behind an answer ends its connection (`upstream::doubt`).

pub mod access_log;
mod body;
mod client_tls;
mod conn;
mod dataplane;
mod decision;
mod exchange;
mod flow;
mod headers;
mod lifecycle;
mod listener;
mod live;
pub mod metrics;
mod parts;
mod route;
pub mod router;
mod shared;
mod snapshot;
mod sparing;
mod throttle;
pub mod upstream;
mod worker;

pub use access_log::LogSink;
pub use client_tls::{Choice, TlsConfigs};
pub use dataplane::{Dataplane, Options, Relisten, StartError};
pub use decision::{Authorizer, DecisionError};
pub use listener::Handed;
pub use metrics::Metrics;
pub use parts::session_parts;
pub use route::Route;
pub use router::RouteTable;
pub use shared::{
    AccessTracker, AuditStream, ControlContext, ControlPlane, LoginLinks, RequestSpan, Shared, Tracer,
    UpstreamTokens,
};
pub use snapshot::{BuildError, Snapshot};
pub use sparing::Sparing;

#[cfg(test)]
mod tests;
