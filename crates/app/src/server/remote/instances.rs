//! Whether the databrokers behind one name, or in one list, share their records. If they do not, people are signed in
//! at one and strangers at the other, and nothing else tells why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pomerium_api::databroker::Databroker;
use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use super::Way;
use crate::health::{Health, Status};

/// The health check that shows it.
const CHECK: &str = "databroker.instances";
/// How often they are asked.
const EVERY: Duration = Duration::from_secs(30);

/// Asks each databroker which database it has, until `stop`; `databases` counts those found.
pub async fn watch(way: Way, health: Arc<Health>, databases: IntGauge, stop: CancellationToken) {
    let mut apart = false;
    loop {
        let found = ask(&way).await;
        databases.set(i64::try_from(found.len()).unwrap_or(i64::MAX));
        // The check first, then the line: who was told by the log finds the check agreeing with it.
        match (found.len() > 1, apart) {
            (true, _) => {
                let why = describe(&found);
                health.report_error(CHECK, format!("databrokers with separate stores: {why}"));
                if !apart {
                    tracing::error!(
                        databrokers = why,
                        "databroker: those behind databroker_service_url do not share their records; give them one store \
                         (databroker_storage_type: postgres), or name one only"
                    );
                }
                apart = true;
            }
            (false, true) => {
                health.report(CHECK, Status::Running);
                tracing::info!("databroker: those behind databroker_service_url share their records now");
                apart = false;
            }
            (false, false) => health.report(CHECK, Status::Running),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Who has which database; those that do not answer are left out.
async fn ask(way: &Way) -> BTreeMap<u64, Vec<String>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for endpoint in way.dialer.endpoints() {
        let Ok(each) = endpoint.each().await else { continue };
        for one in each {
            let name = one.name();
            let client = way.client_of(way.dialer.only(one));
            if let Ok(versions) = client.versions().await {
                found.entry(versions.server_version).or_default().push(name);
            }
        }
    }
    found
}

fn describe(found: &BTreeMap<u64, Vec<String>>) -> String {
    let groups: Vec<_> = found.values().map(|names| names.join(" and ")).collect();
    groups.join(" / ")
}
