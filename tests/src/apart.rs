//! The four services as processes of their own, over TLS that comes from the shared secret: one databroker, one
//! authenticate service, two proxies.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use pomerium_testing::{
    Account, Client, ClientOptions, Environment, EnvironmentBuilder, Port, Reply, Route, SignIn, Upstream,
    lease,
};
use serde_json::{Value, json};

use crate::balance::Balancer;
use crate::developer;

/// The name that the derived certificate of the databroker is for.
pub const NAME: &str = "databroker.internal.example.com";

/// The processes. Each has a folder, a configuration and a port of its own.
pub struct Apart {
    /// Keeps the records.
    pub databroker: Environment,
    /// The same beside it, over the same PostgreSQL.
    pub second: Option<Environment>,
    /// Signs people in, with the built-in provider.
    pub authenticate: Environment,
    /// Another one behind the same name.
    pub second_authenticate: Option<Environment>,
    /// Two that forward.
    pub proxies: Vec<Environment>,
    /// Behind both.
    pub upstream: Upstream,
    grpc: Vec<Port>,
    balancer: Option<(Port, Balancer)>,
}

/// What the processes have in their configurations besides what they need.
pub type Change<'c> = &'c dyn Fn(&str, EnvironmentBuilder) -> EnvironmentBuilder;

impl Apart {
    /// Starts them; `change` may add to the configuration of each, by the name of its service.
    pub async fn start(change: Change<'_>) -> Result<Apart> {
        Self::with_accounts(&[developer()], change).await
    }

    /// As [`Apart::start`], with these people.
    pub async fn with_accounts(accounts: &[Account], change: Change<'_>) -> Result<Apart> {
        Self::over(Shape::default(), accounts, change).await
    }

    /// Two databrokers over the database of `connection`.
    pub async fn over_postgres(connection: &str, change: Change<'_>) -> Result<Apart> {
        let shape = Shape {
            connection: Some(connection),
            ..Shape::default()
        };
        Self::over(shape, &[developer()], change).await
    }

    /// Two authenticate services behind a load balancer that sends each connection to the other one.
    pub async fn balanced(change: Change<'_>) -> Result<Apart> {
        let shape = Shape {
            balanced: true,
            ..Shape::default()
        };
        Self::over(shape, &[developer()], change).await
    }

    async fn over(shape: Shape<'_>, accounts: &[Account], change: Change<'_>) -> Result<Apart> {
        let connection = shape.connection;
        let upstream = Upstream::start().await?;
        let authenticate = Environment::builder()?;
        let front = match shape.balanced {
            true => Some(lease()?),
            false => None,
        };
        let port = front.as_ref().map_or(authenticate.port(), Port::number);
        let sign_in = format!("https://auth.example.com:{port}");
        let (mut grpc, mut databrokers) = (Vec::new(), Vec::new());
        for _ in 0..1 + usize::from(connection.is_some()) {
            let port = lease()?;
            let mut builder = databroker(&port)?.set("authenticate_service_url", sign_in.as_str());
            if let Some(connection) = connection {
                builder = builder
                    .set("databroker_storage_type", "postgres")
                    .set("databroker_storage_connection_string", connection);
            }
            databrokers.push(change("databroker", builder).start().await?);
            grpc.push(port);
        }
        let urls: Vec<_> = grpc.iter().map(url).collect();
        let signing_in = |builder| {
            let builder = remote(builder, "authenticate", &urls);
            change(
                "authenticate",
                builder.set("authenticate_service_url", sign_in.as_str()),
            )
        };
        let authenticate = signing_in(authenticate.sign_in(SignIn::Local(accounts.to_vec())));
        let authenticate = authenticate.start().await?;
        let (mut second_authenticate, mut balancer) = (None, None);
        if let Some(front) = front {
            // The same people with the same passwords: replicas share a configuration.
            let people = json!({ "users_file": authenticate.folder().join("users.yaml") });
            let second = Environment::builder()?
                .set("idp_provider", "local")
                .set("local_idp", people);
            let second = signing_in(second).start().await?;
            let targets = vec![authenticate.address(), second.address()];
            let running = Balancer::start(front.number(), targets).await?;
            (second_authenticate, balancer) = (Some(second), Some((front, running)));
        }
        let mut proxies = Vec::new();
        for _ in 0..2 {
            let builder = remote(Environment::builder()?, "proxy", &urls)
                .set("authenticate_service_url", sign_in.as_str());
            let builder = with_routes(builder, &upstream);
            proxies.push(change("proxy", builder).start().await?);
        }
        let mut databrokers = databrokers.into_iter();
        Ok(Apart {
            databroker: databrokers.next().context("there is one")?,
            second: databrokers.next(),
            authenticate,
            second_authenticate,
            proxies,
            upstream,
            grpc,
            balancer,
        })
    }

