//! Every kind of probe against a real server: what it sends, what it accepts, how it connects.

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Authority, Environment, RawUpstream, Recorded, Step, Upstream, lease};
use serde_json::{Value, json};

use super::{HEALTHY, UNHEALTHY, behind, check, http, route, told, with};
use crate::grpc_parts::Grpc;

/// The first probe that an upstream of its own got for a check, and the name of the cluster.
async fn probed(check: Value) -> Result<(Recorded, String)> {
    let upstream = Upstream::start().await?;
    let env = behind(&[upstream.url()], &[check]).await?;
    told(env.log(), 0, HEALTHY, upstream.address()).await?;
    let cluster = env.log().json().into_iter().find_map(|line| {
        (line["message"] == HEALTHY).then(|| line["cluster"].as_str().unwrap_or_default().to_owned())
    });
    let first = upstream.take_requests().into_iter().next().context("no probe")?;
    Ok((first, cluster.context("no cluster")?))
}

/// Which answers count as what: the word in the log about the first probe.
async fn judged(upstream: &Upstream, check: Value) -> Result<(bool, String)> {
    let env = behind(&[upstream.url()], &[check]).await?;
    let line = env
        .log()
        .wait_json(0, "a verdict", |line| {
            line["message"] == HEALTHY || line["message"] == UNHEALTHY
        })
        .await?;
    Ok((
        line["message"] == HEALTHY,
        line["reason"].as_str().unwrap_or_default().to_owned(),
    ))
}

