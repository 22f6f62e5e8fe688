//! Session handles that somebody made up (JWT classics; zitadel CVE-2026-27840): another key, another
//! algorithm, a session that is over, deleted or of another provider, in every place a request may carry one.

use anyhow::{Context, Result};
use pomerium_testing::{Environment, Route, within};
use pomerium_tests::{payload, scripted, scripted_with};
use serde_json::{Value, json};

use crate::forge::{hmac_jwt, hs256, key, part};

/// The statuses that a token gets at `app`, by the place it is carried in.
async fn shown_everywhere(env: &Environment, token: &str) -> Result<Vec<(&'static str, u16)>> {
    let url = env.url("app", "/");
    let places = [
        ("cookie", format!("_pomerium={token}")),
        ("authorization", format!("Pomerium {token}")),
        ("authorization", format!("Bearer Pomerium-{token}")),
        ("x-pomerium-authorization", token.to_owned()),
    ];
    let client = env.client()?;
    let mut seen = Vec::new();
    for (name, value) in &places {
        let reply = client
            .get_with(&url, &[("accept", "application/json"), (name, value)])
            .await?;
        seen.push((*name, reply.status.as_u16()));
    }
    let query = env.url("app", &format!("/?pomerium_session={token}"));
    let reply = client.get_with(&query, &[("accept", "application/json")]).await?;
    seen.push(("query", reply.status.as_u16()));
    Ok(seen)
}

