//! Envoy's external authorization (OPA-Envoy CVE-2026-26205; Envoy CVE-2023-27488, CVE-2023-27493; grpc-go
//! CVE-2026-33186): whatever is wrong with a question, the answer is a denial, never an error that Envoy may pass over.

use anyhow::{Context, Result};
use bytes::Bytes;
use pomerium_api::pb::ext_authz::{self as pb, Entry, HeaderMap, HeaderValue};
use pomerium_testing::RawClient;
use pomerium_tests::decision::{CHECK, DecisionStage, denial, http, instructions, question};

fn entry(key: &'static [u8], value: &'static [u8]) -> Entry {
    Entry {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
    }
}

#[tokio::test]
async fn people_pass_with_instructions_and_strangers_get_an_answer() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let app = stage.host("app");
    let both = format!("a=1; {}", stage.cookie);
    let asked = question(
        &app,
        b"/inside?a=b",
        &[("cookie", &both), ("x-forwarded-for", "10.1.1.1")],
    );
    let answer = stage.check(&asked).await?;
    let (set, removed) = instructions(&answer).context("denied")?;
    let value = |name: &str| {
        let mut values = set.iter().filter(|(key, _)| key == name);
        values.next().map(|(_, value)| value.as_str())
    };
    assert_eq!(value("x-pomerium-claim-email"), Some("developer@example.com"));
    assert_eq!(value("cookie"), Some("a=1"));
    assert!(value("x-pomerium-jwt-assertion").is_some_and(|token| token.matches('.').count() == 2));
    assert_eq!(value("x-forwarded-for"), None, "Envoy's own");
    for name in [
        "x-pomerium-jwt-assertion-for",
        "x_pomerium_jwt_assertion",
        "x_pomerium_claim_email",
    ] {
        assert!(
            removed.iter().any(|removed| removed == name),
            "{name}: {removed:?}"
        );
    }
    let metadata = format!("{:?}", answer.dynamic_metadata);
    assert!(
        metadata.contains("com.pomerium.route-context") && metadata.contains("user_id"),
        "{metadata}"
    );
    let line = stage
        .stage
        .env
        .log()
        .wait_json(0, "the decision", |line| {
            line["message"] == "authorize check" && line["path"] == "/inside"
        })
        .await?;
    assert_eq!(line["ip"], "192.0.2.7", "the source, not a header");

    let answer = stage.check(&question(&app, b"/inside", &[])).await?;
    assert_eq!(denial(&answer), Some(302));
    let answer = stage
        .check(&question(&app, b"/", &[("accept", "application/json")]))
        .await?;
    assert_eq!(denial(&answer), Some(401));
    let answer = stage
        .check(&question(
            &stage.host("admin"),
            b"/",
            &[("cookie", &stage.cookie)],
        ))
        .await?;
    assert_eq!(denial(&answer), Some(403));
    let answer = stage.check(&question("nowhere.example.com", b"/", &[])).await?;
    assert_eq!(denial(&answer), Some(404));
    Ok(())
}

#[tokio::test]
async fn who_is_not_trusted_is_cut_off_unheard() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let mut client = RawClient::connect(stage.address(), Some("127.0.0.3".parse()?)).await?;
    let _ = client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.read_to_close().await.unwrap_or_default().is_empty());
    Ok(())
}

#[tokio::test]
async fn forged_headers_are_removed_and_never_believed() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    let names = [
        "x-pomerium-jwt-assertion",
        "x-pomerium-claim-email",
        "x-pomerium-claim-other",
        "x-forwarded-user",
        "x-pomerium-authorization",
    ];
    for name in names {
        let answer = stage.check(&question(&open, b"/", &[(name, "forged")])).await?;
        let (set, removed) = instructions(&answer).context("denied")?;
        let overwritten = set.iter().any(|(key, value)| key == name && value != "forged");
        assert!(
            overwritten || removed.iter().any(|removed| removed == name),
            "{name}"
        );
    }
    // Names with an underscore are refused like everywhere, unless the configuration says otherwise.
    let answer = stage
        .check(&question(&open, b"/", &[("x_pomerium_claim_email", "forged")]))
        .await?;
    assert_eq!(denial(&answer), Some(400));
    // What the client says about the request counts for nothing here.
    let lies = [
        ("x-forwarded-host", "admin.example.com"),
        ("x-forwarded-uri", "/admin"),
        ("x-original-url", "https://admin.example.com/"),
        ("x-forwarded-proto", "http"),
        ("x-envoy-original-path", "/x"),
    ];
    assert!(instructions(&stage.check(&question(&open, b"/", &lies)).await?).is_some());
    Ok(())
}

