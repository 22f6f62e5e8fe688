//! gRPC: trailers pass, over TLS and over clear HTTP/2 upstream.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use pomerium_testing::{Account, Authority, Environment, RawUpstream, Route, SignIn, Step, Upstream, lease};
use serde_json::json;

use crate::grpc_parts::{Grpc, calls};

/// One call over HTTP/2; the body's bytes and the trailers.
async fn call(env: &Environment, message: &'static [u8]) -> Result<(Vec<u8>, http::HeaderMap)> {
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(env.address()).await?;
    let name = rustls::pki_types::ServerName::try_from("open.example.com")?;
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, stream)
        .await?;
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::post(env.url("open", "/echo.Echo/Unary"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(message), true)?;
    let response = response.await?;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        bytes.extend_from_slice(&part?);
    }
    let trailers = body.trailers().await?.context("no trailers")?;
    Ok((bytes, trailers))
}

#[tokio::test]
async fn a_call_comes_back_with_its_trailers() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let authority = Authority::new()?;
    let message = b"\x00\x00\x00\x00\x05hello";
    let plain = Upstream::start().await?;
    let tls = Upstream::start_tls(&authority, &["127.0.0.1"], true).await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("ca.pem"), authority.pem())?;
    for (upstream, url) in [(&plain, plain.h2c_url()), (&tls, tls.url())] {
        let ca = folder.path().join("ca.pem").display().to_string();
        let route = Route::new("open", &url).public().set("tls_custom_ca_file", ca);
        let env = Environment::builder()?.route(route).start().await?;
        let (bytes, trailers) = call(&env, message).await.with_context(|| url.clone())?;
        assert_eq!(bytes, message);
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["echo-bin"], "AP8K");
        assert_eq!(upstream.requests()[0].version, "HTTP/2.0");
        assert_eq!(upstream.requests()[0].header("te"), Some("trailers"));
    }
    Ok(())
}

/// gRPC's own server, over TLS or without.
async fn behind_server(tls: bool) -> Result<(Environment, Grpc)> {
    pomerium_testing::install_crypto_provider();
    let (authority, folder) = (Authority::new()?, tempfile::tempdir()?);
    let leaf = authority.issue(&["127.0.0.1"])?;
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("server.pem"), &leaf.certificate_pem)?;
    std::fs::write(file("server.key"), &leaf.key_pem)?;
    let (chain, key) = (file("server.pem"), file("server.key"));
    let server = Grpc::start(tls.then_some((chain.as_path(), key.as_path()))).await?;
    let to = format!("{}://{}", if tls { "https" } else { "h2c" }, server.address);
    let ca = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority.pem());
    let route = |name: &str| {
        let route = Route::new(name, &to)
            .public()
            .set("timeout", "0s")
            .set("idle_timeout", "0s");
        if tls {
            route.set("tls_custom_ca", ca.clone())
        } else {
            route
        }
    };
    let env = Environment::builder()?
        .sign_in(SignIn::Local(vec![Account::new("anna", "correct horse battery")]))
        .route(route("open"))
        .route(route("short").set("timeout", "1s"))
        .route(Route::new("closed", &to).any_user())
        .route(Route::new("http", &format!("http://{}", server.address)).public())
        .start()
        .await?;
    Ok((env, server))
}

