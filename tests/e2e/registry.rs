//! Processes in the registry of services: each reports itself, and is forgotten when it has ended.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use pomerium_api::databroker::{Databroker, RecordStream, Service};
use pomerium_api::pb::registry::ServiceKind::{
    self, Authenticate, Authorize, Databroker as Keeper, PrometheusMetrics, Proxy, Registry,
};
use pomerium_testing::{Environment, Port, Postgres, SignIn, lease};
use pomerium_tests::apart::{Apart, as_it_is};
use pomerium_tests::developer;
use pomerium_tests::services::tool;

/// A registry forgets after 30 s (spec databroker.md 14); a busy machine gets a good deal more.
const FORGOTTEN: Duration = Duration::from_secs(120);

fn at(port: &Port) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port.number()))
}

fn service(kind: ServiceKind, endpoint: impl Into<String>) -> Service {
    Service {
        kind: kind.into(),
        endpoint: endpoint.into(),
    }
}

/// Waits for a list that `is_it`; returns it.
async fn until(
    lists: &mut RecordStream<Vec<Service>>,
    is_it: impl Fn(&[Service]) -> bool,
) -> Result<Vec<Service>> {
    let mut last = Vec::new();
    let found = tokio::time::timeout(FORGOTTEN, async {
        while let Some(list) = lists.next().await {
            last = list?;
            if is_it(&last) {
                return Ok(last.clone());
            }
        }
        anyhow::bail!("the stream ended")
    })
    .await;
    match found {
        Ok(found) => found,
        Err(_) => anyhow::bail!("the last list was {last:?}"),
    }
}

#[tokio::test]
async fn one_process_tells_of_everything_it_runs() -> Result<()> {
    let (grpc, metrics) = (lease()?, lease()?);
    let env = Environment::builder()?
        .sign_in(SignIn::Local(vec![developer()]))
        .set("grpc_address", at(&grpc).to_string())
        .set("metrics_address", at(&metrics).to_string())
        .set("metrics_basic_auth", "cHJvbWV0aGV1czpzZWNyZXQ=")
        .start()
        .await?;
    let registry = tool(at(&grpc))?;
    let mut lists = registry.watch_services(Vec::new()).await?;
    let inside = format!("http://{}", at(&grpc));
    let expected = [
        service(Keeper, &inside),
        service(Authorize, &inside),
        service(Authenticate, env.url("auth", "")),
        service(Proxy, format!("https://{}", env.address())),
        service(Registry, &inside),
        // Its password is not told.
        service(PrometheusMetrics, format!("http://{}/metrics", at(&metrics))),
    ];
    let all = until(&mut lists, |list| list.len() == expected.len()).await?;
    assert_eq!(all, expected);
    let kinds = vec![Proxy.into(), PrometheusMetrics.into()];
    let some = registry.services(kinds).await?;
    assert_eq!(some, [expected[3].clone(), expected[5].clone()]);
    Ok(())
}

#[tokio::test]
async fn processes_apart_are_told_of_by_each_databroker_and_forgotten_when_they_end() -> Result<()> {
    let postgres = Postgres::start()?;
    let connection = postgres.connection("postgres");
    let mut apart = Apart::over_postgres(&connection, &as_it_is).await?;
    // One more over the same database, for tools of this machine.
    let port = lease()?;
    let _third = Environment::builder()?
        .set("services", "databroker")
        .set("grpc_address", at(&port).to_string())
        .set("grpc_insecure", true)
        .set("databroker_storage_type", "postgres")
        .set("databroker_storage_connection_string", connection.as_str())
        .start()
        .await?;
    let registry = tool(at(&port))?;
    let mut lists = registry.watch_services(Vec::new()).await?;
    let proxies: Vec<_> = apart
        .proxies
        .iter()
        .map(|proxy| service(Proxy, format!("https://{}", proxy.address())))
        .collect();
    let count = |list: &[Service], kind: ServiceKind| {
        list.iter()
            .filter(|service| service.kind == i32::from(kind))
            .count()
    };
    let all = until(&mut lists, |list| {
        count(list, Keeper) == 3 && count(list, Authenticate) == 1 && count(list, Proxy) == 2
    })
    .await?;
    for proxy in &proxies {
        assert!(all.contains(proxy), "{all:?}");
    }
    assert!(
        all.contains(&service(Keeper, format!("https://{}", apart.grpc()))),
        "{all:?}"
    );
    apart.proxies.pop().context("the second")?.kill().await?;
    let rest = until(&mut lists, |list| !list.contains(&proxies[1])).await?;
    assert!(
        rest.contains(&proxies[0]) && count(&rest, Keeper) == 3,
        "{rest:?}"
    );
    Ok(())
}
