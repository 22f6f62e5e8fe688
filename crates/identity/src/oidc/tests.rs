//! A provider that lies, breaks, rotates its keys; and one that does not.

use http::Uri;
use pomerium_crypto::jwt::{JwtError, hs256_sign};
use pomerium_crypto::query::Query;
use pomerium_crypto::{encoding, jwt};
use serde_json::{Map, Value, json};

use crate::StepUp;
use crate::testing::{CLIENT, FakeProvider, ISSUER, SECRET, answer, json_answer};
use crate::{AuthRequest, Identity, IdentityError, OidcConfig, Pkce, Tokens};

async fn sign_in(fake: &std::sync::Arc<FakeProvider>) -> Result<Identity, IdentityError> {
    fake.client()
        .exchange("code-1", Some("verifier-1"), Some("n-1"))
        .await
}

/// The error of a sign-in.
async fn refusal(fake: &std::sync::Arc<FakeProvider>) -> IdentityError {
    sign_in(fake).await.err().expect("it was let in")
}

#[tokio::test]
async fn a_sign_in_gives_the_claims_of_both_sources() {
    let fake = FakeProvider::new();
    let identity = sign_in(&fake).await.unwrap();
    assert_eq!(identity.user_id(), "member");
    assert_eq!(identity.claims["name"], "Member");
    assert_eq!(
        identity.claims["email"], "member@example.com",
        "user info is newer"
    );
    assert_eq!(identity.claims["groups"], json!(["staff"]));
    assert_eq!(identity.tokens.refresh_token.as_deref(), Some("refresh-1"));
    let ends_in = identity.tokens.expires_at.unwrap().as_second() - crate::testing::start().as_second();
    assert_eq!(ends_in, 300);
    let request = &fake.requests("/token")[0];
    let form = |name| request.form.get(name);
    assert_eq!(form("grant_type"), Some("authorization_code"));
    assert_eq!(form("code"), Some("code-1"));
    assert_eq!(form("code_verifier"), Some("verifier-1"));
    assert_eq!(
        form("redirect_uri"),
        Some("https://auth.example.com/oauth2/callback")
    );
    assert_eq!(
        fake.requests("/userinfo")[0].authorization.as_deref(),
        Some("Bearer access-1")
    );
}

#[tokio::test]
async fn user_info_cannot_change_what_the_token_says_of_itself() {
    let fake = FakeProvider::new();
    fake.on_json(
        "/userinfo",
        200,
        &json!({"sub": "member", "iss": "https://evil.example.com", "aud": "x", "exp": 1}),
    );
    let claims = sign_in(&fake).await.unwrap().claims;
    assert_eq!(
        (claims["iss"].as_str(), claims["aud"].as_str()),
        (Some(ISSUER), Some(CLIENT))
    );
    assert_ne!(claims["exp"], 1);
}

#[tokio::test]
async fn the_object_id_is_the_user_id_where_there_is_one() {
    let fake = FakeProvider::new();
    fake.grant(json!({"oid": "object-1"}), json!({}));
    assert_eq!(sign_in(&fake).await.unwrap().user_id(), "object-1");
}

#[tokio::test]
async fn a_step_up_is_asked_for_over_what_the_configuration_says() {
    let fake = FakeProvider::new();
    let client = fake.client_with(OidcConfig {
        request_params: vec![
            ("prompt".into(), "select_account".into()),
            ("max_age".into(), "86400".into()),
        ],
        ..FakeProvider::config()
    });
    let acr = ["gold".to_owned(), "silver".to_owned()];
    for login in [false, true] {
        let request = AuthRequest {
            state: "s",
            nonce: "n",
            pkce: None,
            step_up: Some(StepUp {
                max_age: Some(300),
                acr: &acr,
                login,
            }),
        };
        let url: Uri = client.authorization_url(request).await.unwrap().parse().unwrap();
        let query = Query::parse(url.query().unwrap());
        assert_eq!(query.get("max_age"), Some("300"));
        assert_eq!(query.get("acr_values"), Some("gold silver"));
        let prompt = if login { "login" } else { "select_account" };
        assert_eq!((query.get("prompt"), query.count("prompt")), (Some(prompt), 1));
    }
}

