//! This process in the registry of services (spec databroker.md 14): what it runs and where that is reached, told again
//! and again for as long as it runs. The registry forgets whoever falls silent.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pomerium_api::databroker::{Databroker, Service};
use pomerium_api::pb::registry::ServiceKind;
use pomerium_config::settings::Settings;

use super::Server;

/// First pause after a report that failed; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// A registry that wants to be called more often than this is not listened to.
const OFTEN: Duration = Duration::from_secs(1);

/// Reports for as long as the server runs.
pub(super) fn keep(server: &Arc<Server>) {
    let broker = Arc::clone(&server.core.broker.handle);
    let stop = server.core.stop.clone();
    let reporting = report(Arc::downgrade(server), broker);
    tokio::spawn(stop.run_until_cancelled_owned(reporting));
}

async fn report(server: Weak<Server>, broker: Arc<dyn Databroker>) {
    let host = host_name();
    let mut pause = FIRST_PAUSE;
    while let Some(server) = server.upgrade() {
        // As they are now: a reload may have moved a listener.
        let services = services(&server.settings(), &host);
        drop(server);
        if services.is_empty() {
            tokio::time::sleep(LAST_PAUSE).await;
            continue;
        }
        let wait = match broker.report(services).await {
            Ok(again) => {
                pause = FIRST_PAUSE;
                again.max(OFTEN)
            }
            Err(error) => {
                // That the databroker is out of reach is told elsewhere.
                tracing::debug!(%error, "registry: this process could not be reported");
                let wait = pause;
                pause = (pause * 2).min(LAST_PAUSE);
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What runs here and can be reached from elsewhere; `host` stands in where an address names none. Without the
/// credentials that the metrics ask for: whoever may read those has them from elsewhere.
fn services(settings: &Settings, host: &str) -> Vec<Service> {
    let mut found = Vec::new();
    let mut add = |kind: ServiceKind, endpoint: String| {
        found.push(Service {
            kind: kind.into(),
            endpoint,
        });
    };
    let runs = settings.services;
    if let Some(listener) = &settings.internal.listener {
        let endpoint = url(!listener.insecure, &listener.address, host);
        for (here, kind) in [
            (runs.databroker, ServiceKind::Databroker),
            (runs.databroker, ServiceKind::Registry),
            (runs.authorize, ServiceKind::Authorize),
        ] {
            if here {
                add(kind, endpoint.clone());
            }
        }
    }
    if runs.authenticate {
        add(
            ServiceKind::Authenticate,
            settings.authenticate.internal_url.url(),
        );
    }
    if runs.proxy {
        let listener = &settings.listener;
        add(
            ServiceKind::Proxy,
            url(!listener.insecure, &listener.address, host),
        );
    }
    if let Some(metrics) = &settings.metrics {
        let endpoint = url(metrics.tls.is_some(), &metrics.address, host);
        add(ServiceKind::PrometheusMetrics, endpoint + "/metrics");
    }
    found
}

/// The URL of a listener at `address` (`host:port`).
fn url(tls: bool, address: &str, host: &str) -> String {
    let scheme = if tls { "https" } else { "http" };
    let (named, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let everywhere = named
        .trim_matches(['[', ']'])
        .parse()
        .is_ok_and(|ip: IpAddr| ip.is_unspecified());
    let named = if named.is_empty() || everywhere {
        host
    } else {
        named
    };
    format!("{scheme}://{named}:{port}")
}

/// The name of this machine.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match name.is_empty() {
        true => "localhost".to_owned(),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everybody_gets_the_name_of_the_machine() {
        for (tls, address, expected) in [
            (true, ":443", "https://box.example.com:443"),
            (false, "0.0.0.0:80", "http://box.example.com:80"),
            (true, "[::]:5443", "https://box.example.com:5443"),
            (true, "[::1]:5443", "https://[::1]:5443"),
            (false, "10.1.2.3:9090", "http://10.1.2.3:9090"),
            (true, "proxy.example.com:443", "https://proxy.example.com:443"),
        ] {
            assert_eq!(url(tls, address, "box.example.com"), expected);
        }
    }
}