#[tokio::test]
async fn what_an_http_probe_sends() -> Result<()> {
    let (probe, cluster) = probed(http(json!({"path": "/healthz?deep=1"}))).await?;
    ensure!(
        probe.method == "GET" && probe.target == "/healthz?deep=1",
        "{probe:?}"
    );
    ensure!(probe.host == cluster && probe.version == "HTTP/1.1", "{probe:?}");
    ensure!(
        probe.header("user-agent") == Some("Pomerium/HC") && probe.body.is_empty(),
        "{probe:?}"
    );
    let all = json!({
        "path": "/healthz",
        "host": "health.example.com",
        "send": {"text": "70696e67"},
        "request_headers_to_remove": ["User-Agent"],
    });
    let (probe, _) = probed(http(all)).await?;
    ensure!(
        probe.host == "health.example.com" && probe.method == "POST",
        "{probe:?}"
    );
    ensure!(
        probe.body == b"ping" && probe.header("user-agent").is_none(),
        "{probe:?}"
    );
    let h2 = json!({"path": "/healthz", "host": "health.example.com", "codec_client_type": "HTTP2"});
    let (probe, _) = probed(http(h2)).await?;
    ensure!(
        probe.version == "HTTP/2.0" && probe.host == "health.example.com",
        "{probe:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_an_http_probe_accepts() -> Result<()> {
    let upstream = Upstream::start().await?;
    let probe = |more: Value| {
        let mut probe = json!({"path": "/healthz"});
        probe.as_object_mut().into_iter().for_each(|probe| {
            probe.extend(more.as_object().cloned().unwrap_or_default());
        });
        http(probe)
    };
    upstream.reply_with(204, &[], "");
    ensure!(
        judged(&upstream, probe(json!({}))).await? == (false, "status 204".into()),
        "only 200"
    );
    let range = json!({"expected_statuses": [{"start": 200, "end": 205}]});
    ensure!(judged(&upstream, probe(range)).await?.0);
    let range = json!({"expected_statuses": [{"start": 200, "end": 204}]});
    ensure!(
        !judged(&upstream, probe(range)).await?.0,
        "the end is not part of it"
    );
    upstream.reply_with(200, &[], "one two three");
    let texts = |texts: &[&str], size: u64| {
        let hex =
            |text: &&str| json!({"text": text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()});
        let texts: Vec<_> = texts.iter().map(hex).collect();
        json!({"receive": texts, "response_buffer_size": size})
    };
    ensure!(judged(&upstream, probe(texts(&["one", "three"], 100))).await?.0);
    ensure!(
        !judged(&upstream, probe(texts(&["three", "one"], 100))).await?.0,
        "in this order only"
    );
    ensure!(
        !judged(&upstream, probe(texts(&["three"], 8))).await?.0,
        "beyond the buffer"
    );
    Ok(())
}

#[tokio::test]
async fn tcp_probes_connect_and_compare() -> Result<()> {
    let (app, banner) = (Upstream::start().await?, "220 mail.example.com ready\r\n");
    let server = RawUpstream::start(vec![
        Step::write(banner),
        Step::ReadHead,
        Step::write("250 fine\r\n"),
        Step::Hold,
    ])
    .await?;
    let port: u16 = server.url().rsplit(':').next().context("port")?.parse()?;
    let hex =
        |text: &str| json!({"text": text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()});
    let probe = |send: Value, receive: Value| {
        let check = check("tcp_health_check", json!({"send": send, "receive": receive}));
        with(with(check, "alt_port", port), "timeout", "0.3s")
    };
    let binary = json!({"binary": "SEVMTw0KDQo="}); // "HELO\r\n\r\n"
    ensure!(
        judged(
            &app,
            probe(hex("HELO\r\n\r\n"), json!([hex("220"), hex("250 fine")]))
        )
        .await?
        .0
    );
    ensure!(judged(&app, probe(binary, json!([hex("250")]))).await?.0);
    let wrong = judged(&app, probe(hex("HELO\r\n\r\n"), json!([hex("250"), hex("220")]))).await?;
    ensure!(
        wrong == (false, "no answer within 300ms".into()),
        "in this order only: {wrong:?}"
    );
    ensure!(
        judged(&app, check("tcp_health_check", json!({}))).await?.0,
        "connecting is enough"
    );
    let nobody = lease()?;
    let closed = with(check("tcp_health_check", json!({})), "alt_port", nobody.number());
    ensure!(!judged(&app, closed).await?.0);
    Ok(())
}

#[tokio::test]
async fn grpc_probes_ask_the_health_service() -> Result<()> {
    let mut server = Grpc::start(None).await?;
    let to = [format!("h2c://{}", server.address)];
    let env = behind(
        &to,
        &[check("grpc_health_check", json!({"service_name": "shop.Orders"}))],
    )
    .await?;
    let reason = told(env.log(), 0, UNHEALTHY, server.address).await?;
    ensure!(reason == "grpc-status 5", "a service nobody knows: {reason}");
    for (state, message) in [
        ("serving", HEALTHY),
        ("not_serving", UNHEALTHY),
        ("serving", HEALTHY),
    ] {
        let mark = env.log().mark();
        server.set(state, "shop.Orders").await?;
        told(env.log(), mark, message, server.address).await?;
    }
    // The whole server, by its own name for itself.
    let whole = check("grpc_health_check", json!({"authority": "orders.example.com"}));
    let env = behind(&to, &[whole]).await?;
    told(env.log(), 0, HEALTHY, server.address).await?;
    Ok(())
}

#[tokio::test]
async fn probes_use_the_tls_settings_of_the_route() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let authority = Authority::new()?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let leaf = authority.issue(&["127.0.0.1"])?;
    std::fs::write(file("ca.pem"), authority.pem())?;
    std::fs::write(file("server.pem"), &leaf.certificate_pem)?;
    std::fs::write(file("server.key"), &leaf.key_pem)?;
    let mut grpc = Grpc::start(Some((&file("server.pem"), &file("server.key")))).await?;
    grpc.set("serving", "").await?;
    let app = Upstream::start_tls(&authority, &["127.0.0.1"], true).await?;
    let cases = [
        (
            format!("https://{}", grpc.address),
            grpc.address,
            check("grpc_health_check", json!({})),
        ),
        (app.url(), app.address(), http(json!({"path": "/healthz"}))),
        (
            app.url(),
            app.address(),
            http(json!({"path": "/healthz", "codec_client_type": "HTTP2"})),
        ),
        (app.url(), app.address(), check("tcp_health_check", json!({}))),
    ];
    for (to, address, check) in cases {
        let trusting = route(std::slice::from_ref(&to), std::slice::from_ref(&check))
            .set("tls_custom_ca_file", file("ca.pem").display().to_string());
        let env = Environment::builder()?.route(trusting).start().await?;
        told(env.log(), 0, HEALTHY, address)
            .await
            .with_context(|| check.to_string())?;
        let env = behind(std::slice::from_ref(&to), std::slice::from_ref(&check)).await?;
        let reason = told(env.log(), 0, UNHEALTHY, address)
            .await
            .with_context(|| check.to_string())?;
        ensure!(reason.contains("certificate"), "{check}: {reason}");
    }
    Ok(())
}

