//! Who the proxy is to an upstream, and for whom it acts: Kubernetes API servers and services at Google.

use anyhow::{Context, Result};
use pomerium_crypto::encoding::base64url_encode;
use pomerium_testing::{Environment, Recorded, Route, ScriptedIdp, SignIn, Upstream};
use serde_json::json;

const RSA: &str = include_str!("../../crates/crypto/testdata/rsa-pkcs1.pem");

/// The last request that an upstream got.
fn last(upstream: &Upstream) -> Result<Recorded> {
    upstream.take_requests().pop().context("nothing came")
}

#[tokio::test]
async fn kubectl_acts_as_the_person_with_each_of_their_groups() -> Result<()> {
    let (upstream, idp) = (Upstream::start().await?, ScriptedIdp::start().await?);
    idp.script(|script| script.claims["groups"] = json!(["dev", "ops,night", "system:masters"]));
    let env = Environment::builder()?
        .sign_in(SignIn::Oidc(idp.issuer()))
        .route(
            Route::new("kubernetes", &upstream.url())
                .any_user()
                .set("kubernetes_service_account_token", "the-token"),
        )
        .start()
        .await?;
    let client = env.client()?;
    client.follow(&env.url("kubernetes", "/api/v1/pods")).await?;
    let request = last(&upstream)?;
    assert_eq!(request.headers_named("authorization"), ["Bearer the-token"]);
    assert_eq!(
        request.headers_named("impersonate-user"),
        ["developer@example.com"]
    );
    assert_eq!(
        request.headers_named("impersonate-group"),
        ["dev", "ops,night"],
        "one header each, and none that the cluster keeps for itself"
    );
    assert_eq!(
        request.header("x-pomerium-jwt-assertion"),
        None,
        "identity headers are another matter"
    );

    // `kubectl exec` over WebSocket, without an option of the route that says so.
    let mut raw = env.raw("kubernetes").await?;
    let cookie = client
        .cookie(&env.url("kubernetes", "/"), "_pomerium")
        .context("no cookie")?;
    raw.send(format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nCookie: _pomerium={cookie}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        env.authority_of("kubernetes")
    ))
    .await?;
    assert_eq!(raw.reply(false).await?.status, 101);
    assert_eq!(
        last(&upstream)?.headers_named("impersonate-user"),
        ["developer@example.com"]
    );
    Ok(())
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again_when_the_cluster_replaces_it() -> Result<()> {
    let (upstream, idp) = (Upstream::start().await?, ScriptedIdp::start().await?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    let env = Environment::builder()?
        .sign_in(SignIn::Oidc(idp.issuer()))
        .route(Route::new("kubernetes", &upstream.url()).any_user().set(
            "kubernetes_service_account_token_file",
            file.to_string_lossy().into_owned(),
        ))
        .start()
        .await?;
    let client = env.client()?;
    let url = env.url("kubernetes", "/");
    let reply = client.follow(&url).await?;
    assert_eq!(reply.status, 503, "there is no token yet");
    assert!(
        upstream.take_requests().is_empty(),
        "nothing goes there without a token"
    );

    for token in ["first", "second"] {
        let mark = env.log().mark();
        std::fs::write(&file, format!("{token}\n"))?;
        env.log()
            .wait_from(mark, "the change is seen", |line| {
                line.contains("config: loaded configuration")
            })
            .await?;
        assert_eq!(client.get(&url).await?.status, 200, "{token}");
        assert_eq!(
            last(&upstream)?.headers_named("authorization"),
            [format!("Bearer {token}").as_str()]
        );
    }
    assert!(
        !env.log().all().iter().any(|line| line.contains("Bearer first")),
        "the token is in the log"
    );
    Ok(())
}

/// What Google would hand out for the upstream of a test.
fn google_token() -> String {
    let claims = json!({ "aud": "https://127.0.0.1", "exp": 4_000_000_000_u32 });
    format!("e30.{}.c2ln", base64url_encode(claims.to_string().as_bytes()))
}

fn google_route(upstream: &Upstream) -> Route {
    Route::new("run", &upstream.url())
        .public()
        .set("enable_google_cloud_serverless_authentication", true)
}

#[tokio::test]
async fn a_service_at_google_gets_a_token_of_the_metadata_server() -> Result<()> {
    let (upstream, google) = (Upstream::start().await?, Upstream::start().await?);
    google.reply_with(200, &[("metadata-flavor", "Google")], &google_token());
    let env = Environment::builder()?
        .variable("GCE_METADATA_HOST", &google.address().to_string())
        .route(google_route(&upstream))
        .start()
        .await?;
    let client = env.client()?;
    for _ in 0..3 {
        let headers = [
            ("x-serverless-authorization", "Bearer spoofed"),
            ("authorization", "Bearer their-own"),
        ];
        client.get_with(&env.url("run", "/"), &headers).await?;
        let request = last(&upstream)?;
        assert_eq!(
            request.headers_named("x-serverless-authorization"),
            [format!("Bearer {}", google_token()).as_str()]
        );
        assert_eq!(request.headers_named("authorization"), ["Bearer their-own"]);
    }
    let asked = google.take_requests();
    assert_eq!(asked.len(), 1, "one token serves all requests");
    assert_eq!(asked[0].header("metadata-flavor"), Some("Google"));
    Ok(())
}

#[tokio::test]
async fn a_service_account_gets_its_token_for_a_signed_statement() -> Result<()> {
    let (upstream, google) = (Upstream::start().await?, Upstream::start().await?);
    google.reply_with(200, &[], &json!({ "id_token": google_token() }).to_string());
    let account = json!({
        "type": "service_account", "client_email": "proxy@project.example.com", "private_key": RSA,
        "private_key_id": "key-1", "token_uri": format!("{}/token", google.url()),
    });
    let env = Environment::builder()?
        .set(
            "google_cloud_serverless_authentication_service_account",
            account.to_string(),
        )
        .route(google_route(&upstream))
        .start()
        .await?;
    env.client()?.get(&env.url("run", "/")).await?;
    assert_eq!(
        last(&upstream)?.headers_named("x-serverless-authorization"),
        [format!("Bearer {}", google_token()).as_str()]
    );
    let asked = google.take_requests();
    assert_eq!(asked[0].target, "/token");
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(
        form.contains("assertion=ey") && form.contains("grant_type=urn"),
        "{form}"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_token_of_google_the_header_is_left_out_and_the_log_says_why() -> Result<()> {
    let (upstream, google) = (Upstream::start().await?, Upstream::start().await?);
    google.reply_with(500, &[("metadata-flavor", "Google")], "");
    let env = Environment::builder()?
        .variable("GCE_METADATA_HOST", &google.address().to_string())
        .route(google_route(&upstream))
        .start()
        .await?;
    let headers = [("x-serverless-authorization", "Bearer spoofed")];
    env.client()?.get_with(&env.url("run", "/"), &headers).await?;
    assert_eq!(last(&upstream)?.header("x-serverless-authorization"), None);
    env.log()
        .wait("the failure in the log", |line| {
            line.contains("no Google identity token")
        })
        .await?;
    Ok(())
}