#[tokio::test]
async fn the_authorization_url_is_complete_and_cannot_be_bent() {
    let fake = FakeProvider::new();
    let param = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let request_params = vec![
        param("prompt", "login"),
        param("redirect_uri", "https://evil.example.com"),
        param("state", "fixed"),
        param("code_challenge_method", "plain"),
    ];
    let client = fake.client_with(OidcConfig {
        request_params,
        ..FakeProvider::config()
    });
    assert!(client.uses_pkce().await.unwrap());
    let pkce = Pkce::new();
    let request = AuthRequest {
        state: "st&1",
        nonce: "n-1",
        pkce: Some(&pkce),
        step_up: None,
    };
    let url: Uri = client.authorization_url(request).await.unwrap().parse().unwrap();
    assert_eq!(url.path(), "/realm/authorize");
    let query = Query::parse(url.query().unwrap());
    let expected = [
        ("client_id", CLIENT),
        ("code_challenge", &pkce.challenge()),
        ("code_challenge_method", "S256"),
        ("nonce", "n-1"),
        ("prompt", "login"),
        ("redirect_uri", "https://auth.example.com/oauth2/callback"),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("state", "st&1"),
        ("tenant", "1"),
    ];
    let mut found: Vec<_> = query.iter().collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn pkce_is_left_out_only_where_it_is_clearly_not_known() {
    for (methods, used) in [(json!(["plain"]), false), (json!([]), false), (Value::Null, true)] {
        let fake = FakeProvider::new();
        fake.set_metadata(json!({"code_challenge_methods_supported": methods}));
        assert_eq!(fake.client().uses_pkce().await.unwrap(), used, "{methods}");
    }
}

#[tokio::test]
async fn another_issuer_is_shown_beside_the_configured_one() {
    let fake = FakeProvider::new();
    fake.set_metadata(json!({"issuer": format!("{ISSUER}/")}));
    let error = refusal(&fake).await;
    let text = error.to_string();
    assert!(
        text.contains(&format!("\"{ISSUER}\"")) && text.contains(&format!("\"{ISSUER}/\"")),
        "{text}"
    );
    assert!(
        error.is_temporary(),
        "a matter of configuration must not end sessions"
    );
}

#[tokio::test]
async fn discovery_is_tried_again_until_it_works_and_then_kept() {
    let fake = FakeProvider::new();
    let client = fake.client();
    fake.unreachable("/.well-known/openid-configuration");
    let error = client.metadata().await.unwrap_err();
    assert!(error.is_temporary());
    assert!(error.to_string().contains("check idp_provider_url"), "{error}");
    fake.on_json("/.well-known/openid-configuration", 503, &json!({}));
    assert!(matches!(
        client.metadata().await,
        Err(IdentityError::OutOfOrder { status: 503, .. })
    ));
    fake.set_metadata(json!({}));
    client.metadata().await.unwrap();
    client.metadata().await.unwrap();
    assert_eq!(fake.requests("/.well-known/openid-configuration").len(), 3);
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_share_one_discovery() {
    let fake = FakeProvider::new();
    let gate = fake.hold();
    let client = fake.client();
    let release = async {
        tokio::task::yield_now().await;
        gate.add_permits(100);
    };
    let (first, second, third, ()) =
        tokio::join!(client.metadata(), client.metadata(), client.metadata(), release);
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert_eq!(fake.requests("/.well-known/openid-configuration").len(), 1);
}

#[tokio::test]
async fn bad_documents_are_refused() {
    let huge = json!({"issuer": ISSUER, "padding": "x".repeat(600 * 1024)});
    let script_link = json!({"authorization_endpoint": "javascript:alert(1)"});
    for (what, document) in [
        ("too large", huge),
        ("no endpoints", json!({"issuer": ISSUER})),
        ("not an object", json!([])),
        ("no web address", FakeProvider::new().metadata(script_link)),
        (
            "relative",
            FakeProvider::new().metadata(json!({"token_endpoint": "/token"})),
        ),
    ] {
        let fake = FakeProvider::new();
        fake.on_json("/.well-known/openid-configuration", 200, &document);
        let error = refusal(&fake).await;
        assert!(
            matches!(error, IdentityError::BadAnswer { .. }),
            "{what}: {error}"
        );
    }
    let fake = FakeProvider::new();
    fake.on("/.well-known/openid-configuration", |_| {
        answer(302, "text/html", "")
    });
    assert!(refusal(&fake).await.to_string().contains("redirect"));
}

#[tokio::test]
async fn id_tokens_that_lie_are_refused() {
    let now = crate::testing::start().as_second();
    let cases = [
        (json!({"iss": "https://evil.example.com"}), JwtError::Issuer),
        (json!({"iss": format!("{ISSUER}/")}), JwtError::Issuer),
        (json!({"iss": null}), JwtError::Issuer),
        (json!({"aud": "client-2"}), JwtError::Audience),
        (json!({"aud": null}), JwtError::Audience),
        (json!({"exp": now - 60}), JwtError::Expired),
        (json!({"exp": null}), JwtError::Claim("exp")),
        (json!({"nbf": now + 61}), JwtError::NotYetValid),
        (json!({"iat": now + 61}), JwtError::NotYetValid),
        (json!({"sub": null}), JwtError::Claim("sub")),
        (json!({"sub": ""}), JwtError::Claim("sub")),
        (json!({"sub": "x".repeat(256)}), JwtError::Claim("sub")),
    ];
    for (claims, expected) in cases {
        let fake = FakeProvider::new();
        fake.grant(claims.clone(), json!({}));
        assert_eq!(refusal(&fake).await, IdentityError::IdToken(expected), "{claims}");
    }
}

#[tokio::test]
async fn clocks_may_be_a_minute_apart() {
    let now = crate::testing::start().as_second();
    for claims in [
        json!({"exp": now - 59}),
        json!({"iat": now + 60}),
        json!({"nbf": now + 60}),
    ] {
        let fake = FakeProvider::new();
        fake.grant(claims.clone(), json!({}));
        assert!(sign_in(&fake).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn nobody_but_the_provider_can_sign() {
    let fake = FakeProvider::new();
    let claims = fake.id_claims(json!({}));
    let unsigned = |header: &str| {
        let part = |bytes: &[u8]| encoding::base64url_encode(bytes);
        format!(
            "{}.{}.",
            part(header.as_bytes()),
            part(Value::Object(claims.clone()).to_string().as_bytes())
        )
    };
    let good = fake.sign(json!({}));
    let (head, _) = good.rsplit_once('.').unwrap();
    let forged = jwt::SigningKey::random().sign(&claims).unwrap();
    let other_signature = forged.rsplit_once('.').unwrap().1;
    let cases = [
        ("alg none", unsigned(r#"{"alg":"none"}"#), JwtError::Algorithm),
        (
            "HMAC with the client secret",
            hs256_sign(SECRET.as_bytes(), &claims),
            JwtError::Algorithm,
        ),
        (
            "signature of another key",
            format!("{head}.{other_signature}"),
            JwtError::Signature,
        ),
        ("no signature", format!("{head}."), JwtError::Signature),
        ("key of someone else", forged.clone(), JwtError::UnknownKey),
        ("not a token", "hello".into(), JwtError::Malformed),
    ];
    for (what, token, expected) in cases {
        fake.grant_raw(&token, json!({}));
        assert_eq!(refusal(&fake).await, IdentityError::IdToken(expected), "{what}");
    }
}

#[tokio::test]
async fn an_algorithm_the_provider_does_not_use_is_refused() {
    let fake = FakeProvider::new();
    fake.set_metadata(json!({"id_token_signing_alg_values_supported": ["RS256"]}));
    assert_eq!(refusal(&fake).await, IdentityError::IdToken(JwtError::Algorithm));
}

#[tokio::test]
async fn a_token_for_several_clients_must_be_made_for_us() {
    for (aud, azp, accepted) in [
        (json!([CLIENT]), json!(null), true),
        (json!([CLIENT, "client-2"]), json!(CLIENT), true),
        (json!([CLIENT, "client-2"]), json!(null), false),
        (json!([CLIENT, "client-2"]), json!("client-2"), false),
        (json!(CLIENT), json!("client-2"), false),
        (json!(CLIENT), json!([CLIENT]), false),
    ] {
        let fake = FakeProvider::new();
        fake.grant(json!({"aud": aud, "azp": azp}), json!({}));
        let result = sign_in(&fake).await;
        let party = matches!(result, Err(IdentityError::AuthorizedParty { .. }));
        assert_eq!((result.is_ok(), party), (accepted, !accepted), "{aud} {azp}");
    }
}

#[tokio::test]
async fn a_token_of_another_sign_in_is_refused() {
    for nonce in [json!("n-2"), json!(null), json!(""), json!(["n-1"])] {
        let fake = FakeProvider::new();
        fake.grant(json!({"nonce": nonce}), json!({}));
        assert_eq!(refusal(&fake).await, IdentityError::Nonce, "{nonce}");
    }
}

#[tokio::test]
async fn new_keys_are_fetched_when_they_are_needed_but_not_too_often() {
    let fake = FakeProvider::new();
    let client = fake.client();
    let attempt = async || {
        fake.grant(json!({}), json!({}));
        client.exchange("code", None, Some("n-1")).await.map(|_| ())
    };
    let fetches = || fake.requests("/jwks").len();
    let unknown = Err(IdentityError::IdToken(JwtError::UnknownKey));
    assert_eq!(attempt().await, Ok(()));
    fake.rotate();
    fake.publish_keys();
    assert_eq!(attempt().await, Ok(()), "a rotation right after a fetch");
    assert_eq!(fetches(), 2);
    fake.rotate();
    assert_eq!(attempt().await, unknown, "fetched, but not published yet");
    assert_eq!(fetches(), 3);
    for _ in 0..20 {
        assert_eq!(attempt().await, unknown);
    }
    assert_eq!(fetches(), 3, "three times are enough for ten seconds");
    fake.publish_keys();
    fake.clock.advance(std::time::Duration::from_secs(9));
    assert_eq!(attempt().await, unknown);
    fake.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(attempt().await, Ok(()));
    assert_eq!(fetches(), 4);
    assert_eq!(attempt().await, Ok(()));
    assert_eq!(fetches(), 4);
}

#[tokio::test]
async fn withdrawn_keys_are_forgotten_in_time_and_old_ones_serve_while_there_are_no_others() {
    let fake = FakeProvider::new();
    let client = fake.client();
    let attempt = async |token: &str| {
        fake.grant_raw(token, json!({}));
        client.exchange("code", None, Some("n-1")).await.map(|_| ())
    };
    let late = json!({"exp": fake.clock_seconds() + 100_000});
    let token = fake.sign(late);
    assert_eq!(attempt(&token).await, Ok(()));
    fake.rotate();
    fake.unreachable("/jwks");
    fake.clock.advance(std::time::Duration::from_secs(3601));
    assert_eq!(attempt(&token).await, Ok(()), "better old keys than none");
    fake.publish_keys();
    fake.clock.advance(std::time::Duration::from_secs(10));
    assert_eq!(
        attempt(&token).await,
        Err(IdentityError::IdToken(JwtError::UnknownKey))
    );
}

#[tokio::test]
async fn key_sets_without_keys_are_no_key_sets() {
    let fake = FakeProvider::new();
    for document in [
        json!({"keys": []}),
        json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
        json!({}),
    ] {
        fake.on_json("/jwks", 200, &document);
        assert!(
            matches!(refusal(&fake).await, IdentityError::BadAnswer { .. }),
            "{document}"
        );
    }
}

#[tokio::test]
async fn user_info_about_someone_else_is_refused() {
    let fake = FakeProvider::new();
    fake.on_json(
        "/userinfo",
        200,
        &json!({"sub": "stranger", "email": "member@example.com"}),
    );
    let error = refusal(&fake).await;
    assert!(
        matches!(&error, IdentityError::Subject { found, .. } if found == "stranger"),
        "{error}"
    );
    assert!(!error.is_temporary());
}

#[tokio::test]
async fn user_info_is_needed_where_it_is_offered() {
    let fake = FakeProvider::new();
    for (status, body, temporary) in [
        (401, json!({}), false),
        (403, json!({}), false),
        (500, json!({}), true),
        (429, json!({}), true),
        (200, json!({"email": "member@example.com"}), true),
        (200, json!("member"), true),
        (204, json!({}), true),
    ] {
        fake.on_json("/userinfo", status, &body);
        assert_eq!(refusal(&fake).await.is_temporary(), temporary, "{status} {body}");
    }
    fake.set_metadata(json!({"userinfo_endpoint": null}));
    let identity = sign_in(&fake).await.unwrap();
    assert_eq!(identity.claims["email"], "old@example.com");
}

#[tokio::test]
async fn user_info_is_tidied() {
    let fake = FakeProvider::new();
    fake.grant(json!({"email": null}), json!({}));
    for (sent, verified) in [
        (json!("true"), true),
        (json!("false"), false),
        (json!(true), true),
        (json!("?"), false),
    ] {
        let body = json!({"sub": "member", "mail": "a@example.com", "email_verified": sent});
        fake.on_json("/userinfo", 200, &body);
        let claims = sign_in(&fake).await.unwrap().claims;
        assert_eq!(
            (&claims["email"], &claims["email_verified"]),
            (&json!("a@example.com"), &json!(verified))
        );
    }
    fake.on_json("/userinfo", 200, &json!({"sub": "member", "mail": "no address"}));
    assert_eq!(sign_in(&fake).await.unwrap().claims.get("email"), None);
}

#[tokio::test]
async fn signed_user_info_is_checked() {
    let fake = FakeProvider::new();
    let serve = |token: String| {
        fake.on("/userinfo", move |_| {
            answer(200, "application/jwt; charset=utf-8", token.clone())
        });
    };
    let claims = |changes: Value| -> Map<String, Value> {
        let mut claims = crate::testing::object(json!({"sub": "member", "email": "signed@example.com"}));
        claims.extend(crate::testing::object(changes));
        claims
    };
    for good in [
        json!({}),
        json!({"iss": ISSUER, "aud": [CLIENT, "x"]}),
        json!({"aud": CLIENT}),
    ] {
        serve(fake.key().sign(&claims(good)).unwrap());
        assert_eq!(
            sign_in(&fake).await.unwrap().claims["email"],
            "signed@example.com"
        );
    }
    for (bad, expected) in [
        (json!({"iss": "https://evil.example.com"}), JwtError::Issuer),
        (json!({"aud": "x"}), JwtError::Audience),
        (json!({"aud": ["x"]}), JwtError::Audience),
        (json!({"exp": 1}), JwtError::Expired),
    ] {
        serve(fake.key().sign(&claims(bad)).unwrap());
        assert_eq!(refusal(&fake).await, IdentityError::IdToken(expected));
    }
    serve(jwt::SigningKey::random().sign(&claims(json!({}))).unwrap());
    assert_eq!(refusal(&fake).await, IdentityError::IdToken(JwtError::UnknownKey));
}

#[tokio::test]
async fn the_token_endpoint_may_refuse_in_its_own_words() {
    let fake = FakeProvider::new();
    fake.on_json(
        "/token",
        400,
        &json!({"error": "invalid_grant", "error_description": "code\nused\u{1b}[31m"}),
    );
    let error = refusal(&fake).await;
    assert_eq!(
        error.to_string(),
        "the identity provider refused the code (400 invalid_grant: code used [31m)"
    );
    assert!(!error.is_temporary());
    assert_eq!(fake.requests("/token").len(), 1, "a code is not tried twice");
    fake.on("/token", |_| answer(502, "text/html", "<h1>Bad gateway</h1>"));
    assert!(refusal(&fake).await.is_temporary());
    fake.on("/token", |_| answer(403, "text/html", "<h1>no</h1>"));
    assert!(matches!(
        refusal(&fake).await,
        IdentityError::Refused { status: 403, .. }
    ));
    for broken in [
        json!({}),
        json!({"access_token": ""}),
        json!({"access_token": "a", "token_type": "mac"}),
    ] {
        fake.on_json("/token", 200, &broken);
        assert!(
            matches!(refusal(&fake).await, IdentityError::BadAnswer { .. }),
            "{broken}"
        );
    }
    fake.grant(json!({}), json!({"id_token": null}));
    assert_eq!(refusal(&fake).await, IdentityError::NoIdToken);
}

#[tokio::test]
async fn the_life_of_a_token_may_be_written_in_several_ways() {
    let fake = FakeProvider::new();
    for (sent, life) in [
        (json!("120"), Some(120)),
        (json!(null), None),
        (json!(-1), None),
        (json!(0), None),
        (json!("soon"), None),
    ] {
        fake.grant(json!({}), json!({"expires_in": sent}));
        let ends = sign_in(&fake).await.unwrap().tokens.expires_at;
        assert_eq!(
            ends.map(|at| at.as_second() - fake.clock_seconds()),
            life,
            "{sent}"
        );
    }
    fake.grant(json!({}), json!({"expires_in": u64::MAX}));
    assert!(sign_in(&fake).await.unwrap().tokens.expires_at.is_some());
}

/// RFC 6749, 2.3.1: the parts are form-encoded before they are joined.
#[tokio::test]
async fn the_client_shows_itself_by_header_first() {
    let fake = FakeProvider::new();
    sign_in(&fake).await.unwrap();
    let request = &fake.requests("/token")[0];
    let encoded = request
        .authorization
        .as_deref()
        .unwrap()
        .strip_prefix("Basic ")
        .unwrap();
    assert_eq!(
        encoding::base64_decode(encoded).unwrap(),
        b"client-1:s3cret%3A%26%C3%BC"
    );
    assert!(!request.form.contains("client_secret"));
}

#[tokio::test]
async fn the_client_shows_itself_in_the_form_if_the_header_is_not_accepted() {
    let fake = FakeProvider::new();
    let good = json!({"access_token": "a", "id_token": fake.sign(json!({}))});
    fake.on("/token", move |seen| match seen.authorization {
        Some(_) => json_answer(401, &json!({"error": "invalid_client"})),
        None if seen.form.get("client_secret") == Some(SECRET) => json_answer(200, &good),
        None => json_answer(400, &json!({"error": "unexpected"})),
    });
    let client = fake.client();
    client.exchange("code", None, Some("n-1")).await.unwrap();
    client.exchange("code", None, Some("n-1")).await.unwrap();
    let ways: Vec<_> = fake
        .requests("/token")
        .iter()
        .map(|seen| seen.authorization.is_some())
        .collect();
    assert_eq!(ways, [true, false, false], "what worked is remembered");
}

#[tokio::test]
async fn the_client_shows_itself_as_the_provider_wants() {
    let fake = FakeProvider::new();
    fake.set_metadata(
        json!({"token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"]}),
    );
    sign_in(&fake).await.unwrap();
    assert_eq!(fake.requests("/token")[0].form.get("client_secret"), Some(SECRET));

    let public = FakeProvider::new();
    let client = public.client_with(OidcConfig {
        client_secret: Vec::new(),
        ..FakeProvider::config()
    });
    client.exchange("code", None, Some("n-1")).await.unwrap();
    let request = &public.requests("/token")[0];
    assert_eq!(
        (
            request.form.get("client_id"),
            request.form.contains("client_secret")
        ),
        (Some(CLIENT), false)
    );
    assert_eq!(request.authorization, None);
}

#[tokio::test]
async fn a_client_that_is_not_known_is_told_so() {
    let fake = FakeProvider::new();
    fake.on_json(
        "/token",
        401,
        &json!({"error": "invalid_client", "error_description": "who?"}),
    );
    let error = refusal(&fake).await;
    assert!(error.to_string().contains("401 invalid_client: who?"), "{error}");
    assert_eq!(fake.requests("/token").len(), 2);
}

#[tokio::test]
async fn a_refresh_keeps_or_changes_the_refresh_token() {
    let fake = FakeProvider::new();
    let client = fake.client();
    fake.grant(json!({"nonce": null}), json!({"refresh_token": "refresh-2"}));
    let refreshed = client.refresh("refresh-1", "member").await.unwrap();
    assert_eq!(refreshed.tokens.refresh_token.as_deref(), Some("refresh-2"));
    assert_eq!(refreshed.id_token.unwrap().subject, "member");
    assert_eq!(
        fake.requests("/token")[0].form.get("refresh_token"),
        Some("refresh-1")
    );
    fake.grant(json!({}), json!({"refresh_token": null, "id_token": null}));
    let refreshed = client.refresh("refresh-2", "member").await.unwrap();
    assert_eq!(refreshed.tokens.refresh_token.as_deref(), Some("refresh-2"));
    assert!(refreshed.id_token.is_none());
    assert_eq!(
        client.refresh("", "member").await.err(),
        Some(IdentityError::NoRefreshToken)
    );
}

#[tokio::test]
async fn a_refreshed_id_token_must_be_about_the_same_person() {
    let fake = FakeProvider::new();
    fake.grant(json!({"sub": "stranger"}), json!({}));
    let error = fake.client().refresh("refresh-1", "member").await.err().unwrap();
    assert!(
        matches!(error, IdentityError::Subject { .. }) && !error.is_temporary(),
        "{error}"
    );
    fake.grant(json!({"exp": 1}), json!({}));
    let refreshed = fake.client().refresh("refresh-1", "member").await.unwrap();
    assert!(
        refreshed.id_token.is_none(),
        "one that cannot be believed is left out; the tokens are good"
    );
}

#[tokio::test]
async fn revocation_covers_both_tokens() {
    let fake = FakeProvider::new();
    let tokens = Tokens {
        access_token: "a".into(),
        refresh_token: Some("r".into()),
        ..Tokens::default()
    };
    fake.client().revoke(&tokens).await.unwrap();
    let revoked: Vec<_> = fake
        .requests("/revoke")
        .iter()
        .map(|seen| seen.form.encode())
        .collect();
    assert_eq!(
        revoked,
        [
            "token=r&token_type_hint=refresh_token",
            "token=a&token_type_hint=access_token"
        ]
    );
    fake.set_metadata(json!({"revocation_endpoint": null}));
    assert_eq!(
        fake.client().revoke(&tokens).await,
        Err(IdentityError::NotOffered("revocation endpoint"))
    );
}

#[tokio::test]
async fn sign_out_at_the_provider() {
    let fake = FakeProvider::new();
    fake.set_metadata(json!({"end_session_endpoint": format!("{ISSUER}/logout?x=1#frag")}));
    let url = fake
        .client()
        .end_session_url(Some("raw.id.token"), "https://auth.example.com/bye")
        .await
        .unwrap();
    assert_eq!(
        url.unwrap(),
        format!(
            "{ISSUER}/logout?client_id=client-1&id_token_hint=raw.id.token&\
             post_logout_redirect_uri=https%3A%2F%2Fauth.example.com%2Fbye&x=1"
        )
    );
    fake.set_metadata(json!({"end_session_endpoint": null}));
    assert_eq!(
        fake.client()
            .end_session_url(None, "https://auth.example.com/bye")
            .await,
        Ok(None)
    );
}

#[tokio::test]
async fn answers_of_another_issuer_are_refused() {
    let fake = FakeProvider::new();
    let client = fake.client();
    assert_eq!(client.check_callback_issuer(None).await, Ok(()));
    assert_eq!(client.check_callback_issuer(Some(ISSUER)).await, Ok(()));
    let other = client
        .check_callback_issuer(Some("https://evil.example.com"))
        .await;
    assert!(matches!(other, Err(IdentityError::MixUp { .. })));
    fake.set_metadata(json!({"authorization_response_iss_parameter_supported": true}));
    assert!(matches!(
        fake.client().check_callback_issuer(None).await,
        Err(IdentityError::MixUp { .. })
    ));
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let fake = FakeProvider::new();
    let printed = format!("{:?} {:?}", fake.client(), FakeProvider::config());
    let tokens = sign_in(&fake).await.unwrap().tokens;
    let printed = printed + &format!("{tokens:?}");
    for secret in [SECRET, "access-1", "refresh-1"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
