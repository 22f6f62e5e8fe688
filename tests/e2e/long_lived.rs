//! What stays open over reloads, and what does not: tunnels, streams, listeners.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use pomerium_testing::{Client, Environment, RawClient, Route, Upstream, within};
use pomerium_tests::{scripted, scripted_with};
use serde_json::{Value, json};

use crate::websocket::{Socket, echoes, open_with};

fn route<'a>(config: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let routes = config["routes"].as_array_mut()?;
    routes.iter_mut().find(|route| route["name"] == name)
}

fn remove(config: &mut Value, name: &str) {
    if let Some(routes) = config["routes"].as_array_mut() {
        routes.retain(|route| route["name"] != name);
    }
}

/// Waits until the reload that follows `change` is done.
async fn reload(env: &mut Environment, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mark = env.log().mark();
    env.rewrite_config(change)?;
    let loaded = |line: &str| line.contains("config: loaded configuration");
    env.log().wait_from(mark, "the reload", loaded).await?;
    Ok(())
}

async fn ends(socket: &mut Socket) -> Result<()> {
    within("the end of the socket", async {
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await
}

#[tokio::test]
async fn a_socket_lives_through_reloads_and_ends_with_its_route() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    let mut socket = open_with(&stage.env, &client).await?;
    echoes(&mut socket, "first").await?;
    // Other routes come and go, its own gets another name, another time limit.
    reload(&mut stage.env, |config| remove(config, "admin")).await?;
    echoes(&mut socket, "others").await?;
    reload(&mut stage.env, |config| {
        if let Some(route) = route(config, "ws") {
            route["description"] = "sockets".into();
            route["timeout"] = "1h".into();
        }
    })
    .await?;
    echoes(&mut socket, "itself").await?;
    reload(&mut stage.env, |config| remove(config, "ws")).await?;
    ends(&mut socket).await
}

#[tokio::test]
async fn a_socket_ends_when_its_people_may_no_more_and_lives_when_they_still_may() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    let mut socket = open_with(&stage.env, &client).await?;
    let allow = |config: &mut Value, criterion: Value| {
        if let Some(route) = route(config, "ws").and_then(Value::as_object_mut) {
            route.remove("allow_any_authenticated_user");
            route.insert("policy".into(), json!([{ "allow": { "or": [criterion] } }]));
        }
    };
    reload(&mut stage.env, |config| {
        allow(config, json!({ "domain": { "is": "example.com" } }))
    })
    .await?;
    echoes(&mut socket, "still allowed").await?;
    reload(&mut stage.env, |config| {
        allow(config, json!({ "domain": { "is": "example.org" } }))
    })
    .await?;
    ends(&mut socket).await
}

#[tokio::test]
async fn a_socket_ends_with_its_session() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let mut socket = open_with(&stage.env, &client).await?;
    echoes(&mut socket, "signed in").await?;
    let page = client
        .follow(&stage.env.url("app", "/.pomerium/sign_out"))
        .await?;
    assert!(page.text().contains("signed out"), "{}", page.text());
    ends(&mut socket).await
}

#[tokio::test]
async fn a_streaming_answer_ends_with_its_route() -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .route(Route::new("other", &upstream.url()).public())
        .start()
        .await?;
    let gate = upstream.gate("stream");
    let mut client = env.raw("open").await?;
    let head = format!(
        "GET /gated/stream HTTP/1.1\r\nHost: {}\r\n\r\n",
        env.authority_of("open")
    );
    client.send(head).await?;
    upstream.wait_for(1).await?;
    gate.send("one").await?;
    client.wait_for_bytes(b"one").await?;
    reload(&mut env, |config| remove(config, "other")).await?;
    gate.send("two").await?;
    client.wait_for_bytes(b"two").await?;
    reload(&mut env, |config| config["routes"] = json!([])).await?;
    let rest = client.read_to_close().await?;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "cut, not ended");
    Ok(())
}

