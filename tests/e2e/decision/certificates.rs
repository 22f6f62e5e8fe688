//! The client's certificate, as Envoy has seen it.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pomerium_testing::{ClientAuthority, ClientCertificate, Environment, SignIn, TlsClient, Upstream, lease};
use pomerium_tests::foreign::{block, envoy_command, fill, start};
use serde_json::json;

#[tokio::test]
async fn a_policy_about_client_certificates_judges_what_envoy_was_shown() -> Result<()> {
    let (front, asked) = (lease()?, lease()?);
    let (ca, stranger) = (
        ClientAuthority::new("Clients")?,
        ClientAuthority::new("Stranger")?,
    );
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .sign_in(SignIn::Oidc("https://idp.example.com".into()))
        .set("downstream_mtls", json!({ "ca": STANDARD.encode(ca.pem()) }))
        .set(
            "decision_listener",
            json!({ "address": format!("127.0.0.1:{}", asked.number()), "trusted_peers": ["127.0.0.1"] }),
        )
        .set(
            "routes",
            json!([{
                "from": format!("https://wiki.example.com:{}", front.number()),
                "to": upstream.url(),
                "allow_public_unauthenticated_access": true,
                "set_request_headers": { "X-Certificate": "${pomerium.client_cert_fingerprint}" },
            }]),
        )
        .start()
        .await?;
    let path = |name: &str| env.folder().join(name).display().to_string();
    std::fs::write(
        env.folder().join("clients.pem"),
        format!("{}{}", ca.pem(), stranger.pem()),
    )?;
    // Envoy asks for certificates and lets any of two authorities through; which one counts is ours to say.
    let asking = format!(
        "\n            validation_context: {{ trusted_ca: {{ filename: {} }} }}\n            tls_certificates:",
        path("clients.pem")
    );
    let text = fill(
        block("yaml envoy")?,
        &[
            ("\n            tls_certificates:", &asking),
            (
                "address: 0.0.0.0, port_value: 443",
                &format!("address: 127.0.0.1, port_value: {}", front.number()),
            ),
            (
                "port_value: 8080",
                &format!("port_value: {}", upstream.address().port()),
            ),
            ("port_value: 9090", &format!("port_value: {}", asked.number())),
            ("/run/secrets/fullchain.pem", &path("server.pem")),
            ("/run/secrets/privkey.pem", &path("server.key")),
        ],
    )?;
    let file = env.folder().join("envoy.yaml");
    std::fs::write(&file, text)?;
    let envoy = start(envoy_command(&file)?, front.number()).await?;

    let host = format!("wiki.example.com:{}", front.number());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], front.number()));
    let ask = async |identity| -> Result<u16> {
        let client = TlsClient::new(address, env.authority(), identity, &["http/1.1"])?;
        Ok(client
            .get("wiki.example.com", &host, "/")
            .await?
            .status()
            .as_u16())
    };
    let (known, unknown) = (
        ca.issue(&ClientCertificate::new(1))?,
        stranger.issue(&ClientCertificate::new(1))?,
    );
    assert_eq!(ask(None).await?, 495, "{}", envoy.output().tail(20));
    assert_eq!(ask(Some(&unknown)).await?, 495);
    assert!(upstream.requests().is_empty());
    assert_eq!(ask(Some(&known)).await?, 200, "{}", envoy.output().tail(20));
    let request = upstream.take_requests().remove(0);
    assert_eq!(
        request.header("x-certificate").map(str::len),
        Some(64),
        "{request:?}"
    );
    Ok(())
}