#[tokio::test]
async fn twins_are_removed_where_underscores_are_allowed() -> Result<()> {
    let stage =
        DecisionStage::start_with(|builder| builder.set("headers_with_underscores_action", "allow")).await?;
    let twins = [
        ("x_pomerium_claim-email", "forged"),
        ("x_forwarded_user", "forged"),
        ("my_own", "kept"),
    ];
    let answer = stage.check(&question(&stage.host("open"), b"/", &twins)).await?;
    let (_, removed) = instructions(&answer).context("denied")?;
    for (name, _) in &twins[..2] {
        assert!(
            removed.iter().any(|removed| removed == name),
            "{name}: {removed:?}"
        );
    }
    assert!(!removed.iter().any(|removed| removed == "my_own"), "{removed:?}");
    Ok(())
}

#[tokio::test]
async fn doubtful_paths_hosts_and_methods_are_denied() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    for path in [
        &b""[..],
        b"admin",
        b"*",
        b"//admin/x",
        b"/a//b",
        b"http://open.example.com/",
        b"/a#b",
        b"/a/../b",
        b"/a%2fb",
        b"/a%5c..%5cb",
        b"/a\\b",
        b"/a b",
        b"/\xff",
        b"/\xc3\xa4",
        b"/a\0b",
        b"/%zz",
    ] {
        let answer = stage.check(&question(&open, path, &[])).await?;
        assert_eq!(denial(&answer), Some(400), "{}", path.escape_ascii());
    }
    let upper = open.to_uppercase();
    assert!(instructions(&stage.check(&question(&upper, b"/", &[])).await?).is_some());
    let port = stage.stage.env.port();
    for host in [
        "",
        "open.example.com.",
        "user@open.example.com",
        "open.example.com:",
        "[::1",
    ] {
        let host = if host.ends_with("com.") {
            format!("{host}:{port}")
        } else {
            host.to_owned()
        };
        assert_eq!(
            denial(&stage.check(&question(&host, b"/", &[])).await?),
            Some(400),
            "{host}"
        );
    }
    for (method, scheme) in [
        ("", "https"),
        ("CONNECT", "https"),
        ("G T", "https"),
        ("GET", ""),
        ("GET", "file"),
    ] {
        let mut asked = question(&open, b"/", &[]);
        http(&mut asked).method = method.into();
        http(&mut asked).scheme = scheme.into();
        assert_eq!(
            denial(&stage.check(&asked).await?),
            Some(400),
            "{method} {scheme}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_is_denied() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    for message in [&b"\xff\xff\xff"[..], b"", b"\x0a\x02\xff\xff"] {
        assert_eq!(
            denial(&stage.check_bytes(message).await?),
            Some(400),
            "{}",
            message.escape_ascii()
        );
    }
    let mut asked = question(&open, b"/", &[]);
    asked.attributes.as_mut().context("there")?.source = None;
    assert_eq!(denial(&stage.check(&asked).await?), Some(400), "no source");
    let mut asked = question(&open, b"/", &[]);
    let source = asked
        .attributes
        .as_mut()
        .and_then(|attributes| attributes.source.as_mut());
    source.context("there")?.address = Some(pb::Address {
        address: Some(pb::address::Address::Pipe(pb::Pipe {
            path: "/run/envoy.sock".into(),
        })),
    });
    assert_eq!(
        denial(&stage.check(&asked).await?),
        Some(400),
        "a source without an address"
    );

    for bad in [
        entry(b"bad name", b"x"),
        entry(b"", b"x"),
        entry(b"x", b"a\r\nb"),
        entry(b"\xff", b"x"),
        entry(b":path", b"/other"),
        entry(b":authority", b"admin.example.com"),
        entry(b":method", b"DELETE"),
    ] {
        let mut asked = question(&open, b"/", &[]);
        http(&mut asked).headers.push(bad.clone());
        assert_eq!(denial(&stage.check(&asked).await?), Some(400), "{bad:?}");
    }
    let mut asked = question(&open, b"/", &[("a", "b")]);
    http(&mut asked).header_map = Some(HeaderMap {
        headers: vec![HeaderValue::default()],
    });
    assert_eq!(
        denial(&stage.check(&asked).await?),
        Some(400),
        "headers told twice"
    );

    let long = "a".repeat(129 * 1024);
    let answer = stage.check(&question(&open, b"/", &[("x-long", &long)])).await?;
    assert_eq!(denial(&answer), Some(431));
    let longer = "a".repeat(300 * 1024);
    let answer = stage
        .check(&question(&open, b"/", &[("x-long", &longer)]))
        .await?;
    assert_eq!(denial(&answer), Some(400));
    let names: Vec<String> = (0..1001).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "y")).collect();
    assert_eq!(
        denial(&stage.check(&question(&open, b"/", &many)).await?),
        Some(431)
    );
    Ok(())
}