/// A request of which more is to come, and which the upstream is being asked already.
async fn begin_upload(env: &Environment, name: &str, more: &str) -> Result<RawClient> {
    let mut client = env.raw(name).await?;
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n{more}\r\n",
        env.authority_of(name)
    );
    client.send(head).await?;
    client.wait_for_bytes(b"100 Continue").await?;
    client.send("5\r\nfirst\r\n").await?;
    Ok(client)
}

/// It gets the answer of a request that may not pass, though it is not through.
async fn is_refused(env: &Environment, mut client: RawClient) -> Result<()> {
    let reply = client.reply(false).await?;
    assert_eq!((reply.status, reply.header("connection")), (403, Some("close")));
    let ended = |line: &Value| line["path"] == "/upload" && line["response-code-details"] == "access_ended";
    env.log().wait_json(0, "the end of the upload", ended).await?;
    Ok(())
}

#[tokio::test]
async fn an_upload_ends_with_its_session() -> Result<()> {
    let stage = scripted_with(|builder| builder.set("timeout_read", "0s")).await?;
    let client = stage.signed_in().await?;
    let handle = client.cookie(&stage.env.url("app", "/"), "_pomerium");
    let cookie = format!("Cookie: _pomerium={}\r\n", handle.context("a session")?);
    let upload = begin_upload(&stage.env, "app", &cookie).await?;
    client
        .follow(&stage.env.url("app", "/.pomerium/sign_out"))
        .await?;
    is_refused(&stage.env, upload).await
}

#[tokio::test]
async fn an_upload_ends_with_its_route() -> Result<()> {
    let mut stage = scripted_with(|builder| builder.set("timeout_read", "0s")).await?;
    let upload = begin_upload(&stage.env, "open", "").await?;
    reload(&mut stage.env, |config| remove(config, "admin")).await?;
    reload(&mut stage.env, |config| remove(config, "open")).await?;
    is_refused(&stage.env, upload).await
}

