//! When server certificates end: measured at every scrape, and said twice a day while one of them is about to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pomerium_api::clock::Clock;
use pomerium_certs::{CertStore, LoadedCertificate, Validity};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use tokio_util::sync::CancellationToken;

/// How often ending certificates are told of.
const TELL: Duration = Duration::from_secs(12 * 3600);
/// Names that have a series of their own: those that end first.
const MOST: usize = 100;
/// Longest label, in bytes.
const LONGEST: usize = 253;

/// Measures the certificates of `store` in `registry`, and tells of those that end until `stop`.
///
/// Errors when the names of the metrics are taken.
pub fn watch(
    registry: &Registry,
    store: &Arc<CertStore>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<(), prometheus::Error> {
    registry.register(Box::new(Expiry::new(Arc::clone(store))?))?;
    tokio::spawn(tell(Arc::clone(store), Arc::clone(clock), stop.clone()));
    Ok(())
}

async fn tell(store: Arc<CertStore>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(TELL);
    // The first tick is at once, and the start has told already.
    interval.tick().await;
    loop {
        tokio::select! {
            _ = interval.tick() => {
                let now = clock.now().as_second();
                store.certificates().iter().for_each(|certificate| warn(certificate, now));
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Says how a certificate stands at `now_unix`, when there is something to say.
pub fn warn(certificate: &LoadedCertificate, now_unix: i64) {
    let origin = certificate.origin();
    let names = certificate.names().join(", ");
    match certificate.validity(now_unix) {
        Validity::Good => {}
        Validity::EndsSoon { days } => {
            tracing::warn!(origin, names, days, "a certificate ends soon; renew it");
        }
        Validity::Expired => {
            let days = (now_unix - certificate.not_after()) / (24 * 3600);
            tracing::error!(
                origin,
                names,
                days_ago = days,
                "a certificate has expired; browsers refuse it until it is renewed"
            );
        }
        Validity::NotYet => {
            tracing::warn!(origin, names, "a certificate begins later; is the clock right?");
        }
    }
}

/// Reads the store whenever somebody asks.
struct Expiry {
    store: Arc<CertStore>,
    of_names: IntGaugeVec,
    first: IntGauge,
}

impl Expiry {
    fn new(store: Arc<CertStore>) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "pomerium_certificate_expiry_timestamp_seconds",
            "When the server certificate of a name ends, Unix seconds; the names that end first.",
        );
        Ok(Self {
            store,
            of_names: IntGaugeVec::new(opts, &["name"])?,
            first: IntGauge::new(
                "pomerium_certificate_next_expiry_timestamp_seconds",
                "When the first of all server certificates ends, Unix seconds.",
            )?,
        })
    }
}

/// The first names that end, each with the earliest end of its certificates.
fn ends(certificates: &[LoadedCertificate]) -> Vec<(String, i64)> {
    let mut of_names = BTreeMap::<&str, i64>::new();
    for certificate in certificates {
        for name in certificate.names().iter().filter(|name| name.len() <= LONGEST) {
            let end = of_names.entry(name).or_insert(i64::MAX);
            *end = certificate.not_after().min(*end);
        }
    }
    let mut ends: Vec<_> = of_names
        .into_iter()
        .map(|(name, end)| (name.to_owned(), end))
        .collect();
    ends.sort_by_key(|(_, end)| *end);
    ends.truncate(MOST);
    ends
}

impl Collector for Expiry {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.of_names.desc();
        all.extend(self.first.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let ends = ends(&self.store.certificates());
        self.first.set(ends.first().map_or(0, |(_, end)| *end));
        self.of_names.reset();
        for (name, end) in ends {
            self.of_names.with_label_values(&[name.as_str()]).set(end);
        }
        let mut all = self.of_names.collect();
        all.extend(self.first.collect());
        all
    }
}

#[cfg(test)]
mod tests {
    use pomerium_certs::DerivedAuthority;

    use super::*;

    #[test]
    fn each_name_has_a_series_until_there_are_too_many() {
        let authority = DerivedAuthority::new(&[1; 32]).unwrap();
        let certificate = |name: String| authority.issue("test", &[name]).unwrap();
        let store = Arc::new(CertStore::new(vec![
            certificate("a.example.com".into()),
            certificate("a.example.com".into()),
            certificate("*.example.com".into()),
        ]));
        let registry = Registry::new();
        registry
            .register(Box::new(Expiry::new(Arc::clone(&store)).unwrap()))
            .unwrap();
        let count = || {
            let families = registry.gather();
            let named = families
                .iter()
                .find(|family| family.name() == "pomerium_certificate_expiry_timestamp_seconds");
            named.map_or(0, |family| family.get_metric().len())
        };
        assert_eq!(count(), 2);
        store.swap(
            (0..MOST + 5)
                .map(|n| certificate(format!("h{n}.example.com")))
                .collect(),
        );
        assert_eq!(count(), MOST, "names that are gone have no series");
        store.swap(Vec::new());
        assert_eq!(count(), 0);
    }
}