fn with(payload: &Value, name: &str, value: Value) -> Value {
    let mut changed = payload.clone();
    changed[name] = value;
    changed
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
async fn no_forged_handle_is_anybody() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let cookie = client
        .cookie(&stage.env.url("app", "/"), "_pomerium")
        .context("no cookie")?;
    let (shared, good) = (key(&stage.env, "shared_secret")?, payload(&cookie));
    let jwks = client
        .get(&stage.env.url("app", "/.well-known/pomerium/jwks.json"))
        .await?;
    assert_eq!(jwks.status, 200);
    let jwk = jwks.json()?["keys"][0].clone();
    let point = jwk["x"].as_str().context("an EC key")?.to_owned();

    // The forger works: what it makes with the right key is taken, in each place.
    let right = hmac_jwt(&shared, &hs256(), &good);
    for (place, status) in shown_everywhere(&stage.env, &right).await? {
        assert_eq!(status, 200, "the right token in {place}");
    }
    stage.upstream.take_requests();

    let alg = |name: &str| json!({ "alg": name, "typ": "JWT" });
    let other_keys = json!({ "alg": "HS256", "typ": "JWT", "jwk": { "kty": "oct", "k": "AAAA" }, "kid": "../../dev/null",
        "jku": "https://evil.example.org/jwks", "x5u": "https://evil.example.org/" });
    let cases = [
        ("key of zeros", hmac_jwt(&[0; 32], &hs256(), &good)),
        ("empty key", hmac_jwt(b"", &hs256(), &good)),
        (
            "cookie secret",
            hmac_jwt(&key(&stage.env, "cookie_secret")?, &hs256(), &good),
        ),
        (
            "shared secret as text",
            hmac_jwt(
                stage.env.config()["shared_secret"]
                    .as_str()
                    .unwrap_or_default()
                    .as_bytes(),
                &hs256(),
                &good,
            ),
        ),
        (
            "public key as secret",
            hmac_jwt(jwk.to_string().as_bytes(), &hs256(), &good),
        ),
        (
            "public point as secret",
            hmac_jwt(point.as_bytes(), &hs256(), &good),
        ),
        ("key named by the token", hmac_jwt(&[0, 0, 0], &other_keys, &good)),
        ("alg ES256, HMAC", hmac_jwt(&shared, &alg("ES256"), &good)),
        ("alg none, HMAC", hmac_jwt(&shared, &alg("none"), &good)),
        ("alg HS512, HMAC", hmac_jwt(&shared, &alg("HS512"), &good)),
        ("no alg", hmac_jwt(&shared, &json!({ "typ": "JWT" }), &good)),
        ("alg None", format!("{}.{}.", part(&alg("None")), part(&good))),
        ("alg nOnE", format!("{}.{}.", part(&alg("nOnE")), part(&good))),
        ("alg empty", format!("{}.{}.", part(&alg("")), part(&good))),
        (
            "no signature",
            cookie
                .rsplit_once('.')
                .map(|(head, _)| head.to_owned())
                .unwrap_or_default(),
        ),
        ("half a signature", cookie[..cookie.len() - 20].to_owned()),
        ("padding", format!("{cookie}=")),
        ("two in one", format!("{cookie}.{cookie}")),
        // Right key, wrong content.
        (
            "unknown session",
            hmac_jwt(
                &shared,
                &hs256(),
                &with(&good, "jti", "00000000-0000-4000-8000-000000000000".into()),
            ),
        ),
        (
            "no session",
            hmac_jwt(&shared, &hs256(), &with(&good, "jti", "".into())),
        ),
        (
            "a user as session",
            hmac_jwt(&shared, &hs256(), &with(&good, "jti", good["sub"].clone())),
        ),
        (
            "half the id",
            hmac_jwt(
                &shared,
                &hs256(),
                &with(&good, "jti", good["jti"].as_str().map(|id| &id[..18]).into()),
            ),
        ),
        (
            "another provider",
            hmac_jwt(&shared, &hs256(), &with(&good, "idp_id", "another".into())),
        ),
        ("an array", hmac_jwt(&shared, &hs256(), &json!([good.clone()]))),
        ("huge", format!("{cookie}{}", "A".repeat(20_000))),
    ];
    for (name, token) in cases {
        for (place, status) in shown_everywhere(&stage.env, &token).await? {
            assert!(matches!(status, 401 | 400), "{name} in {place}: {status}");
        }
    }
    assert!(
        stage.upstream.requests().is_empty(),
        "{:?}",
        stage.upstream.requests()
    );
    // And the honest one still counts.
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over_whatever_the_cookie_says() -> Result<()> {
    let stage = scripted_with(|builder| builder.set("cookie_expire", "2s")).await?;
    let client = stage.signed_in().await?;
    let url = stage.env.url("app", "/");
    let cookie = client.cookie(&url, "_pomerium").context("no cookie")?;
    let good = payload(&cookie);
    within("the end of the session", async {
        while stage.api(&client, "app", "/").await?.status == 200 {}
        anyhow::Ok(())
    })
    .await??;
    stage.upstream.take_requests();
    // A later `iat`, an `exp` far away: the record decides.
    let shared = key(&stage.env, "shared_secret")?;
    let later = with(
        &with(&good, "iat", 4_000_000_000_u64.into()),
        "exp",
        4_100_000_000_u64.into(),
    );
    for token in [cookie, hmac_jwt(&shared, &hs256(), &later)] {
        for (place, status) in shown_everywhere(&stage.env, &token).await? {
            assert_eq!(status, 401, "{place}");
        }
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_session_of_one_provider_is_none_at_another() -> Result<()> {
    let stage = scripted_with(|builder| {
        builder.route(
            Route::new("other", "http://127.0.0.1:9")
                .any_user()
                .set("idp_client_id", "another-client")
                .set("idp_client_secret", "another-secret"),
        )
    })
    .await?;
    let client = stage.signed_in().await?;
    let cookie = client
        .cookie(&stage.env.url("app", "/"), "_pomerium")
        .context("no cookie")?;
    let stranger = stage.env.client()?;
    stranger.set_cookie(&stage.env.url("other", "/"), "_pomerium", &cookie)?;
    assert_eq!(
        stage.api(&stranger, "other", "/").await?.status,
        401,
        "a session of the default client on a route with its own"
    );
    // Signed in there as well, the other session does not count here.
    let reply = client.follow(&stage.env.url("other", "/")).await?;
    assert_eq!(reply.status, 503, "let through; nobody listens behind it");
    let second = client
        .cookie(&stage.env.url("other", "/"), "_pomerium")
        .context("no cookie")?;
    let stranger = stage.env.client()?;
    stranger.set_cookie(&stage.env.url("app", "/"), "_pomerium", &second)?;
    assert_eq!(stage.api(&stranger, "app", "/").await?.status, 401);
    Ok(())
}
