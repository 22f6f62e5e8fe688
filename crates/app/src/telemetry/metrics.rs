//! The Prometheus listener (`metrics_address`) and the metrics of the program itself.

use std::collections::HashMap;

use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use pomerium_config::settings::{Secret, Settings};
use prometheus::{Encoder, GaugeVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::http::{Answer, text};

/// An empty registry whose metrics all say which host and which installation they come from, unless the runtime flag
/// `add_extra_metrics_labels` is off. A label without a value is left out.
///
/// Errors when the registry refuses the labels.
pub fn registry(settings: &Settings) -> Result<Registry, prometheus::Error> {
    if !settings.runtime_flags.add_extra_metrics_labels {
        return Ok(Registry::new());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let labels = [
        ("hostname", host),
        ("installation_id", settings.installation_id.clone()),
    ];
    let given = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let labels: HashMap<String, String> = given.map(|(name, value)| (name.to_owned(), value)).collect();
    Registry::new_custom(None, Some(labels))
}

/// Metrics of the program: build, reloads, memory.
#[derive(Debug, Clone)]
pub struct ProcessMetrics {
    /// 1 when the last reload was taken, 0 when it was refused.
    pub last_reload_success: IntGauge,
    /// Unix time of the last reload that was taken.
    pub last_reload_timestamp: IntGauge,
    /// Reloads by result.
    pub reloads: IntCounterVec,
    /// Routes in force.
    pub routes: IntGauge,
    /// Version of the newest configuration record.
    pub record_version: IntGauge,
    /// Configuration records that cannot be used.
    pub record_errors: IntGauge,
    /// Databases found behind `databroker_service_url`; more than one is a mistake.
    pub databases: IntGauge,
    resident: IntGauge,
}

impl ProcessMetrics {
    /// Creates and registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let build = GaugeVec::new(
            Opts::new("pomerium_build_info", "Build of the running program."),
            &["service", "version"],
        )?;
        build.with_label_values(&["pomerium", crate::VERSION]).set(1.0);
        registry.register(Box::new(build))?;
        Ok(Self {
            last_reload_success: gauge(
                registry,
                "pomerium_config_last_reload_success",
                "Whether the last configuration was taken.",
            )?,
            last_reload_timestamp: gauge(
                registry,
                "pomerium_config_last_reload_success_timestamp",
                "When a configuration was last taken, Unix seconds.",
            )?,
            reloads: {
                let opts = Opts::new(
                    "pomerium_config_reloads_total",
                    "Reloads of the configuration by result.",
                );
                let counter = IntCounterVec::new(opts, &["result"])?;
                registry.register(Box::new(counter.clone()))?;
                counter
            },
            routes: gauge(registry, "pomerium_policy_count_total", "Routes in force.")?,
            record_version: gauge(
                registry,
                "pomerium_config_db_version",
                "Version of the newest configuration record of the databroker.",
            )?,
            record_errors: gauge(
                registry,
                "pomerium_config_db_errors",
                "Mistakes in configuration records of the databroker that keep them from being used.",
            )?,
            databases: gauge(
                registry,
                "pomerium_databroker_databases",
                "Databases found behind databroker_service_url; 0 where this process keeps the records.",
            )?,
            resident: gauge(registry, "process_resident_memory_bytes", "Resident memory.")?,
        })
    }

    /// Configuration records were read: the newest version, and how many mistakes are in them.
    pub fn records(&self, version: u64, errors: usize) {
        self.record_version
            .set(i64::try_from(version).unwrap_or(i64::MAX));
        self.record_errors.set(i64::try_from(errors).unwrap_or(i64::MAX));
    }

    /// A configuration was taken or refused.
    pub fn reloaded(&self, taken: bool, now_unix: i64) {
        self.last_reload_success.set(i64::from(taken));
        self.reloads
            .with_label_values(&[if taken { "ok" } else { "refused" }])
            .inc();
        if taken {
            self.last_reload_timestamp.set(now_unix);
        }
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Resident memory in bytes, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Answers one request of the metrics listener.
pub fn answer(
    registry: &Registry,
    process: &ProcessMetrics,
    basic_auth: Option<&Secret>,
    request: &Request<Incoming>,
) -> Answer {
    if !authorized(basic_auth, request.headers()) {
        let mut answer = text(
            StatusCode::UNAUTHORIZED,
            "this listener asks for a user name and a password\n",
        );
        let challenge = HeaderValue::from_static("Basic realm=\"metrics\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return answer;
    }
    // The original has its proxy's metrics apart; here they are all in one place.
    if !matches!(request.uri().path(), "/metrics" | "/metrics/envoy") {
        return text(StatusCode::NOT_FOUND, "ask for /metrics\n");
    }
    if let Some(bytes) = resident_bytes() {
        process.resident.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    let mut body = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut body) {
        Ok(()) => text(StatusCode::OK, &String::from_utf8_lossy(&body)),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics could not be written; see the log\n",
            )
        }
    }
}

fn authorized(basic_auth: Option<&Secret>, headers: &http::HeaderMap) -> bool {
    let Some(expected) = basic_auth else {
        return true;
    };
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(encoded) = given.and_then(|value| value.strip_prefix("Basic ")) else {
        return false;
    };
    match pomerium_crypto::encoding::base64_decode(encoded) {
        Ok(pair) => pomerium_crypto::ct::eq(&pair, expected.expose()),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> http::HeaderMap {
        http::HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn basic_auth_is_compared_whole() {
        let expected = Secret::new(b"scraper:secret".to_vec());
        let settings = Some(&expected);
        assert!(authorized(settings, &headers("Basic c2NyYXBlcjpzZWNyZXQ=")));
        assert!(!authorized(settings, &headers("Basic c2NyYXBlcjpzZWNyZQ==")));
        assert!(!authorized(settings, &headers("Bearer c2NyYXBlcjpzZWNyZXQ=")));
        assert!(!authorized(settings, &http::HeaderMap::new()));
    }

    fn scraped(config: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let env = std::collections::BTreeMap::new();
        let loader = pomerium_config::Loader::new(Some(&file), &env).dry_run();
        let registry = registry(&loader.load().unwrap().settings).unwrap();
        ProcessMetrics::register(&registry).unwrap();
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn every_series_names_host_and_installation_unless_the_flag_is_off() {
        let text = scraped("installation_id: north\n");
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!series.is_empty());
        for line in series {
            assert!(
                line.contains("installation_id=\"north\"") && line.contains("hostname=\""),
                "{line}"
            );
        }
        assert!(!scraped("{}").contains("installation_id"), "no empty label");
        let off = scraped("installation_id: north\nruntime_flags: {add_extra_metrics_labels: false}\n");
        assert!(
            !off.contains("installation_id") && !off.contains("host="),
            "{off}"
        );
    }

    #[test]
    fn memory_is_read_on_this_system() {
        assert!(resident_bytes().is_none_or(|bytes| bytes > 100_000));
    }
}