#[tokio::test]
async fn raw_headers_are_read_like_the_others() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let mut asked = question(&stage.host("app"), b"/", &[]);
    http(&mut asked).header_map = Some(HeaderMap {
        headers: vec![HeaderValue {
            key: "cookie".into(),
            value: Bytes::new(),
            raw_value: stage.cookie.clone().into(),
        }],
    });
    let (set, _) = instructions(&stage.check(&asked).await?).context("denied")?;
    assert!(
        set.contains(&("cookie".into(), String::new())),
        "nothing of ours is left: {set:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_route_that_envoy_means_and_paths_of_ours() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    let extended = |path: &[u8], key: &'static [u8], value: &[u8]| {
        let mut asked = question(&open, path, &[]);
        asked
            .attributes
            .get_or_insert_default()
            .context_extensions
            .push(Entry {
                key: Bytes::from_static(key),
                value: Bytes::copy_from_slice(value),
            });
        asked
    };
    assert_eq!(
        denial(&stage.check(&extended(b"/", b"route_id", b"another")).await?),
        Some(404)
    );
    assert!(instructions(&stage.check(&extended(b"/", b"route_id", b"")).await?).is_some());
    // A path of ours would reach the application, unless Envoy says that it hands it on.
    for path in [
        &b"/.pomerium/"[..],
        b"/.pomerium/callback/",
        b"/ping",
        b"/.well-known/pomerium/jwks.json",
    ] {
        assert_eq!(
            denial(&stage.check(&question(&open, path, &[])).await?),
            Some(404)
        );
        assert!(instructions(&stage.check(&extended(path, b"internal", b"true")).await?).is_some());
    }
    assert_eq!(
        denial(&stage.check(&extended(b"/", b"internal", b"true")).await?),
        Some(404)
    );
    Ok(())
}

#[tokio::test]
async fn other_methods_are_not_answered() -> Result<()> {
    let stage = DecisionStage::start().await?;
    for method in [
        "/envoy.service.auth.v3.Authorization/check",
        "/envoy.service.auth.v2.Authorization/Check",
        "Check",
    ] {
        let method = if method.starts_with('/') {
            method.to_owned()
        } else {
            format!("/{method}")
        };
        let called = stage.call(&method, b"").await?;
        assert_eq!(
            (called.body.len(), called.grpc_status.as_deref()),
            (0, Some("12")),
            "{method}"
        );
    }
    let reply = stage.ask(CHECK, &[]).await?;
    assert_eq!(reply.status, 415, "{reply:?}");
    Ok(())
}