#[tokio::test]
async fn calls_of_every_kind_pass() -> Result<()> {
    for tls in [false, true] {
        let (env, _server) = behind_server(tls).await?;
        let results = calls(
            &env,
            "open",
            &[
                "Unary|unary|hello|20",
                "ServerStream|server|3|20",
                "ClientStream|client|1,2,3|20",
                "Both|both|ab,cd,ef|20",
            ],
        )
        .await?;
        for (result, answers) in results.iter().zip([
            json!(["hello"]),
            json!(["0", "1", "2"]),
            json!(["6"]),
            json!(["ba", "dc", "fe"]),
        ]) {
            ensure!(result["code"] == "OK" && result["answers"] == answers, "{result}");
        }
        let trailers = &results[0]["trailers"];
        ensure!(
            trailers["echo-bin"] == "00ff0a" && trailers["seen"] == "what",
            "{trailers}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn statuses_and_deadlines_of_the_server_pass() -> Result<()> {
    let (env, server) = behind_server(false).await?;
    let results = calls(
        &env,
        "open",
        &[
            "Fail|unary|NOT_FOUND nothing: here; at 100 %|20",
            "Fail|unary|RESOURCE_EXHAUSTED later|20",
            "Halfway|server|x|20",
            "Deadline|unary|x|15",
            "Missing|unary|x|20",
            "Slow|unary|x|0.5",
        ],
    )
    .await?;
    let is = |at: usize, code: &str, message: &str| {
        let result = &results[at];
        result["code"] == code
            && result["message"]
                .as_str()
                .is_some_and(|text| text.contains(message))
    };
    ensure!(is(0, "NOT_FOUND", "nothing: here; at 100 %"), "{}", results[0]);
    ensure!(is(1, "RESOURCE_EXHAUSTED", "later"), "{}", results[1]);
    ensure!(
        is(2, "DATA_LOSS", "halfway") && results[2]["answers"] == json!(["first"]),
        "{}",
        results[2]
    );
    let left: f64 = results[3]["answers"][0].as_str().unwrap_or_default().parse()?;
    ensure!(
        left > 0.0 && left < 20.0,
        "the deadline reaches the server: {left}"
    );
    ensure!(results[4]["code"] == "UNIMPLEMENTED", "{}", results[4]);
    ensure!(results[5]["code"] == "DEADLINE_EXCEEDED", "{}", results[5]);
    // A call that is given up is given up upstream too.
    let cancelled = |line: &serde_json::Value| line["cancelled"] == true;
    let line = server
        .output()
        .wait_json(0, "the end of the call", cancelled)
        .await?;
    ensure!(line["deadline"] == true);
    Ok(())
}

#[tokio::test]
async fn answers_of_the_proxy_are_grpc_statuses() -> Result<()> {
    let (env, _server) = behind_server(false).await?;
    let late = calls(&env, "short", &["Slow|unary|x|20"]).await?;
    ensure!(late[0]["code"] == "DEADLINE_EXCEEDED", "{}", late[0]);
    ensure!(
        late[0]["message"]
            .as_str()
            .is_some_and(|text| text.contains("response_timeout")),
        "{}",
        late[0]
    );
    let stranger = calls(&env, "closed", &["Unary|unary|x|20"]).await?;
    ensure!(stranger[0]["code"] == "UNAUTHENTICATED", "{}", stranger[0]);
    // gRPC over HTTP/1.1 does not work, and says so.
    let broken = calls(&env, "http", &["Unary|unary|x|20"]).await?;
    ensure!(broken[0]["code"] == "INTERNAL", "{}", broken[0]);
    ensure!(
        broken[0]["message"]
            .as_str()
            .is_some_and(|text| text.contains("protocol_error")),
        "{}",
        broken[0]
    );
    Ok(())
}

#[tokio::test]
async fn an_application_that_is_gone_is_a_grpc_status() -> Result<()> {
    let nobody = lease()?;
    let closing = RawUpstream::start(vec![
        Step::Write(vec![0, 0, 0, 4, 0, 0, 0, 0, 0]),
        Step::ReadFrame(1),
        Step::Close,
    ])
    .await?;
    let cases = [
        (
            format!("h2c://127.0.0.1:{}", nobody.number()),
            "UNAVAILABLE",
            "connection_failure",
        ),
        (
            closing.url().replace("http://", "h2c://"),
            "CANCELLED",
            "connection_termination",
        ),
    ];
    for (to, code, details) in cases {
        let env = Environment::builder()?
            .route(Route::new("open", &to).public())
            .start()
            .await?;
        let result = calls(&env, "open", &["Unary|unary|x|20"]).await?;
        ensure!(result[0]["code"] == code, "{}", result[0]);
        ensure!(
            result[0]["message"]
                .as_str()
                .is_some_and(|text| text.contains(details)),
            "{}",
            result[0]
        );
    }
    Ok(())
}
