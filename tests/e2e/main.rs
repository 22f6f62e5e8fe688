//! End to end: the program as it is shipped, with real parts around it.

mod api_clients;
mod assertion;
mod browser_local;
mod browser_oidc;
mod demo;
mod error_pages;
mod grpc;
mod grpc_parts;
mod health;
mod lifecycle;
mod local_provider;
mod long_lived;
mod metrics_tls;
mod mutual_tls;
mod outliers;
mod records;
mod routing_cases;
mod sign_in_options;
mod streaming;
mod tools;
mod traces;
mod upgrade;
mod upstream_faults;
mod upstream_h2_lies;
mod upstream_lies;
mod websocket;