    /// A client that trusts every listener.
    pub fn client(&self) -> Result<Client> {
        Client::new(&ClientOptions {
            trust_anyone: true,
            // So that a load balancer has something to decide.
            connection_each: self.balancer.is_some(),
            ..ClientOptions::default()
        })
    }

    /// A client that is signed in, by way of the first proxy.
    pub async fn signed_in(&self) -> Result<Client> {
        let client = self.client()?;
        let reply = self.sign_in(&client).await?;
        anyhow::ensure!(
            reply.status == 200,
            "{} at {}: {}",
            reply.status,
            reply.url,
            reply.text()
        );
        Ok(client)
    }

    /// Signs `client` in as the developer; returns where that ended.
    pub async fn sign_in(&self, client: &Client) -> Result<Reply> {
        let page = client.follow(&self.url(0, "app", "/")).await?;
        client
            .sign_in(&page, "developer@example.com", developer().password())
            .await
    }

    /// Signs the person of `client` out, at the first proxy.
    pub async fn sign_out(&self, client: &Client) -> Result<()> {
        let page = client.follow(&self.url(0, "app", "/.pomerium/sign_out")).await?;
        let page = match page.text().contains("<form") {
            true => client.submit_form(&page, "sign_out").await?,
            false => page,
        };
        anyhow::ensure!(page.status.as_u16() < 400, "{}: {}", page.status, page.text());
        Ok(())
    }

    /// `https://<name>.example.com:<port of the proxy><path>`.
    pub fn url(&self, proxy: usize, name: &str, path: &str) -> String {
        self.proxies[proxy].url(name, path)
    }

    /// Asks a proxy as a program that wants JSON; returns the status.
    pub async fn status(&self, client: &Client, proxy: usize, name: &str) -> Result<u16> {
        let url = self.url(proxy, name, "/");
        let reply = client.get_with(&url, &[("accept", "application/json")]).await?;
        Ok(reply.status.as_u16())
    }

    /// Where the databrokers listen for the others.
    pub fn grpc_ports(&self) -> impl Iterator<Item = u16> {
        self.grpc.iter().map(Port::number)
    }

    /// Where the databroker listens for the others.
    pub fn grpc(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.grpc[0].number()))
    }
}

/// A databroker that listens for the others on `port`.
pub fn databroker(port: &Port) -> Result<EnvironmentBuilder> {
    Ok(Environment::builder()?
        .set("services", "databroker")
        .set("tls_derive", NAME)
        .set("grpc_address", here(port)))
}

/// `builder` as another service, whose records the databrokers at `urls` keep.
pub fn remote(builder: EnvironmentBuilder, service: &str, urls: &[String]) -> EnvironmentBuilder {
    builder
        .set("services", service)
        .set("tls_derive", NAME)
        .set("override_certificate_name", NAME)
        .set("databroker_service_urls", urls.to_vec())
}

/// The address of a databroker that listens on `port`.
pub fn url(port: &Port) -> String {
    format!("https://{}", here(port))
}

/// What there is more of than one.
#[derive(Default)]
struct Shape<'s> {
    /// The database that two databrokers share.
    connection: Option<&'s str>,
    /// Two authenticate services behind a load balancer.
    balanced: bool,
}

fn here(port: &Port) -> String {
    format!("127.0.0.1:{}", port.number())
}

fn with_routes(builder: EnvironmentBuilder, upstream: &Upstream) -> EnvironmentBuilder {
    builder
        .route(Route::new("app", &upstream.url()).any_user().identity())
        .route(Route::new("open", &upstream.url()).public())
        .route(
            Route::new("ws", &upstream.url())
                .any_user()
                .set("allow_websockets", true),
        )
}

/// No additions.
pub fn as_it_is(_: &str, builder: EnvironmentBuilder) -> EnvironmentBuilder {
    builder
}

/// Sets keys of the configuration of every process.
pub fn everywhere(keys: Value) -> impl Fn(&str, EnvironmentBuilder) -> EnvironmentBuilder {
    move |_, mut builder| {
        for (key, value) in keys.as_object().into_iter().flatten() {
            builder = builder.set(key, value.clone());
        }
        builder
    }
}

/// The same with one key.
pub fn with(key: &str, value: impl Into<Value>) -> impl Fn(&str, EnvironmentBuilder) -> EnvironmentBuilder {
    everywhere(json!({ key: value.into() }))
}
