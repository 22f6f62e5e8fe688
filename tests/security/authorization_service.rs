//! The authorization service on the listener for services: whoever reaches its port without the secret of the
//! installation learns nothing of what is allowed to whom (Pomerium CVE-2024-47616), and who has it gets the judgement
//! that the listener for other proxies gives.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use pomerium_api::pb::ext_authz::{CheckRequest, CheckResponse, Entry};
use pomerium_crypto::jwt::hs256_sign;
use pomerium_crypto::service_token;
use pomerium_testing::{Environment, Port, lease};
use pomerium_tests::decision::{DecisionStage, denial, http, instructions, question};
use pomerium_tests::services::{SHARED, check, token};
use serde_json::json;
use tonic::Code;

use crate::forge::now;

fn at(port: &Port) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port.number()))
}

async fn stage() -> Result<(DecisionStage, Port)> {
    let port = lease()?;
    let address = at(&port).to_string();
    let stage = DecisionStage::start_with(|builder| builder.set("grpc_address", address)).await?;
    Ok((stage, port))
}

#[tokio::test]
async fn only_a_token_of_the_installation_gets_an_answer() -> Result<()> {
    let (stage, port) = stage().await?;
    let asked = || question(&stage.host("app"), b"/", &[("cookie", &stage.cookie)]);
    let session = stage.cookie.trim_start_matches("_pomerium=");
    let exp = now() + 600;
    let others = [
        ("none", String::new()),
        ("another secret", service_token::sign(&[7; 32], now())),
        ("an old one", service_token::sign(SHARED, now() - 7200)),
        ("a session", session.to_owned()),
        (
            "a service account",
            hs256_sign(
                SHARED,
                &json!({ "jti": "sa", "sub": "u", "iat": now(), "nbf": now() }),
            ),
        ),
        (
            "one more claim",
            hs256_sign(SHARED, &json!({ "exp": exp, "sub": "u" })),
        ),
        ("no end", hs256_sign(SHARED, &json!({}))),
        ("no token", "sesame".to_owned()),
    ];
    for (name, token) in others {
        let refused = check(at(&port), asked(), &token).await?;
        let code = refused.err().map(|status| status.code());
        assert_eq!(code, Some(Code::Unauthenticated), "{name}");
    }
    let answer = check(at(&port), asked(), &token()).await??;
    assert!(instructions(&answer).is_some(), "{answer:?}");
    Ok(())
}

/// What differs from one answer to the next.
fn comparable(answer: &CheckResponse) -> (Option<i32>, Vec<String>, Vec<String>) {
    let Some((set, mut removed)) = instructions(answer) else {
        return (denial(answer), Vec::new(), Vec::new());
    };
    let changes = ["x-pomerium-jwt-assertion", "x-request-id"];
    let mut set: Vec<_> = set
        .into_iter()
        .map(|(name, value)| match changes.contains(&name.as_str()) {
            true => name,
            false => format!("{name}: {value}"),
        })
        .collect();
    set.sort();
    removed.sort();
    (None, set, removed)
}

#[tokio::test]
async fn it_judges_as_the_listener_for_other_proxies_does() -> Result<()> {
    let (stage, port) = stage().await?;
    let (app, admin, open) = (stage.host("app"), stage.host("admin"), stage.host("open"));
    let cookie = ("cookie", stage.cookie.as_str());
    let mut lying = question(&app, b"/", &[cookie, (":path", "/elsewhere")]);
    let mut nobody = question(&app, b"/", &[cookie]);
    if let Some(attributes) = &mut nobody.attributes {
        attributes.source = None;
    }
    let mut other_route = question(&app, b"/", &[cookie]);
    if let Some(attributes) = &mut other_route.attributes {
        attributes.context_extensions.push(Entry {
            key: "route_id".into(),
            value: "another".into(),
        });
    }
    http(&mut lying).method = "GET".into();
    let cases: [(CheckRequest, Option<i32>); 11] = [
        (question(&app, b"/a?b=c", &[cookie]), None),
        (
            question(
                &app,
                b"/",
                &[cookie, ("x-pomerium-claim-email", "admin@example.com")],
            ),
            None,
        ),
        (question(&app, b"/", &[("accept", "text/html")]), Some(302)),
        (question(&app, b"/", &[("accept", "application/json")]), Some(401)),
        (question(&admin, b"/", &[cookie]), Some(403)),
        (question(&open, b"/", &[]), None),
        (question("nowhere.example.com", b"/", &[cookie]), Some(404)),
        (question(&app, b"/a/../b%2f..", &[cookie]), None),
        (lying, Some(400)),
        (nobody, Some(400)),
        (other_route, Some(404)),
    ];
    for (number, (asked, expected)) in cases.into_iter().enumerate() {
        let there = stage.check(&asked).await?;
        let here = check(at(&port), asked, &token()).await??;
        assert_eq!(comparable(&here), comparable(&there), "{number}");
        if number != 7 {
            assert_eq!(comparable(&here).0, expected, "{number}: {here:?}");
        }
    }
    // The client is who the question names, not who asks, and not what a header says.
    let asked = question(&app, b"/logged", &[cookie, ("x-forwarded-for", "10.1.1.1")]);
    check(at(&port), asked, &token()).await??;
    let line = stage
        .stage
        .env
        .log()
        .wait_json(0, "the decision", |line| {
            line["message"] == "authorize check" && line["path"] == "/logged"
        })
        .await?;
    assert_eq!(line["ip"], "192.0.2.7");
    Ok(())
}

#[tokio::test]
async fn a_process_that_does_not_authorize_has_no_such_service() -> Result<()> {
    let port = lease()?;
    let _databroker = Environment::builder()?
        .set("services", "databroker")
        .set("grpc_address", at(&port).to_string())
        .set("grpc_insecure", true)
        .start()
        .await?;
    let refused = check(at(&port), question("app.example.com", b"/", &[]), &token()).await?;
    let status = refused.err().context("an answer")?;
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    Ok(())
}
