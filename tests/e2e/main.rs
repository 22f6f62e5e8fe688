//! End to end: the program as it is shipped, with real parts around it.

mod api_clients;
mod assertion;
mod browser_local;
mod browser_oidc;
mod demo;
mod grpc;
mod lifecycle;
mod local_provider;
mod long_lived;
mod metrics_tls;
mod routing_cases;
mod streaming;
mod tools;
mod traces;
mod upgrade;
mod upstream_faults;
mod websocket;
