//! Databroker, authenticate service and two proxies as processes of their own, over TLS.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use pomerium_testing::{Environment, Route, lease, within};
use pomerium_tests::apart::{self, Apart, as_it_is, with};
use pomerium_tests::decision::{denial, question};
use pomerium_tests::services;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

use crate::websocket::{echoes, open_with_handle};

#[tokio::test]
async fn who_signs_in_at_one_proxy_is_known_at_the_other_and_signed_out_at_both() -> Result<()> {
    let apart = Apart::start(&as_it_is).await?;
    let client = apart.client()?;
    for proxy in [0, 1] {
        assert_eq!(apart.status(&client, proxy, "app").await?, 401);
        assert_eq!(apart.status(&client, proxy, "open").await?, 200);
    }
    let reply = apart.sign_in(&client).await?;
    assert_eq!(
        (reply.status.as_u16(), reply.url.as_str()),
        (200, apart.url(0, "app", "/").as_str())
    );
    assert_eq!(apart.status(&client, 1, "app").await?, 200, "the other proxy");
    let seen = apart.upstream.take_requests();
    assert!(
        seen.iter()
            .any(|request| request.header("x-pomerium-jwt-assertion").is_some())
    );

    // What is open at the other proxy ends when the person signs out at this one.
    let handle = client
        .cookie(&apart.url(0, "app", "/"), "_pomerium")
        .unwrap_or_default();
    let mut socket = open_with_handle(&apart.proxies[1], &handle).await?;
    echoes(&mut socket, "signed in").await?;
    apart.sign_out(&client).await?;
    within("the end of the WebSocket", async {
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    })
    .await?;
    client.set_cookie(&apart.url(1, "app", "/"), "_pomerium", &handle)?;
    assert_eq!(
        apart.status(&client, 1, "app").await?,
        401,
        "the handle is of no use any more"
    );
    Ok(())
}

