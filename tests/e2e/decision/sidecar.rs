//! Envoy's own `jwt_authn` in front of an application: it takes our assertion by our keys, and nothing else.

use anyhow::{Context, Result};
use pomerium_testing::{Client, ClientOptions, lease};
use pomerium_tests::foreign::{block, envoy_command, fill, start};
use pomerium_tests::scripted_with;
use serde_json::json;

#[tokio::test]
async fn envoys_jwt_authn_accepts_our_assertion_and_refuses_a_forged_one() -> Result<()> {
    let (sidecar, asked) = (lease()?, lease()?);
    let listener =
        json!({ "address": format!("127.0.0.1:{}", asked.number()), "trusted_peers": ["127.0.0.1"] });
    let stage = scripted_with(|builder| builder.set("decision_listener", listener)).await?;
    let text = fill(
        block("yaml envoy-sidecar")?,
        &[
            ("port_value: 8081", &format!("port_value: {}", sidecar.number())),
            (
                "port_value: 8080",
                &format!("port_value: {}", stage.upstream.address().port()),
            ),
            ("port_value: 9090", &format!("port_value: {}", asked.number())),
            ("127.0.0.1:9090", &format!("127.0.0.1:{}", asked.number())),
            ("wiki.example.com", "app.example.com"),
        ],
    )?;
    let file = stage.env.folder().join("sidecar.yaml");
    std::fs::write(&file, text)?;
    let envoy = start(envoy_command(&file)?, sidecar.number()).await?;

    let client = stage.signed_in().await?;
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage
        .upstream
        .take_requests()
        .pop()
        .context("the application was not asked")?;
    let assertion = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?
        .to_owned();
    let other = stage.env.client()?;
    other.get(&stage.env.url("open", "/")).await?;
    let request = stage
        .upstream
        .take_requests()
        .pop()
        .context("the application was not asked")?;
    let elsewhere = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?
        .to_owned();

    let direct = Client::new(&ClientOptions::default())?;
    let url = format!("http://127.0.0.1:{}/behind", sidecar.number());
    let ask = async |assertion: &str| -> Result<u16> {
        let header = [("x-pomerium-jwt-assertion", assertion)];
        Ok(direct.get_with(&url, &header).await?.status.as_u16())
    };
    assert_eq!(ask(&assertion).await?, 200, "{}", envoy.output().tail(20));
    assert_eq!(stage.upstream.take_requests().len(), 1);

    assert_eq!(direct.get(&url).await?.status, 401, "none");
    let (signed, signature) = assertion.rsplit_once('.').context("no signature")?;
    let flipped: String = signature
        .chars()
        .enumerate()
        .map(|(index, letter)| match (index, letter) {
            (9, 'A') => 'B',
            (9, _) => 'A',
            _ => letter,
        })
        .collect();
    assert_eq!(
        ask(&format!("{signed}.{flipped}")).await?,
        401,
        "a changed signature"
    );
    let mut parts = signed.splitn(2, '.');
    let (head, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (_, other_body) = elsewhere
        .rsplit_once('.')
        .and_then(|(signed, _)| signed.split_once('.'))
        .context("no claims")?;
    assert_ne!(body, other_body);
    assert_eq!(
        ask(&format!("{head}.{other_body}.{signature}")).await?,
        401,
        "claims of another"
    );
    assert_eq!(ask(&elsewhere).await?, 401, "an assertion for another host");
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}
