//! Tests over real sockets: a whole data plane on the test's runtime, real upstreams, raw clients.

mod basics;
mod bodies;
mod challenges;
mod decision;
mod drain;
mod http3;
mod identity;
mod limits;
mod smuggling;
pub(crate) mod support;
mod tls;
mod torn_streams;
mod trusted_upstreams;
mod upgrades;
mod upstreams;
