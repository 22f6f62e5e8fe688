//! Certificates by ACME in processes apart: proxies order them, the databroker of another process keeps them and says
//! whose turn it is.

use anyhow::Result;
use pomerium_testing::{Environment, EnvironmentBuilder, Pebble, PebbleOptions, lease, within};
use pomerium_tests::apart::NAME;

use crate::acme::{look, obtained, route, with};

#[tokio::test]
async fn one_proxy_orders_through_the_databroker_and_all_serve_what_it_got() -> Result<()> {
    let (grpc, front) = (lease()?, Environment::builder()?);
    let pebble = Pebble::start(&PebbleOptions {
        tls_port: front.port(),
        ..PebbleOptions::default()
    })
    .await?;
    let place = format!("127.0.0.1:{}", grpc.number());
    let databroker = Environment::builder()?
        .set("services", "databroker")
        .set("tls_derive", NAME)
        .set("grpc_address", place.as_str());
    let mut databroker = databroker.start().await?;
    let proxy = |builder: EnvironmentBuilder| {
        with(builder, &pebble)
            .set("services", "proxy")
            .set("tls_derive", NAME)
            .set("override_certificate_name", NAME)
            .set("databroker_service_url", format!("https://{place}"))
            .route(route("app"))
    };
    let mut first = proxy(front).start().await?;
    for name in ["app.example.com", "auth.example.com"] {
        obtained(&first, name).await?;
    }
    let shown = look(&first, &pebble, "app.example.com").await?;
    assert!(shown.trusted);
    let orders = pebble.orders();
    assert!(
        !first.folder().join("data/autocert").exists(),
        "nothing is kept here"
    );

    // The authority would not find this one; it has no need to.
    let second = proxy(Environment::builder()?).start().await?;
    within("the certificate at the other proxy", async {
        while look(&second, &pebble, "app.example.com").await?.chain != shown.chain {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    // Nothing is ordered again when a proxy, or the databroker, starts anew.
    first.kill().await?;
    first.start_again().await?;
    assert_eq!(look(&first, &pebble, "app.example.com").await?.chain, shown.chain);
    databroker.kill().await?;
    assert_eq!(
        look(&second, &pebble, "app.example.com").await?.chain,
        shown.chain
    );
    databroker.start_again().await?;
    first.kill().await?;
    first.start_again().await?;
    assert_eq!(look(&first, &pebble, "app.example.com").await?.chain, shown.chain);
    assert_eq!(pebble.orders(), orders);
    Ok(())
}