#[tokio::test]
async fn silence_and_nobody_there_are_told_apart() -> Result<()> {
    let silent = RawUpstream::start(vec![Step::Hold]).await?;
    let check = with(http(json!({"path": "/healthz"})), "timeout", "0.1s");
    let env = behind(&[silent.url()], &[check]).await?;
    let line = env
        .log()
        .wait_json(0, UNHEALTHY, |line| line["message"] == UNHEALTHY)
        .await?;
    ensure!(line["reason"] == "no answer within 100ms", "{line}");
    let nobody = lease()?;
    let to = [format!("http://127.0.0.1:{}", nobody.number())];
    let env = behind(&to, &[http(json!({"path": "/healthz"}))]).await?;
    let line = env
        .log()
        .wait_json(0, UNHEALTHY, |line| line["message"] == UNHEALTHY)
        .await?;
    ensure!(
        line["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("refused")),
        "{line}"
    );
    Ok(())
}

#[tokio::test]
async fn a_connection_is_kept_unless_the_check_says_otherwise() -> Result<()> {
    let answer = Step::write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let turn = [Step::ReadHead, answer];
    let script: Vec<_> = turn
        .iter()
        .cycle()
        .take(200)
        .cloned()
        .chain([Step::Hold])
        .collect();
    for (reuse, alone) in [(true, false), (false, true)] {
        let upstream = RawUpstream::start(script.clone()).await?;
        let check = with(http(json!({"path": "/x"})), "reuse_connection", reuse);
        let _env = behind(&[upstream.url()], &[with(check, "interval", "0.02s")]).await?;
        if alone {
            upstream.wait_finished(3).await?;
        }
        let two = b"\r\n\r\nGET /x";
        let both = upstream.wait_received(two);
        if alone {
            let received = upstream.received();
            ensure!(
                received
                    .iter()
                    .all(|bytes| !bytes.windows(two.len()).any(|window| window == two))
            );
        } else {
            both.await?;
            ensure!(upstream.received().len() == 1, "{}", upstream.received().len());
        }
    }
    Ok(())
}

/// Probes read little and wait little: an answer that never ends decides like any other, or is none.
#[tokio::test]
async fn answers_that_never_end_hold_no_probe_up() -> Result<()> {
    let ok = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless =
        |begin: &str, more: &[u8]| vec![Step::ReadHead, Step::write(begin), Step::Repeat(more.to_vec())];
    let probe = http(json!({"path": "/healthz"}));
    let text = http(json!({"path": "/healthz", "receive": [{"text": "6e6f"}]}));
    let cases = [
        ("a body", endless(ok, b"5\r\nhello\r\n"), &probe, true),
        (
            "a body without the text",
            endless(ok, b"5\r\nhello\r\n"),
            &text,
            false,
        ),
        (
            "headers",
            endless("HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
            &probe,
            false,
        ),
        (
            "informational answers",
            endless("", b"HTTP/1.1 102 Processing\r\n\r\n"),
            &probe,
            false,
        ),
        (
            "garbage",
            vec![Step::ReadHead, Step::write("SSH-2.0-nothing\r\n"), Step::Hold],
            &probe,
            false,
        ),
        (
            "half a head",
            vec![Step::ReadHead, Step::write("HTTP/1.1 200 OK\r\nA"), Step::Close],
            &probe,
            false,
        ),
    ];
    for (name, script, check, good) in cases {
        let upstream = RawUpstream::start(script).await?;
        let env = behind(&[upstream.url()], &[with(check.clone(), "timeout", "2s")]).await?;
        let message = if good { HEALTHY } else { UNHEALTHY };
        env.log()
            .wait_json(0, name, |line| line["message"] == message)
            .await?;
        upstream
            .wait_finished(1)
            .await
            .with_context(|| format!("{name}: still connected"))?;
    }
    Ok(())
}
