//! Envoy, plain and with an external authorizer, access log to a file.

use anyhow::Result;
use pomerium_testing::Port;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Ground, Rival, port};

/// Starts Envoy without authorization; `None` when it is not to be had.
pub async fn plain(ground: &Ground) -> Result<Option<Rival>> {
    start(ground, "Envoy", None).await
}

/// Starts Envoy with `ext_authz` over gRPC to the authorizer on this port.
pub async fn with_authorizer(ground: &Ground, authorizer: u16) -> Result<Option<Rival>> {
    start(ground, "Envoy + ext_authz", Some(authorizer)).await
}

async fn start(ground: &Ground, name: &'static str, authorizer: Option<u16>) -> Result<Option<Rival>> {
    let Some(program) = std::env::var_os("POMERIUM_BENCH_ENVOY") else {
        return Ok(None);
    };
    let port = port()?;
    let file = ground.path().join(if authorizer.is_some() {
        "envoy-authz.json"
    } else {
        "envoy.json"
    });
    std::fs::write(&file, config(ground, &port, authorizer).to_string())?;
    let mut command = Command::new(program);
    command
        .args([
            "--concurrency",
            "2",
            "--disable-hot-restart",
            "--log-level",
            "warn",
        ])
        .arg("--config-path")
        .arg(file);
    ground.run(name, port, command).await.map(Some)
}

fn config(ground: &Ground, port: &Port, authorizer: Option<u16>) -> Value {
    let mut clusters = vec![cluster("app", ground.upstream)];
    let mut filters = Vec::new();
    if let Some(authorizer) = authorizer {
        let mut authz = cluster("authz", authorizer);
        authz["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": of("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
        clusters.push(authz);
        filters.push(json!({
            "name": "envoy.filters.http.ext_authz",
            "typed_config": {
                "@type": of("filters.http.ext_authz.v3.ExtAuthz"),
                "transport_api_version": "V3",
                "grpc_service": { "envoy_grpc": { "cluster_name": "authz" } },
            },
        }));
    }
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": of("filters.http.router.v3.Router") },
    }));
    json!({ "static_resources": { "listeners": [listener(ground, port, &filters)], "clusters": clusters } })
}

fn listener(ground: &Ground, port: &Port, filters: &[Value]) -> Value {
    let log = ground.path().join(format!("envoy-{}.log", port.number()));
    json!({
        "name": "tls",
        "address": address(port.number()),
        "filter_chains": [{
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": of("transport_sockets.tls.v3.DownstreamTlsContext"),
                    "common_tls_context": {
                        "alpn_protocols": ["h2", "http/1.1"],
                        "tls_certificates": [{
                            "certificate_chain": { "filename": ground.path().join("server.pem") },
                            "private_key": { "filename": ground.path().join("server.key") },
                        }],
                    },
                },
            },
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": of("filters.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "ingress",
                    "codec_type": "AUTO",
                    "use_remote_address": true,
                    "access_log": [{
                        "name": "envoy.access_loggers.file",
                        "typed_config": { "@type": of("access_loggers.file.v3.FileAccessLog"), "path": log },
                    }],
                    "http_filters": filters,
                    "route_config": { "virtual_hosts": [{
                        "name": "app",
                        "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }],
                    }]},
                },
            }],
        }],
    })
}

fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
        },
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn of(kind: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{kind}")
}
