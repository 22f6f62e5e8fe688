//! The authenticate service behind a proxy: one door for all, as many installations of several machines have it.

use anyhow::{Result, ensure};
use pomerium_testing::{Client, ClientOptions, Environment, Route, SignIn, Upstream, lease};
use pomerium_tests::apart::{databroker, remote, url};
use pomerium_tests::developer;

struct Fronted {
    proxy: Environment,
    authenticate: Environment,
    _databroker: (Environment, pomerium_testing::Port),
    upstream: Upstream,
}

impl Fronted {
    /// `open` says whether the route to the authenticate service lets everybody pass, or says nothing.
    async fn start(open: bool) -> Result<Fronted> {
        let upstream = Upstream::start().await?;
        let proxy = Environment::builder()?;
        let sign_in = format!("https://auth.example.com:{}", proxy.port());
        let port = lease()?;
        let kept = databroker(&port)?.set("authenticate_service_url", sign_in.as_str());
        let kept = kept.start().await?;
        let at = [url(&port)];
        let authenticate = remote(Environment::builder()?, "authenticate", &at)
            .sign_in(SignIn::Local(vec![developer()]))
            .set("authenticate_service_url", sign_in.as_str())
            .start()
            .await?;
        let to = format!("https://127.0.0.1:{}", authenticate.port());
        let door = Route::new("auth", &to)
            .set("preserve_host_header", true)
            .set("tls_skip_verify", true);
        let proxy = remote(proxy, "proxy", &at)
            .set("authenticate_service_url", sign_in.as_str())
            .route(if open { door.public() } else { door })
            .route(Route::new("app", &upstream.url()).any_user())
            .start()
            .await?;
        Ok(Fronted {
            proxy,
            authenticate,
            _databroker: (kept, port),
            upstream,
        })
    }

    fn client(&self) -> Result<Client> {
        Client::new(&ClientOptions {
            trust_anyone: true,
            ..ClientOptions::default()
        })
    }

    /// Somebody signs in and out, and never leaves the port of the proxy.
    async fn sign_in_and_out(&self) -> Result<()> {
        let client = self.client()?;
        let page = client.follow(&self.proxy.url("app", "/page")).await?;
        ensure!(
            page.url.as_str().starts_with(&self.proxy.url("auth", "/")),
            "{} at {}",
            page.status,
            page.url
        );
        let reply = client
            .sign_in(&page, "developer@example.com", developer().password())
            .await?;
        ensure!(
            reply.status == 200 && reply.url.as_str() == self.proxy.url("app", "/page"),
            "{} at {}: {}",
            reply.status,
            reply.url,
            reply.text()
        );
        // A second visit asks nobody again: the cookie of the sign-in service came through.
        let other = client.get(&self.proxy.url("auth", "/.pomerium/")).await?;
        ensure!(
            other.status == 200 && other.text().contains("developer@example.com"),
            "{}: {}",
            other.status,
            other.text()
        );
        let page = client
            .follow(&self.proxy.url("app", "/.pomerium/sign_out"))
            .await?;
        let left = match page.text().contains("<form") {
            true => client.submit_form(&page, "sign_out").await?,
            false => page,
        };
        ensure!(left.status.as_u16() < 400, "{}: {}", left.status, left.text());
        let again = client
            .get_with(&self.proxy.url("app", "/page"), &[("accept", "application/json")])
            .await?;
        ensure!(again.status == 401, "signed out: {}", again.status);
        Ok(())
    }
}

#[tokio::test]
async fn people_sign_in_through_a_proxy() -> Result<()> {
    let fronted = Fronted::start(true).await?;
    fronted.sign_in_and_out().await?;
    // What is asked of that host is answered there and not here.
    let seen = fronted.authenticate.access_log();
    ensure!(
        seen.iter().any(|line| line["path"] == "/.pomerium/sign_in"),
        "{seen:?}"
    );
    ensure!(!fronted.upstream.take_requests().is_empty(), "the application");
    Ok(())
}

/// Nobody could sign in if it took a session to get there; so it does not, and that is said.
#[tokio::test]
async fn what_such_a_route_says_of_who_may_is_not_asked() -> Result<()> {
    let fronted = Fronted::start(false).await?;
    fronted.sign_in_and_out().await?;
    let warned = |line: &str| line.contains("people sign in behind this route");
    fronted.proxy.log().wait("a warning", warned).await?;
    Ok(())
}

/// A process that signs people in itself does not give its host away.
#[tokio::test]
async fn a_route_of_ones_own_sign_in_host_changes_nothing() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .sign_in(SignIn::Local(vec![developer()]))
        .route(Route::new("auth", &upstream.url()))
        .start()
        .await?;
    let reply = env.client()?.get(&env.url("auth", "/.pomerium/")).await?;
    ensure!(reply.status != 403, "{}", reply.status);
    let reply = env
        .client()?
        .get_with(&env.url("auth", "/elsewhere"), &[("accept", "application/json")])
        .await?;
    ensure!([401, 403].contains(&reply.status.as_u16()), "{}", reply.status);
    ensure!(upstream.take_requests().is_empty(), "nothing got through");
    Ok(())
}
