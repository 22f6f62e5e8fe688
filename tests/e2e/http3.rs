//! HTTP/3 through the real program, with three clients of other implementations: one of Python, one of Rust, and
//! Chromium.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use pomerium_testing::{Browser, Environment, Http3Client, Look, Route, Upstream, tools};
use pomerium_tests::{developer, local_with};
use serde_json::Value;

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .set("codec_type", "http3")
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    Ok((env, upstream))
}

#[tokio::test]
async fn a_client_of_another_implementation_asks_sends_and_moves() -> Result<()> {
    let (env, upstream) = stage().await?;
    let authority = env.folder().join("authority.pem");
    std::fs::write(&authority, env.authority().pem())?;
    let mut command = tools::python("http3.py")?;
    command
        .args([&env.port().to_string(), "open.example.com"])
        .arg(&authority);
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    let seen: Value = serde_json::from_str(&said).with_context(|| format!("{said}\n{told}"))?;
    for part in ["get", "post", "moved"] {
        ensure!(seen[part]["status"] == 200, "{part}: {seen}\n{told}");
    }
    ensure!(seen["ports"][0] != seen["ports"][1], "it moved: {seen}");
    let many = seen["many"].as_array().context("many answers")?;
    ensure!(
        many.len() == 50 && many.iter().all(|status| status == 200),
        "{seen}"
    );
    let paths: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| request.target.clone())
        .collect();
    ensure!(paths.iter().any(|path| path == "/moved"), "{paths:?}");
    Ok(())
}

#[tokio::test]
async fn codec_type_http3_is_told_over_tcp_and_goes_with_the_key() -> Result<()> {
    let (mut env, _upstream) = stage().await?;
    let client = env.client()?;
    let url = env.url("open", "/");
    let told = format!("h3=\":{}\"; ma=86400", env.port());
    ensure!(client.get(&url).await?.header("alt-svc") == Some(told.as_str()));
    let http3 = Http3Client::connect(env.address(), env.authority(), "open.example.com").await?;
    let reply = http3.get(&url).await?;
    ensure!(reply.status == 200 && !reply.headers.contains_key("alt-svc"));

    let mark = env.log().mark();
    env.rewrite_config(|config| config["codec_type"] = "auto".into())?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    ensure!(client.get(&url).await?.header("alt-svc").is_none());
    ensure!(http3.get(&url).await?.status == 200, "who is there stays");
    let newcomer = Http3Client::connect(env.address(), env.authority(), "open.example.com").await;
    ensure!(newcomer.is_err(), "who comes is turned away");
    Ok(())
}

/// Behind something that maps ports, people reach another one.
#[tokio::test]
async fn another_port_is_told_where_one_is_set() -> Result<()> {
    let (mut env, _upstream) = stage().await?;
    let (client, url) = (env.client()?, env.url("open", "/"));
    for port in [443, 8443] {
        let mark = env.log().mark();
        env.rewrite_config(|config| config["http3_advertise_port"] = port.into())?;
        env.log()
            .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
            .await?;
        let told = format!("h3=\":{port}\"; ma=86400");
        ensure!(client.get(&url).await?.header("alt-svc") == Some(told.as_str()));
    }
    Ok(())
}

/// One address that cannot be had, and nothing of the new configuration counts.
#[tokio::test]
async fn a_busy_udp_port_refuses_the_whole_reload() -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let (client, url) = (env.client()?, env.url("open", "/"));
    let redirect = pomerium_testing::lease()?;
    let busy = std::net::UdpSocket::bind(env.address())?;
    let mark = env.log().mark();
    env.rewrite_config(|config| {
        config["codec_type"] = "http3".into();
        config["http_redirect_addr"] = format!("127.0.0.1:{}", redirect.number()).into();
        config["set_response_headers"] = serde_json::json!({ "X-Version": "2" });
    })?;
    let refused = env
        .log()
        .wait_from(mark, "the refusal", |line| {
            line.contains("the previous configuration stays in force")
        })
        .await?;
    ensure!(refused.contains("for HTTP/3"), "{refused}");
    let reply = client.get(&url).await?;
    ensure!(reply.status == 200 && reply.header("alt-svc").is_none() && reply.header("x-version").is_none());
    let nobody = std::net::TcpStream::connect(("127.0.0.1", redirect.number()));
    ensure!(nobody.is_err(), "no part of it is in force");

    drop(busy);
    let mark = env.log().mark();
    env.signal("HUP").await?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    let reply = client.get(&url).await?;
    ensure!(reply.header("alt-svc").is_some() && reply.header("x-version") == Some("2"));
    std::net::TcpStream::connect(("127.0.0.1", redirect.number()))?;
    let http3 = Http3Client::connect(env.address(), env.authority(), "open.example.com").await?;
    ensure!(http3.get(&url).await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn large_bodies_pass_whole() -> Result<()> {
    let (env, upstream) = stage().await?;
    let http3 = Http3Client::connect(env.address(), env.authority(), "open.example.com").await?;
    let body = Bytes::from(vec![b'x'; 20_000_000]);
    let request = Request::post(env.url("open", "/upload")).body(body.clone())?;
    ensure!(http3.send(request).await?.status == 200);
    let seen = upstream.requests().pop().context("the upstream was asked")?;
    ensure!(seen.body.len() == body.len(), "{}", seen.body.len());
    http3.move_to_new_port()?;
    ensure!(http3.get(&env.url("open", "/after")).await?.status == 200);
    Ok(())
}

/// The key of the listener's certificate as Chromium wants it: SHA-256 in base64.
async fn key_digest(env: &Environment) -> Result<String> {
    let script = "openssl x509 -in \"$0\" -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64";
    let output = tokio::process::Command::new("sh")
        .args(["-c", script])
        .arg(env.folder().join("server.pem"))
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[tokio::test]
async fn chromium_signs_in_over_http3() -> Result<()> {
    let stage = local_with(|builder| builder.set("codec_type", "http3")).await?;
    let port = stage.env.port();
    let origins = format!("app.example.com:{port},auth.example.com:{port}");
    let browser = Browser::start_with_http3(&origins, &key_digest(&stage.env).await?).await?;
    let page = browser.open(Look::DESKTOP).await?;
    page.goto(&stage.env.url("app", "/inside")).await?;
    let arrived = page
        .sign_in("developer@example.com", developer().password())
        .await?;
    ensure!(arrived == stage.env.url("app", "/inside"), "{arrived}");
    let protocol = page
        .evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        .await?;
    ensure!(protocol == "h3", "{protocol}");
    let request = stage
        .upstream
        .requests()
        .pop()
        .context("the application was asked")?;
    ensure!(request.header("x-pomerium-claim-email") == Some("developer@example.com"));
    Ok(())
}