/// A thousand reloads with a socket open and requests all along: with each something else is changed, of the route that is
/// asked, of another, of all, and now and then the certificate.
#[tokio::test]
async fn a_thousand_reloads_cost_no_request_and_no_socket() -> Result<()> {
    const RELOADS: usize = 1000;
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    let mut socket = open_with(&stage.env, &client).await?;
    let done = AtomicBool::new(false);
    let clients = [stage.env.client()?, stage.env.http1_client()?];
    let url = stage.env.url("open", "/");
    let reloads = async {
        for number in 0..RELOADS {
            let mark = stage.env.log().mark();
            if number % 100 == 0 {
                new_certificate(&stage.env)?;
            }
            stage.env.rewrite_config(|config| change(config, number))?;
            stage.env.signal("HUP").await?;
            let loaded = |line: &str| line.contains("config: loaded configuration");
            stage.env.log().wait_from(mark, "a reload", loaded).await?;
            if number % 100 == 0 {
                echoes(&mut socket, &number.to_string()).await?;
            }
        }
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let load = async |client: &Client| {
        while !done.load(Ordering::Relaxed) {
            anyhow::ensure!(client.get(&url).await?.status == 200);
        }
        Ok(())
    };
    tokio::try_join!(reloads, load(&clients[0]), load(&clients[1]))?;
    echoes(&mut socket, "after all").await?;
    let last = (RELOADS - 1).to_string();
    within("the last of them to count", async {
        while clients[0].get(&url).await?.header("x-reload") != Some(&last) {}
        anyhow::Ok(())
    })
    .await?
}

fn change(config: &mut Value, number: usize) {
    for name in ["open", "ws", "admin"] {
        if let Some(route) = route(config, name) {
            route["description"] = format!("version {number}").into();
        }
    }
    if let Some(route) = route(config, "open") {
        route["timeout"] = format!("{}s", 30 + number % 7).into();
        route["set_response_headers"] = json!({ "X-Reload": number.to_string() });
    }
    config["timeout_idle"] = format!("{}s", 300 + number % 5).into();
}

fn new_certificate(env: &Environment) -> Result<()> {
    let leaf = env.authority().issue(&["*.example.com"])?;
    std::fs::write(env.folder().join("server.key"), leaf.key_pem)?;
    std::fs::write(env.folder().join("server.pem"), leaf.certificate_pem)?;
    Ok(())
}

#[tokio::test]
async fn the_listener_moves_and_open_connections_stay() -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let old = env.address();
    let mut kept = env.raw("open").await?;
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", env.authority_of("open"));
    kept.send(&get).await?;
    assert_eq!(kept.reply(false).await?.status, 200);
    let new = pomerium_testing::lease()?;
    let address = format!("127.0.0.1:{}", new.number());
    reload(&mut env, |config| config["address"] = address.clone().into()).await?;
    let mut moved = RawClient::connect_tls(
        address.parse()?,
        None,
        env.authority(),
        "open.example.com",
        &["http/1.1"],
    )
    .await?;
    moved.send(&get).await?;
    assert_eq!(moved.reply(false).await?.status, 200);
    kept.send(&get).await?;
    assert_eq!(kept.reply(false).await?.status, 200);
    within("the old address to be gone", async {
        while tokio::net::TcpStream::connect(old).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    // An address that is taken is refused, and everything stays.
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let wrong = taken.local_addr()?.to_string();
    let mark = env.log().mark();
    env.rewrite_config(|config| config["address"] = wrong.clone().into())?;
    let refused = |line: &str| line.contains("cannot listen on") && line.contains("stays in force");
    env.log().wait_from(mark, "the refusal", refused).await?;
    moved.send(&get).await?;
    assert_eq!(moved.reply(false).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn plain_http_and_the_redirect_listener_come_and_go_with_a_reload() -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let redirect = pomerium_testing::lease()?;
    let address = format!("127.0.0.1:{}", redirect.number());
    reload(&mut env, |config| {
        config["http_redirect_addr"] = address.clone().into();
        config["insecure_server"] = true.into();
    })
    .await?;
    let mut plain = RawClient::connect(env.address(), None).await?;
    let get = format!(
        "GET /x HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        env.authority_of("open")
    );
    plain.send(&get).await?;
    assert_eq!(plain.reply(false).await?.status, 200);
    let mut client = RawClient::connect(address.parse()?, None).await?;
    client.send(&get).await?;
    let reply = client.reply(false).await?;
    assert_eq!(
        (reply.status, reply.header("location")),
        (301, Some("https://open.example.com/x"))
    );
    reload(&mut env, |config| config["http_redirect_addr"] = "".into()).await?;
    within("the listener to close", async {
        while tokio::net::TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The way Kubernetes changes a mounted folder: the files are links into a folder that is itself a link, and that
/// one is exchanged.
#[tokio::test]
async fn a_folder_that_is_exchanged_behind_links_is_noticed() -> Result<()> {
    let mut env = {
        let upstream = Upstream::start().await?;
        Environment::builder()?
            .route(Route::new("open", &upstream.url()).public())
            .start()
            .await?
    };
    env.kill().await?;
    let folder = env.folder().to_path_buf();
    let put = |name: &str, text: &str| -> Result<()> {
        let version = folder.join(name);
        std::fs::create_dir(&version)?;
        std::fs::write(version.join("config.yaml"), text)?;
        let link = folder.join("..data_tmp");
        std::os::unix::fs::symlink(name, &link)?;
        Ok(std::fs::rename(link, folder.join("..data"))?)
    };
    let mut config = env.config().clone();
    put("..one", &config.to_string())?;
    std::fs::remove_file(folder.join("config.yaml"))?;
    std::os::unix::fs::symlink("..data/config.yaml", folder.join("config.yaml"))?;
    env.start_again().await?;
    let moved = config["routes"][0]["from"]
        .as_str()
        .context("from")?
        .replace("open", "moved");
    config["routes"][0]["from"] = moved.into();
    config["routes"][0]["response"] = json!({ "status": 200, "body": "moved" });
    config["routes"][0]
        .as_object_mut()
        .context("a route")?
        .remove("to");
    let mark = env.log().mark();
    put("..two", &config.to_string())?;
    let loaded = |line: &str| line.contains("config: loaded configuration");
    env.log().wait_from(mark, "the reload", loaded).await?;
    assert_eq!(env.client()?.get(&env.url("moved", "/")).await?.text(), "moved");
    Ok(())
}