/// Whoever has a cookie, however old, gets no less than whoever has none.
#[tokio::test]
async fn a_cookie_is_no_hindrance_on_open_routes_during_an_outage() -> Result<()> {
    let mut apart = Apart::start(&with("databroker_outage_limit", "1ms")).await?;
    let client = apart.signed_in().await?;
    apart.databroker.kill().await?;
    let url = apart.url(0, "open", "/");
    client.set_cookie(&url, "_pomerium", "not-known-here")?;
    within("the end of the outage limit", async {
        while apart.status(&client, 0, "app").await? != 503 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await??;
    assert_eq!(apart.status(&client, 0, "open").await?, 200);
    Ok(())
}

#[tokio::test]
async fn people_who_are_signed_in_work_on_while_the_databroker_is_dead_and_nobody_signs_in_again_after()
-> Result<()> {
    let mut apart = Apart::start(&as_it_is).await?;
    let client = apart.signed_in().await?;
    assert_eq!(apart.status(&client, 1, "app").await?, 200);
    apart.databroker.kill().await?;
    for proxy in [0, 1] {
        apart.proxies[proxy]
            .log()
            .wait("the loss in the log", |line| {
                line.contains("databroker sync interrupted")
            })
            .await?;
        assert_eq!(apart.status(&client, proxy, "app").await?, 200, "proxy {proxy}");
    }
    // A new sign-in is told plainly.
    let stranger = apart.client()?;
    let reply = apart.sign_in(&stranger).await?;
    assert_eq!(reply.status, 503, "{}", reply.text());
    // A proxy that lacks the databroker is not out of service.
    let ready = client.get(&apart.proxies[0].health_url("/readyz")).await?;
    assert_eq!(ready.status, 200);

    apart.databroker.start_again().await?;
    assert_eq!(apart.status(&client, 0, "app").await?, 200, "no new sign-in");
    within("a sign-in after the databroker is back", async {
        while apart.sign_in(&apart.client()?).await?.status != 200 {}
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}

#[tokio::test]
async fn after_the_limit_of_an_outage_nobody_passes_but_where_everybody_may() -> Result<()> {
    let mut apart = Apart::start(&with("databroker_outage_limit", "500ms")).await?;
    let client = apart.signed_in().await?;
    let handle = client
        .cookie(&apart.url(0, "app", "/"), "_pomerium")
        .unwrap_or_default();
    let mut socket = open_with_handle(&apart.proxies[1], &handle).await?;
    echoes(&mut socket, "in touch").await?;
    apart.databroker.kill().await?;
    for proxy in [0, 1] {
        within("the end of the limit", async {
            while apart.status(&client, proxy, "app").await? != 503 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        })
        .await??;
        assert_eq!(apart.status(&client, proxy, "open").await?, 200);
    }
    within("the end of the WebSocket", async {
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    })
    .await?;
    apart.databroker.start_again().await?;
    within("people to pass again", async {
        while apart.status(&client, 0, "app").await? != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}

#[tokio::test]
async fn processes_may_start_in_any_order() -> Result<()> {
    let mut apart = Apart::start(&as_it_is).await?;
    let client = apart.signed_in().await?;
    apart.databroker.kill().await?;
    apart.proxies[1].kill().await?;
    // Without records nobody could be judged, so it is not ready before it has them.
    let (databroker, proxies) = (&mut apart.databroker, &mut apart.proxies);
    let (started, proxy) = tokio::join!(databroker.start_again(), proxies[1].start_again());
    started?;
    proxy?;
    assert_eq!(apart.status(&client, 1, "app").await?, 200);
    Ok(())
}

#[tokio::test]
async fn another_shared_secret_gets_no_records_and_is_told_so() -> Result<()> {
    let apart = Apart::start(&as_it_is).await?;
    let foreign = Environment::builder()?
        .set("services", "proxy")
        .set("shared_secret", "YW5vdGhlciBzZWNyZXQgb2YgMzIgYnl0ZXMgLi4uLi4=")
        .set("databroker_service_url", format!("https://{}", apart.grpc()))
        .set("certificate_authority_file", "")
        .set("override_certificate_name", pomerium_tests::apart::NAME);
    // Its derived authority is another one, so that it does not even trust the databroker.
    let mut program = foreign.start_unready().await?;
    let line = program
        .log()
        .wait("the refusal", |line| line.contains("databroker sync interrupted"))
        .await?;
    assert!(
        line.contains("UnknownIssuer") || line.contains("certificate"),
        "{line}"
    );
    program.kill().await
}

#[tokio::test]
async fn a_split_installation_without_secret_or_in_the_clear_is_refused() -> Result<()> {
    for (keys, word) in [
        (
            &[("services", "proxy"), ("shared_secret", "")][..],
            "empty shared secret",
        ),
        (
            &[
                ("services", "proxy"),
                ("databroker_service_url", "http://192.0.2.1:5443"),
            ],
            "in the clear",
        ),
        (
            &[("services", "proxy,databroker"), ("grpc_address", ":5443")],
            "in the clear",
        ),
        (
            &[("services", "databroker"), ("databroker_storage_type", "redis")],
            "storage backend type",
        ),
    ] {
        let mut builder = Environment::builder()?;
        for (key, value) in keys {
            builder = builder.set(key, *value);
        }
        let (status, log) = builder.refused().await?;
        assert!(!status.success());
        assert!(log.tail(40).contains(word), "{word}: {}", log.tail(40));
    }
    Ok(())
}

#[tokio::test]
async fn services_show_each_other_certificates_where_that_is_asked_for() -> Result<()> {
    let apart = Apart::start(&with("grpc_mutual_tls", true)).await?;
    let client = apart.signed_in().await?;
    assert_eq!(apart.status(&client, 1, "app").await?, 200);
    // Who shows none gets nowhere.
    let bare = Environment::builder()?
        .set("services", "proxy")
        .set("databroker_service_url", format!("https://{}", apart.grpc()))
        .set("tls_derive", pomerium_tests::apart::NAME)
        .set("override_certificate_name", pomerium_tests::apart::NAME);
    let mut program = bare.start_unready().await?;
    program
        .log()
        .wait("the refusal", |line| {
            line.contains("databroker sync interrupted") && line.contains("grpc_mutual_tls")
        })
        .await?;
    program.kill().await
}

/// As charts of the original have it: one wildcard certificate for all services.
#[tokio::test]
async fn the_name_of_their_certificates_may_be_a_pattern() -> Result<()> {
    let port = lease()?;
    let databroker = Environment::builder()?
        .set("services", "databroker")
        .set("grpc_address", format!("127.0.0.1:{}", port.number()));
    let wildcard = databroker.authority().issue(&["*.internal.example.com"])?;
    let authority = databroker.folder().join("authority.pem");
    std::fs::write(&authority, databroker.authority().pem())?;
    let _databroker = databroker
        .set("certificate_file", Value::Null)
        .set("certificate_key_file", Value::Null)
        .set("certificate", STANDARD.encode(&wildcard.certificate_pem))
        .set("certificate_key", STANDARD.encode(&wildcard.key_pem))
        .start()
        .await?;
    let proxy = |name: &str| {
        Ok::<_, anyhow::Error>(
            Environment::builder()?
                .set("services", "proxy")
                .set("databroker_service_url", apart::url(&port))
                .set("certificate_authority_file", authority.display().to_string())
                .set("override_certificate_name", name),
        )
    };
    proxy("*.internal.example.com")?.start().await?;
    let mut elsewhere = proxy("*.external.example.com")?.start_unready().await?;
    let refused =
        |line: &str| line.contains("databroker sync interrupted") && line.contains("NotValidForName");
    elsewhere.log().wait("the refusal", refused).await?;
    elsewhere.kill().await
}

#[tokio::test]
async fn two_databrokers_with_stores_of_their_own_behind_one_list_are_found_out() -> Result<()> {
    let apart = Apart::start(&as_it_is).await?;
    let other = Apart::start(&as_it_is).await?;
    let mixed = Environment::builder()?
        .set("services", "proxy")
        .set("tls_derive", pomerium_tests::apart::NAME)
        .set("override_certificate_name", pomerium_tests::apart::NAME)
        .set(
            "databroker_service_urls",
            serde_json::json!([
                format!("https://{}", apart.grpc()),
                format!("https://{}", other.grpc())
            ]),
        )
        .start()
        .await?;
    let line = mixed
        .log()
        .wait("the finding", |line| line.contains("do not share their records"))
        .await?;
    assert!(
        line.contains(&apart.grpc().to_string()) && line.contains(&other.grpc().to_string()),
        "{line}"
    );
    let status = mixed.client()?.get(&mixed.health_url("/status")).await?.json()?;
    let error = &status["statuses"]["databroker.instances"]["error"];
    assert!(
        error
            .as_str()
            .is_some_and(|text| text.contains("separate stores")),
        "{status}"
    );
    Ok(())
}

/// The fourth service by itself judges as the proxies do, and by the same records.
#[tokio::test]
async fn an_authorize_service_of_its_own_answers_for_the_whole_installation() -> Result<()> {
    let mut apart = Apart::start(&with("databroker_outage_limit", "500ms")).await?;
    let client = apart.signed_in().await?;
    let handle = client
        .cookie(&apart.url(0, "app", "/"), "_pomerium")
        .unwrap_or_default();
    let port = lease()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let authorize = Environment::builder()?
        .set("services", "authorize")
        .set("tls_derive", pomerium_tests::apart::NAME)
        .set("override_certificate_name", pomerium_tests::apart::NAME)
        .set("databroker_service_url", format!("https://{}", apart.grpc()))
        .set("databroker_outage_limit", "500ms")
        .set("authenticate_service_url", apart.authenticate.url("auth", ""))
        .set("grpc_address", address.to_string())
        .set("grpc_insecure", true)
        .route(Route::new("app", &apart.upstream.url()).any_user().identity())
        .start()
        .await?;
    let host = authorize.authority_of("app");
    let cookie = format!("_pomerium={handle}");
    let ask = async |headers: &[(&str, &str)]| {
        let answer = services::check(address, question(&host, b"/", headers), &services::token()).await??;
        anyhow::Ok(denial(&answer))
    };
    let json = ("accept", "application/json");
    assert_eq!(ask(&[json]).await?, Some(401));
    assert_eq!(ask(&[json, ("cookie", &cookie)]).await?, None);
    apart.databroker.kill().await?;
    within("the end of the limit", async {
        while ask(&[json, ("cookie", &cookie)]).await? != Some(503) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    apart.databroker.start_again().await?;
    within("people to pass again", async {
        while ask(&[json, ("cookie", &cookie)]).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    within("people to pass the proxy again", async {
        while apart.status(&client, 0, "app").await? != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    // Signed out at a proxy: out here as well.
    apart.sign_out(&client).await?;
    within("the end of the session", async {
        while ask(&[json, ("cookie", &cookie)]).await? != Some(401) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await?
}

#[tokio::test]
async fn a_route_of_a_record_lets_people_in_at_a_proxy_that_does_not_sign_them_in() -> Result<()> {
    let apart = Apart::start(&as_it_is).await?;
    let client = apart.signed_in().await?;
    let authorization = format!("Bearer {}", services::token());
    let url = format!(
        "https://{}/pomerium.config.ConfigService/CreateRoute",
        apart.grpc()
    );
    let route = serde_json::json!({ "route": {
        "id": "of-record", "from": format!("https://{}", apart.proxies[0].authority_of("of-record")),
        "to": [apart.upstream.url()],
        "policies": [{ "allowedDomains": ["example.com"] }],
    }});
    let headers = [
        ("content-type", "application/json"),
        ("connect-protocol-version", "1"),
        ("authorization", authorization.as_str()),
    ];
    let created = client
        .send(http::Method::POST, &url, &headers, route.to_string())
        .await?;
    assert_eq!(created.status, 200, "{}", created.text());

    let stranger = apart.client()?;
    within("the route", async {
        while apart.status(&stranger, 0, "of-record").await? != 401 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    })
    .await??;
    let page = client.follow(&apart.url(0, "of-record", "/")).await?;
    assert_eq!(page.status, 200, "{}: {}", page.url, page.text());
    Ok(())
}
