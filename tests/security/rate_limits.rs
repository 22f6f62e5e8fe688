//! `rate_limit`: who asks too often is told when to come back, and finds no way around it.

use anyhow::Result;
use pomerium_testing::{Client, ClientOptions, Environment, Route, Upstream};
use pomerium_tests::{scripted, scripted_with};
use serde_json::{Value, json};

async fn stage(limit: Value) -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(
            Route::new("open", &upstream.url())
                .public()
                .set("rate_limit", limit),
        )
        .route(Route::new("free", &upstream.url()).public())
        .start()
        .await?;
    Ok((env, upstream))
}

fn from(env: &Environment, last: u8) -> Result<Client> {
    env.client_with(&ClientOptions {
        source: Some([127, 0, 0, last].into()),
        ..ClientOptions::default()
    })
}

async fn status(client: &Client, env: &Environment, name: &str) -> Result<u16> {
    Ok(client.get(&env.url(name, "/")).await?.status.as_u16())
}

#[tokio::test]
async fn a_client_over_its_limit_is_told_when_to_come_back() -> Result<()> {
    let (env, upstream) = stage(json!({ "requests": 1, "per": "1h", "burst": 3 })).await?;
    let client = env.client()?;
    for _ in 0..3 {
        assert_eq!(status(&client, &env, "open").await?, 200);
    }
    let page = client
        .get_with(&env.url("open", "/"), &[("accept", "text/html")])
        .await?;
    assert_eq!(page.status, 429);
    let wait: u32 = page.header("retry-after").unwrap_or_default().parse()?;
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert!(page.text().contains("Too many requests"), "{}", page.text());
    let answer = client
        .get_with(&env.url("open", "/"), &[("accept", "application/json")])
        .await?;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()?["status"], "429");
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = client
        .send(
            http::Method::POST,
            &env.url("open", "/s/m"),
            &grpc,
            bytes::Bytes::new(),
        )
        .await?;
    assert_eq!(
        (answer.status.as_u16(), answer.header("grpc-status")),
        (200, Some("8"))
    );
    assert_eq!(upstream.take_requests().len(), 3);
    // Others, and other routes, have their own.
    assert_eq!(status(&from(&env, 2)?, &env, "open").await?, 200);
    assert_eq!(status(&client, &env, "free").await?, 200);
    env.log()
        .wait_json(0, "the access log", |line| {
            line["message"] == "http-request"
                && line["response-code"] == 429
                && line["response-code-details"] == "local_rate_limited"
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn nothing_a_client_sends_makes_it_another_client() -> Result<()> {
    let (env, upstream) = stage(json!({ "requests": 1, "per": "1h" })).await?;
    let client = env.client()?;
    assert_eq!(status(&client, &env, "open").await?, 200);
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "2001:db8::1, 192.0.2.1"),
        ("x-real-ip", "192.0.2.1"),
        ("x-client-ip", "192.0.2.1"),
        ("true-client-ip", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("x-envoy-external-address", "192.0.2.1"),
        ("cookie", "_pomerium=another"),
        ("user-agent", "kube-probe/1.0"),
        ("authorization", "Bearer x"),
    ] {
        let reply = client.get_with(&env.url("open", "/"), &[(name, value)]).await?;
        assert_eq!(reply.status, 429, "{name}: {value}");
    }
    for path in ["/other", "/?query", "//", "/./", "/%61"] {
        assert_eq!(client.get(&env.url("open", path)).await?.status, 429, "{path}");
    }
    assert_eq!(env.http1_client()?.get(&env.url("open", "/")).await?.status, 429);
    assert_eq!(upstream.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_clients_it_names_are_counted() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set("trusted_proxies", json!(["127.0.0.0/8"]))
        .set("rate_limit", json!({ "requests": 1, "per": "1h" }))
        .route(Route::new("open", &upstream.url()).public())
        .route(Route::new("more", &upstream.url()).public())
        .start()
        .await?;
    let client = env.client()?;
    let ask = async |name: &str, client_ip: &str| -> Result<u16> {
        let headers = [("x-forwarded-for", client_ip)];
        Ok(client
            .get_with(&env.url(name, "/"), &headers)
            .await?
            .status
            .as_u16())
    };
    assert_eq!(ask("open", "192.0.2.1").await?, 200);
    assert_eq!(ask("open", "192.0.2.1").await?, 429);
    assert_eq!(ask("open", "192.0.2.2").await?, 200);
    // One bucket for all routes under the global limit; what the client itself wrote stands further left.
    assert_eq!(ask("more", "192.0.2.2").await?, 429);
    assert_eq!(ask("open", "192.0.2.77, 192.0.2.2").await?, 429);
    // IPv6 clients own a /64 at the least.
    assert_eq!(ask("open", "2001:db8:0:1::1").await?, 200);
    assert_eq!(ask("open", "2001:db8:0:1:ffff::2").await?, 429);
    assert_eq!(ask("open", "2001:db8:0:2::1").await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_user_is_counted_over_all_sessions_and_addresses() -> Result<()> {
    let stage = scripted_with(|builder| {
        builder.set(
            "rate_limit",
            json!({ "requests": 1, "per": "1h", "burst": 4, "key": "user" }),
        )
    })
    .await?;
    // Each sign-in ends with one request to the route, made by the person.
    let first = stage.signed_in().await?;
    let second = stage.signed_in().await?;
    assert_eq!(stage.api(&first, "app", "/").await?.status, 200);
    let mut last = 200;
    for _ in 0..4 {
        last = stage.api(&second, "app", "/").await?.status.as_u16();
    }
    assert_eq!(last, 429, "the same person");
    assert_eq!(stage.api(&first, "app", "/").await?.status, 429);
    Ok(())
}

#[tokio::test]
async fn a_route_is_counted_over_all_clients() -> Result<()> {
    let (env, _upstream) = stage(json!({ "requests": 1, "per": "1h", "burst": 2, "key": "route" })).await?;
    assert_eq!(status(&from(&env, 2)?, &env, "open").await?, 200);
    assert_eq!(status(&from(&env, 3)?, &env, "open").await?, 200);
    assert_eq!(status(&from(&env, 4)?, &env, "open").await?, 429);
    assert_eq!(status(&from(&env, 4)?, &env, "free").await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_reload_forgives_nobody() -> Result<()> {
    let (mut env, _upstream) = stage(json!({ "requests": 1, "per": "1h" })).await?;
    let client = env.client()?;
    assert_eq!(status(&client, &env, "open").await?, 200);
    let reload = async |env: &mut Environment, change: &dyn Fn(&mut Value)| -> Result<()> {
        let mark = env.log().mark();
        env.rewrite_config(change)?;
        let loaded = |line: &str| line.contains("config: loaded configuration");
        env.log().wait_from(mark, "the reload", loaded).await?;
        Ok(())
    };
    reload(&mut env, &|config| {
        config["routes"][0]["description"] = "changed".into()
    })
    .await?;
    assert_eq!(status(&client, &env, "open").await?, 429);
    reload(&mut env, &|config| {
        config["routes"][0]["rate_limit"]["requests"] = 2.into()
    })
    .await?;
    assert_eq!(status(&client, &env, "open").await?, 200);
    Ok(())
}

#[tokio::test]
async fn many_clients_at_once_get_no_more_than_the_limit() -> Result<()> {
    let (env, upstream) = stage(json!({ "requests": 1, "per": "1h", "burst": 10, "key": "route" })).await?;
    let ask = async || -> Result<usize> {
        let client = env.client()?;
        let mut passed = 0;
        for _ in 0..10 {
            passed += usize::from(status(&client, &env, "open").await? == 200);
        }
        Ok(passed)
    };
    let (a, b, c, d) = tokio::try_join!(ask(), ask(), ask(), ask())?;
    assert_eq!(a + b + c + d, 10);
    assert_eq!(upstream.requests().len(), 10);
    Ok(())
}

#[tokio::test]
async fn without_a_limit_nobody_is_limited() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    for _ in 0..200 {
        assert_eq!(stage.api(&client, "open", "/").await?.status, 200);
    }
    Ok(())
}
