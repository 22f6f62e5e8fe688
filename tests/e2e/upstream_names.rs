//! Names of upstreams, answered by a real name server on a socket: each `dns_*` key has its effect.

use std::time::Duration;

use anyhow::{Context, Result};
use pomerium_testing::{
    Client, Environment, EnvironmentBuilder, NameServer, Port, Route, Says, Upstream, lease, within,
};
use serde_json::json;

const NAME: &str = "app.internal.test";

/// A route to [`NAME`], which `server` knows.
fn described(server: &NameServer, port: &Port) -> Result<EnvironmentBuilder> {
    let to = format!("http://{NAME}:{}", port.number());
    Ok(Environment::builder()?
        .set("dns_resolvers", json!([server.udp_url()]))
        .set("dns_failure_refresh_rate", "100ms")
        .route(Route::new("open", &to).public()))
}

async fn upstream(host: u8, port: &Port) -> Result<Upstream> {
    let upstream = Upstream::start_at(&format!("127.0.0.{host}:{}", port.number())).await?;
    upstream.reply_with(200, &[], &host.to_string());
    Ok(upstream)
}

struct Asker<'a> {
    env: &'a Environment,
    client: Client,
}

impl<'a> Asker<'a> {
    fn new(env: &'a Environment) -> Result<Asker<'a>> {
        let client = env.http1_client()?;
        Ok(Asker { env, client })
    }

    /// Status and body.
    async fn ask(&self) -> Result<(u16, String)> {
        let reply = self.client.get(&self.env.url("open", "/")).await?;
        Ok((reply.status.as_u16(), reply.text()))
    }

    /// Asks until the answer is this one.
    async fn until(&self, status: u16, body: &str) -> Result<()> {
        within(&format!("the answer {status} {body}"), async {
            loop {
                let (got, text) = self.ask().await?;
                if got == status && (body.is_empty() || text == body) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await?
    }
}

#[tokio::test]
async fn every_address_of_a_name_has_its_turn_and_a_change_is_picked_up() -> Result<()> {
    let (server, port) = (NameServer::start().await?, lease()?);
    let (_two, _three, _four) = (
        upstream(2, &port).await?,
        upstream(3, &port).await?,
        upstream(4, &port).await?,
    );
    server.addresses(NAME, &["127.0.0.2", "127.0.0.3"], 1);
    let env = described(&server, &port)?.start().await?;
    assert_eq!(server.asked(), [], "nothing is asked before it is needed");
    let asker = Asker::new(&env)?;
    let mut seen = String::new();
    for _ in 0..4 {
        seen.push_str(&asker.ask().await?.1);
    }
    assert!(seen == "2323" || seen == "3232", "{seen}");
    assert_eq!(server.asked().len(), 1, "one question for many requests");
    server.addresses(NAME, &["127.0.0.4"], 1);
    asker.until(200, "4").await?;
    for _ in 0..4 {
        assert_eq!(asker.ask().await?, (200, "4".into()));
    }
    Ok(())
}

#[tokio::test]
async fn a_failing_name_server_changes_nothing_and_an_empty_answer_is_503() -> Result<()> {
    let (server, port) = (NameServer::start().await?, lease()?);
    let _two = upstream(2, &port).await?;
    server.addresses(NAME, &["127.0.0.2"], 1);
    let env = described(&server, &port)?.start().await?;
    let asker = Asker::new(&env)?;
    assert_eq!(asker.ask().await?, (200, "2".into()));
    server.say(NAME, Says::Failure);
    server.wait_for_more(8).await?;
    assert_eq!(
        asker.ask().await?,
        (200, "2".into()),
        "the last good answer serves on"
    );
    server.say(NAME, Says::Nothing);
    asker.until(503, "").await?;
    let line = env
        .log()
        .wait_json(0, "no healthy upstream", |line| {
            line["response-code-details"] == "no_healthy_upstream"
        })
        .await?;
    assert_eq!(line["response-code"], 503);
    server.addresses(NAME, &["127.0.0.2"], 1);
    asker.until(200, "2").await
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_at_first_is_found_later() -> Result<()> {
    let (server, port) = (NameServer::start().await?, lease()?);
    let _two = upstream(2, &port).await?;
    server.say(NAME, Says::Failure);
    let env = described(&server, &port)?.start().await?;
    let asker = Asker::new(&env)?;
    assert_eq!(asker.ask().await?.0, 503);
    server.addresses(NAME, &["127.0.0.2"], 60);
    asker.until(200, "2").await
}

/// Which families are asked for with `family`, for a name with both, and who answers.
async fn with_family(family: &str, addresses: &[&str]) -> Result<(Vec<bool>, u16)> {
    let (server, port) = (NameServer::start().await?, lease()?);
    let _v4 = upstream(2, &port).await?;
    server.addresses(NAME, addresses, 60);
    let env = described(&server, &port)?
        .set("dns_lookup_family", family)
        .start()
        .await?;
    let status = Asker::new(&env)?.ask().await?.0;
    let asked = server.asked().into_iter().filter(|asked| asked.name == NAME);
    Ok((asked.map(|asked| asked.v6).collect(), status))
}

#[tokio::test]
async fn dns_lookup_family_says_what_is_asked_for() -> Result<()> {
    let (v4, v6) = (false, true);
    assert_eq!(with_family("V4_ONLY", &["127.0.0.2"]).await?, (vec![v4], 200));
    assert_eq!(
        with_family("V4_PREFERRED", &["127.0.0.2"]).await?,
        (vec![v4], 200)
    );
    assert_eq!(with_family("AUTO", &["127.0.0.2"]).await?, (vec![v6, v4], 200));
    assert_eq!(with_family("ALL", &["127.0.0.2"]).await?, (vec![v4, v6], 200));
    assert_eq!(with_family("V6_ONLY", &["127.0.0.2"]).await?.1, 503);
    Ok(())
}

#[tokio::test]
async fn dns_use_tcp_and_tcp_servers_ask_over_tcp_only() -> Result<()> {
    for (use_tcp, tcp_url) in [(true, false), (false, true)] {
        let (server, port) = (NameServer::start().await?, lease()?);
        let _two = upstream(2, &port).await?;
        server.addresses(NAME, &["127.0.0.2"], 60);
        let url = if tcp_url {
            server.tcp_url()
        } else {
            server.udp_url()
        };
        let env = described(&server, &port)?
            .set("dns_resolvers", json!([url]))
            .set("dns_use_tcp", use_tcp)
            .start()
            .await?;
        assert_eq!(Asker::new(&env)?.ask().await?.0, 200);
        let asked = server.asked();
        assert!(
            !asked.is_empty() && asked.iter().all(|asked| asked.tcp),
            "{asked:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn dns_query_timeout_and_tries_bound_the_wait() -> Result<()> {
    let (server, port) = (NameServer::start().await?, lease()?);
    server.say(NAME, Says::Silence);
    let env = described(&server, &port)?
        .set("dns_lookup_family", "V4_ONLY")
        .set("dns_query_timeout", "200ms")
        .set("dns_query_tries", 2)
        .set("dns_failure_refresh_rate", "1h")
        .start()
        .await?;
    let asker = Asker::new(&env)?;
    assert_eq!(asker.ask().await?.0, 503);
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
    assert_eq!(asker.ask().await?.0, 503);
    assert_eq!(
        server.asked().len(),
        2,
        "not again before its time: {:?}",
        server.asked()
    );
    Ok(())
}

#[tokio::test]
async fn dns_refresh_rate_counts_where_there_is_no_ttl() -> Result<()> {
    let (server, port) = (NameServer::start().await?, lease()?);
    let _two = upstream(2, &port).await?;
    server.addresses(NAME, &["127.0.0.2"], 0);
    let env = described(&server, &port)?
        .set("dns_refresh_rate", "50ms")
        .start()
        .await?;
    assert_eq!(Asker::new(&env)?.ask().await?.0, 200);
    server.wait_for_more(5).await
}

#[tokio::test]
async fn a_ttl_is_waited_for_whatever_the_refresh_rate() -> Result<()> {
    let (server, port) = (NameServer::start().await?, lease()?);
    let _two = upstream(2, &port).await?;
    server.addresses(NAME, &["127.0.0.2"], 3600);
    server.addresses("other.internal.test", &["127.0.0.2"], 0);
    let other = format!("http://other.internal.test:{}", port.number());
    let env = described(&server, &port)?
        .set("dns_refresh_rate", "50ms")
        .route(Route::new("other", &other).public())
        .start()
        .await?;
    let client = env.http1_client()?;
    for name in ["open", "other"] {
        assert_eq!(client.get(&env.url(name, "/")).await?.status.as_u16(), 200);
    }
    server.wait_for_more(5).await?;
    let asked = server.asked();
    assert_eq!(
        asked.iter().filter(|asked| asked.name == NAME).count(),
        1,
        "{asked:?}"
    );
    Ok(())
}

#[tokio::test]
async fn changed_name_servers_count_without_a_restart() -> Result<()> {
    let (old, new, port) = (NameServer::start().await?, NameServer::start().await?, lease()?);
    let (_two, _three) = (upstream(2, &port).await?, upstream(3, &port).await?);
    old.addresses(NAME, &["127.0.0.2"], 3600);
    new.addresses(NAME, &["127.0.0.3"], 3600);
    let mut env = described(&old, &port)?.start().await?;
    assert_eq!(Asker::new(&env)?.ask().await?, (200, "2".into()));
    env.rewrite_config(|config| config["dns_resolvers"] = json!([new.udp_url()]))?;
    Asker::new(&env)?.until(200, "3").await
}

#[tokio::test]
async fn each_question_has_a_socket_of_its_own() -> Result<()> {
    // `dns_udp_max_queries` is the most questions on one socket: never more than one here.
    let (server, port) = (NameServer::start().await?, lease()?);
    let _two = upstream(2, &port).await?;
    server.addresses(NAME, &["127.0.0.2"], 0);
    let env = described(&server, &port)?
        .set("dns_udp_max_queries", 1)
        .set("dns_refresh_rate", "20ms")
        .start()
        .await?;
    assert_eq!(Asker::new(&env)?.ask().await?.0, 200);
    server.wait_for_more(4).await?;
    let ports: std::collections::HashSet<_> = server.asked().iter().map(|asked| asked.from).collect();
    let asked = server.asked().len();
    assert!(
        ports.len() + 1 >= asked,
        "{asked} questions from {} ports",
        ports.len()
    );
    let first = ports.into_iter().next().context("no question")?;
    assert!(first.ip().is_loopback());
    Ok(())
}
