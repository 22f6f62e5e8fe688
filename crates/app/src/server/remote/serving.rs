//! Asks databrokers whether they serve (`grpc.health.v1.Health`), so that one whose store is gone is left before somebody
//! waits for its answer, and one that serves again is known.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use pomerium_api::pb::grpc_health::HealthCheckRequest;
use pomerium_api::pb::grpc_health::health_check_response::ServingStatus;
use pomerium_api::pb::grpc_health::health_client::HealthClient;
use tokio_util::sync::CancellationToken;

use super::Way;
use super::dial::Dialer;

/// The name of a databroker in health checks (spec databroker.md 8.2).
const SERVICE: &str = "pomerium-databroker";
/// How often each is asked.
const EVERY: Duration = Duration::from_secs(5);
/// How long one has for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks those of `way` until `stop`.
pub async fn watch(way: Way, stop: CancellationToken) {
    let mut known = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        find(&way.dialer, &mut known).await;
        ask(&way.dialer, &known).await;
    }
}

/// Brings `known` up to date: every address behind the names, each with a connection of its own.
async fn find(dialer: &Dialer, known: &mut HashMap<SocketAddr, Dialer>) {
    let mut found = HashMap::new();
    for endpoint in dialer.endpoints() {
        let Ok(all) = endpoint.each().await else {
            // Who was known before is asked on.
            found.extend(known.drain());
            continue;
        };
        for one in all {
            if let Some(address) = one.pinned() {
                let way = known.remove(&address).unwrap_or_else(|| dialer.only(one));
                found.insert(address, way);
            }
        }
    }
    *known = found;
}

/// Asks all of them at a time. Where there is one only, it is asked for records whatever it says here.
async fn ask(dialer: &Dialer, known: &HashMap<SocketAddr, Dialer>) {
    if known.len() < 2 {
        return;
    }
    let each = known
        .iter()
        .map(|(address, way)| async move { tell(dialer, *address, serves(way.clone()).await) });
    join_all(each).await;
}

fn tell(dialer: &Dialer, address: SocketAddr, serves: Result<(), &str>) {
    match serves {
        Ok(()) => dialer.aside().take_back(address),
        Err(why) => dialer.aside().put(address, why),
    }
}

/// Whether the one there serves; else why not. One that does not know the question is taken to serve.
async fn serves(way: Dialer) -> Result<(), &'static str> {
    let mut client = HealthClient::new(way);
    let service = SERVICE.to_owned();
    let answer = tokio::time::timeout(PATIENCE, client.check(HealthCheckRequest { service })).await;
    match answer.map_err(|_| "no answer to a health check")? {
        Ok(answer) if answer.get_ref().status() == ServingStatus::NotServing => Err("NOT_SERVING"),
        Err(status) if status.code() == tonic::Code::Unavailable => Err("it cannot be asked how it is"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dial::tests::{Fake, Says, over};
    use super::*;

    #[tokio::test]
    async fn who_does_not_serve_is_set_aside_until_it_does() {
        let fakes = [
            Fake::start(Says::NotServing).await,
            Fake::start(Says::Serving).await,
        ];
        let dialer = over(&fakes);
        let mut known = HashMap::new();
        find(&dialer, &mut known).await;
        ask(&dialer, &known).await;
        assert_eq!(dialer.aside().now(), [fakes[0].address]);
        fakes[0].says(Says::Serving);
        ask(&dialer, &known).await;
        assert_eq!(dialer.aside().now(), []);
        assert_eq!(known.len(), 2);
    }

    #[tokio::test]
    async fn one_alone_is_not_asked() {
        let fakes = [Fake::start(Says::NotServing).await];
        let dialer = over(&fakes);
        let mut known = HashMap::new();
        find(&dialer, &mut known).await;
        ask(&dialer, &known).await;
        assert_eq!(fakes[0].asked(), 0);
    }
}
