//! Processes that cannot reach each other: the network between them goes away without a word.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pomerium_testing::{
    Client, ClientOptions, Environment, EnvironmentBuilder, Route, SignIn, Upstream, lease, within,
};
use pomerium_tests::apart::NAME;
use pomerium_tests::developer;
use pomerium_tests::netns::Namespace;
use pomerium_tests::services;
use serde_json::json;
use tokio::process::Command;

const MANAGEMENT: &str = "pomerium.config.ConfigService/CreateRoute";

/// The databroker in a network of its own, the others outside.
struct Split {
    network: Namespace,
    _databroker: (Environment, pomerium_testing::Program),
    _authenticate: Environment,
    proxy: Environment,
    _upstream: Upstream,
    client: Client,
}

impl Split {
    async fn start(network: Namespace) -> Result<Split> {
        let authenticate = Environment::builder()?;
        let url = format!("https://auth.example.com:{}", authenticate.port());
        let place = format!("{}:5443", network.address());
        let port = lease()?;
        // Once outside, so that its files are there; then for good where it belongs.
        let mut databroker = Environment::builder()?
            .set("services", "databroker")
            .set("tls_derive", NAME)
            .set("grpc_address", format!("127.0.0.1:{}", port.number()))
            .set("authenticate_service_url", url.as_str())
            .start()
            .await?;
        databroker.kill().await?;
        databroker.rewrite_config(|config| {
            config["grpc_address"] = place.clone().into();
            config["health_check_addr"] = format!("{}:28080", network.address()).into();
        })?;
        let inside = network.start(&databroker.command()?)?;
        let started = |line: &str| line.contains("server started");
        inside.output().wait("the start inside", started).await?;
        let upstream = Upstream::start().await?;
        let remote = |builder: EnvironmentBuilder, service: &str| {
            builder
                .set("services", service)
                .set("tls_derive", NAME)
                .set("override_certificate_name", NAME)
                .set("databroker_service_url", format!("https://{place}"))
                .set("databroker_outage_limit", "3s")
                .set("authenticate_service_url", url.as_str())
        };
        let authenticate = remote(authenticate, "authenticate")
            .sign_in(SignIn::Local(vec![developer()]))
            .start()
            .await?;
        let proxy = remote(Environment::builder()?, "proxy")
            .route(Route::new("app", &upstream.url()).any_user())
            .start()
            .await?;
        let client = Client::new(&ClientOptions {
            trust_anyone: true,
            ..ClientOptions::default()
        })?;
        Ok(Split {
            network,
            _databroker: (databroker, inside),
            _authenticate: authenticate,
            proxy,
            _upstream: upstream,
            client,
        })
    }

    async fn status(&self, name: &str) -> Result<u16> {
        let url = self.proxy.url(name, "/");
        let reply = self
            .client
            .get_with(&url, &[("accept", "application/json")])
            .await?;
        Ok(reply.status.as_u16())
    }

    async fn until(&self, name: &str, wanted: u16) -> Result<()> {
        within(&format!("{wanted} at {name}"), async {
            while self.status(name).await? != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        })
        .await?
    }

    /// Makes a route at the databroker, from where it can be reached.
    async fn make_route(&self, name: &str) -> Result<()> {
        let route = json!({ "route": {
            "id": name, "from": format!("https://{}", self.proxy.authority_of(name)),
            "response": { "status": 200, "body": name }, "allowPublicUnauthenticatedAccess": true,
        }});
        let mut curl = Command::new(pomerium_testing::tools::find("curl")?);
        curl.args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--insecure",
            "--header",
        ])
        .arg(format!("Authorization: Bearer {}", services::token()))
        .args(["--header", "Content-Type: application/json", "--data"])
        .arg(route.to_string())
        .arg(format!("https://{}:5443/{MANAGEMENT}", self.network.address()));
        let output = self.network.inside(&curl).output().await?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        Ok(())
    }
}

#[tokio::test]
async fn a_proxy_that_is_cut_off_goes_on_until_the_limit_and_catches_up_when_it_is_back() -> Result<()> {
    let Some(network) = Namespace::new().await? else {
        return Ok(());
    };
    let split = Split::start(network).await?;
    let page = split.client.follow(&split.proxy.url("app", "/")).await?;
    let reply = split
        .client
        .sign_in(&page, "developer@example.com", developer().password())
        .await?;
    ensure!(reply.status == 200, "{}: {}", reply.status, reply.text());
    split.make_route("before").await?;
    split.until("before", 200).await?;

    split.network.cut().await?;
    ensure!(split.status("app").await? == 200, "nothing has been missed yet");
    let interrupted = |line: &str| line.contains("databroker sync interrupted");
    split
        .proxy
        .log()
        .wait("the silence to be noticed", interrupted)
        .await?;
    ensure!(split.status("app").await? == 200, "by what is known");
    split.make_route("meanwhile").await?;
    ensure!(split.status("meanwhile").await? == 404, "it cannot know");
    split.until("app", 503).await?;
    ensure!(split.status("before").await? == 200, "open to everybody");

    split.network.join().await?;
    split.until("app", 200).await?;
    split.until("meanwhile", 200).await.context("what was missed")
}
