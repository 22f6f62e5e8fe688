//! One case: its configuration, its request, its expectations.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::upstream::Upstreams;
use super::{Launch, Launcher, check, client};

/// Routes are called this and their number.
pub(super) const ROUTE_NAME: &str = "case-";
/// The client of a case that names none.
const CLIENT_IP: &str = "203.0.113.9";
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Collects the access log.
#[derive(Debug, Clone, Default)]
pub struct LogTap(Arc<Mutex<Vec<u8>>>);

impl Write for LogTap {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl LogTap {
    /// The first line of the access log, once it is there.
    fn request_line(&self) -> Option<Value> {
        let bytes = self.0.lock();
        let lines = bytes.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
            .find(|line| line["message"] == "http-request")
    }
}

/// What is known after the request.
pub(super) struct Observed {
    pub(super) answer: client::Answer,
    /// Number of the route and head of the request that reached its upstream.
    pub(super) upstream: Option<(usize, String)>,
    /// The line of the access log.
    pub(super) line: Value,
}

pub(super) async fn run(case: &Value, launcher: &dyn Launcher) -> Result<(), String> {
    let known = [
        "name",
        "options",
        "routes",
        "request",
        "upstream_response",
        "expect",
        "unsure",
        "note",
        "deviation",
    ];
    known_only(case, &known, "case")?;
    let routes = case["routes"].as_array().ok_or("no routes")?;
    if routes.iter().any(|route| route["list"] == "databroker") {
        return Err("routes from the databroker are not built".into());
    }
    let request = client::Request::parse(&case["request"])?;
    let upstreams = Upstreams::start(routes.len(), &case["upstream_response"])
        .await
        .map_err(|e| e.to_string())?;
    let log = LogTap::default();
    let ip = case["request"]["client_ip"].as_str().unwrap_or(CLIENT_IP);
    let launch = Launch {
        config: config(case, routes),
        static_certificate: case["options"]["static_certificate"] != false,
        upstreams: upstreams.addresses.clone(),
        client_ip: ip.parse().map_err(|_| format!("client_ip {ip:?}"))?,
        log: log.clone(),
    };
    let running = launcher
        .launch(launch)
        .await
        .map_err(|why| format!("does not start: {why}"))?;
    let answer = client::send(running.address(), &request).await?;
    let line = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        loop {
            running.flush_log();
            match log.request_line() {
                Some(line) => return line,
                None => tokio::task::yield_now().await,
            }
        }
    });
    let line = line.await.map_err(|_| "nothing in the access log")?;
    let observed = Observed {
        answer,
        upstream: upstreams.seen(),
        line,
    };
    check::expectations(&case["expect"], &observed)
}

/// The configuration file: the options of the case and what a listener needs besides.
fn config(case: &Value, routes: &[Value]) -> Value {
    let mut config = case["options"].as_object().cloned().unwrap_or_default();
    config.remove("static_certificate");
    let plain = case["request"]["tls"] == false;
    let always = json!({
        "shared_secret": SECRET,
        "cookie_secret": SECRET,
        "address": "127.0.0.1:0",
        "databroker_storage_type": "memory",
        "insecure_server": plain,
        // Health paths are logged at debug.
        "log_level": "debug",
        "access_log_fields": ["response-code", "response-code-details", "cluster-stat-name"],
    });
    config.extend(always.as_object().cloned().unwrap_or_default());
    let mut lists: Map<String, Value> = Map::new();
    let mut protected = false;
    for (number, route) in routes.iter().enumerate() {
        let mut route = route.as_object().cloned().unwrap_or_default();
        let list = route
            .remove("list")
            .and_then(|list| list.as_str().map(str::to_owned));
        protected |= route.get("allow_public_unauthenticated_access") == Some(&json!(false));
        route
            .entry("allow_public_unauthenticated_access")
            .or_insert(json!(true));
        route.insert("name".into(), json!(format!("{ROUTE_NAME}{number}")));
        let list = lists
            .entry(list.unwrap_or_else(|| "routes".into()))
            .or_insert_with(|| json!([]));
        list.as_array_mut()
            .into_iter()
            .for_each(|list| list.push(Value::Object(route.clone())));
    }
    if protected {
        let provider = json!({
            "authenticate_service_url": "https://authenticate.example.com",
            "idp_provider": "oidc",
            "idp_provider_url": "https://idp.example.com",
            "idp_client_id": "client",
            "idp_client_secret": "secret",
        });
        config.extend(provider.as_object().cloned().unwrap_or_default());
    }
    config.extend(lists);
    Value::Object(config)
}

/// Fails on a key that nobody looks at.
pub(super) fn known_only(value: &Value, known: &[&str], what: &str) -> Result<(), String> {
    let keys = value.as_object().into_iter().flat_map(Map::keys);
    match keys.into_iter().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{what}: unknown field {key:?}")),
        None => Ok(()),
    }
}
