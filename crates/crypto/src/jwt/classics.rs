//! The well-known ways to fool a token reader, one test each.

use jsonwebtoken as other;
use serde_json::{Value, json};

use super::{
    Algorithm, Expect, JwkSet, JwtError, MAX_TOKEN, SigningKey, hs256_sign, hs256_verify, hs256_verify_within,
};
use crate::encoding::{base64url_decode, base64url_encode};
use crate::mac::hmac_sha256;

const NOW: i64 = 1_700_000_000;
const RSA_PEM: &[u8] = include_bytes!("../../testdata/rsa-pkcs1.pem");
const KEY: &[u8] = b"our own hmac key";

fn expect() -> Expect<'static> {
    Expect {
        issuer: Some("https://idp.example.com"),
        audience: Some("client"),
        algorithms: &Algorithm::ALL,
        now: NOW,
        leeway: 60,
    }
}

fn claims() -> Value {
    json!({"iss": "https://idp.example.com", "aud": "client", "sub": "member", "iat": NOW, "exp": NOW + 300})
}

fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn rsa() -> SigningKey {
    SigningKey::from_pem(RSA_PEM).unwrap()
}

fn set_of(keys: &[Value]) -> JwkSet {
    JwkSet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn set(key: &SigningKey) -> JwkSet {
    set_of(&[key.jwks()["keys"][0].clone()])
}

fn verify(set: &JwkSet, token: &str) -> Result<Value, JwtError> {
    set.verify(token, &expect())
}

fn part(text: impl ToString) -> String {
    base64url_encode(text.to_string().as_bytes())
}

/// `key` signs under whatever header the attacker likes.
fn with_header(key: &SigningKey, header: &Value, claims: &Value) -> String {
    key.sign_parts(&part(header), claims)
}

#[test]
fn an_honest_token_is_accepted() {
    for key in [SigningKey::random(), rsa()] {
        assert_eq!(
            verify(&set(&key), &key.sign(&claims()).unwrap()),
            Ok(claims()),
            "{}",
            key.alg()
        );
    }
}

#[test]
fn alg_none() {
    let key = SigningKey::random();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        for kid in [json!(null), json!(key.kid())] {
            let head = format!("{}.{}", part(json!({"alg": name, "kid": kid})), part(claims()));
            for token in [format!("{head}."), format!("{head}.AAAA")] {
                assert_eq!(verify(&set(&key), &token), Err(JwtError::Algorithm), "{name}");
                assert_eq!(
                    hs256_verify::<Value>(KEY, &token),
                    Err(JwtError::Algorithm),
                    "{name}"
                );
            }
            assert_eq!(verify(&set(&key), &head), Err(JwtError::Malformed));
        }
    }
}

#[test]
fn public_key_used_as_hmac_secret() {
    let key = rsa();
    let jwk = key.jwks()["keys"][0].clone();
    let modulus = base64url_decode(jwk["n"].as_str().unwrap()).unwrap();
    let secrets = [
        modulus,
        jwk.to_string().into_bytes(),
        jwk["n"].as_str().unwrap().into(),
        Vec::new(),
    ];
    for secret in secrets {
        let head = format!(
            "{}.{}",
            part(json!({"alg": "HS256", "kid": key.kid()})),
            part(claims())
        );
        let token = format!(
            "{head}.{}",
            base64url_encode(&hmac_sha256(&secret, head.as_bytes()))
        );
        assert_eq!(verify(&set(&key), &token), Err(JwtError::Algorithm));
        assert_eq!(hs256_verify::<Value>(KEY, &token), Err(JwtError::Signature));
    }
}

#[test]
fn symmetric_key_in_a_key_set() {
    let set = set_of(&[json!({"kty": "oct", "kid": "a", "k": base64url_encode(KEY), "alg": "HS256"})]);
    assert!(set.is_empty());
    assert_eq!(
        verify(&set, &hs256_sign(KEY, &claims())),
        Err(JwtError::Algorithm)
    );
}

#[test]
fn asymmetric_token_for_an_hmac_reader() {
    let token = rsa().sign(&claims()).unwrap();
    assert_eq!(hs256_verify::<Value>(KEY, &token), Err(JwtError::Algorithm));
}

#[test]
fn embedded_jwk_and_urls_of_keys() {
    let (key, attacker) = (SigningKey::random(), SigningKey::random());
    let jwk = attacker.jwks()["keys"][0].clone();
    let lures = [
        json!({"jwk": jwk}),
        json!({"jku": "https://attacker.example.com/jwks.json"}),
        json!({"x5u": "https://attacker.example.com/chain.pem"}),
        json!({"x5c": ["MIIB"]}),
    ];
    for lure in lures {
        for (kid, refusal) in [
            (key.kid(), JwtError::Signature),
            (attacker.kid(), JwtError::UnknownKey),
        ] {
            let mut header = json!({"alg": "ES256", "kid": kid});
            header
                .as_object_mut()
                .unwrap()
                .extend(lure.as_object().unwrap().clone());
            assert_eq!(
                verify(&set(&key), &with_header(&attacker, &header, &claims())),
                Err(refusal)
            );
            // The same in a token of the right key changes nothing either.
            header["kid"] = json!(key.kid());
            assert!(verify(&set(&key), &with_header(&key, &header, &claims())).is_ok());
        }
    }
}

#[test]
fn kid_is_only_a_name() {
    let key = SigningKey::random();
    let kids = [
        "",
        "../../dev/null",
        "x' OR '1'='1",
        "/etc/passwd",
        "http://attacker.example.com/k",
        &"k".repeat(9000),
    ];
    for kid in kids {
        let token = with_header(&key, &json!({"alg": "ES256", "kid": kid}), &claims());
        assert_eq!(verify(&set(&key), &token), Err(JwtError::UnknownKey), "{kid}");
    }
    for kid in [json!(1), json!(["a"]), json!({"$ne": null})] {
        let token = with_header(&key, &json!({"alg": "ES256", "kid": kid}), &claims());
        assert_eq!(verify(&set(&key), &token), Err(JwtError::Malformed), "{kid}");
    }
}

#[test]
fn kid_of_a_key_of_another_kind_or_use() {
    let (ec, rsa) = (SigningKey::random(), rsa());
    let both = set_of(&[ec.jwks()["keys"][0].clone(), rsa.jwks()["keys"][0].clone()]);
    let token = with_header(&ec, &json!({"alg": "ES256", "kid": rsa.kid()}), &claims());
    assert_eq!(verify(&both, &token), Err(JwtError::UnknownKey));

    let mut jwk = ec.jwks()["keys"][0].clone();
    jwk["use"] = json!("enc");
    let token = ec.sign(&claims()).unwrap();
    assert_eq!(verify(&set_of(&[jwk]), &token), Err(JwtError::UnknownKey));
}

/// The JWK says RS256: a PS256 signature by the same key is none.
#[test]
fn key_with_an_algorithm_is_for_that_one_only() {
    let key = rsa();
    let header = other::Header {
        kid: Some(key.kid().into()),
        ..other::Header::new(other::Algorithm::PS256)
    };
    let token = other::encode(
        &header,
        &claims(),
        &other::EncodingKey::from_rsa_pem(RSA_PEM).unwrap(),
    )
    .unwrap();
    assert_eq!(verify(&set(&key), &token), Err(JwtError::UnknownKey));
    let mut jwk = key.jwks()["keys"][0].clone();
    jwk.as_object_mut().unwrap().remove("alg");
    assert_eq!(verify(&set_of(&[jwk]), &token), Ok(claims()));
}

#[test]
fn accepted_algorithms_are_the_callers_choice() {
    let key = SigningKey::random();
    let token = key.sign(&claims()).unwrap();
    for algorithms in [&[][..], &[Algorithm::Rs256]] {
        let expect = Expect {
            algorithms,
            ..expect()
        };
        assert_eq!(
            set(&key).verify::<Value>(&token, &expect),
            Err(JwtError::Algorithm)
        );
    }
}

#[test]
fn token_without_kid_finds_its_key_among_several() {
    let (a, b, c) = (SigningKey::random(), SigningKey::random(), SigningKey::random());
    let both = set_of(&[a.jwks()["keys"][0].clone(), b.jwks()["keys"][0].clone()]);
    assert!(verify(&both, &with_header(&b, &json!({"alg": "ES256"}), &claims())).is_ok());
    let stranger = with_header(&c, &json!({"alg": "ES256"}), &claims());
    assert_eq!(
        verify(&both, &stranger),
        Err(JwtError::UnknownKey),
        "the set may be out of date"
    );
}

#[test]
fn over_long_tokens_are_not_even_decoded() {
    let key = SigningKey::random();
    let long = key
        .sign(&claims_with(json!({"pad": "x".repeat(MAX_TOKEN)})))
        .unwrap();
    assert_eq!(verify(&set(&key), &long), Err(JwtError::TooLong(MAX_TOKEN)));
    assert_eq!(
        hs256_verify::<Value>(KEY, &".".repeat(MAX_TOKEN + 1)),
        Err(JwtError::TooLong(MAX_TOKEN))
    );
    let short = hs256_sign(KEY, &json!({}));
    assert_eq!(
        hs256_verify_within::<Value>(KEY, &short, short.len() - 1),
        Err(JwtError::TooLong(short.len() - 1))
    );
    assert!(hs256_verify_within::<Value>(KEY, &short, short.len()).is_ok());
}

#[test]
fn typ_and_cty_neither_help_nor_harm() {
    let key = SigningKey::random();
    for typ in [json!("at+jwt"), json!("JOSE"), json!(7), json!(null)] {
        let header = json!({"alg": "ES256", "kid": key.kid(), "typ": typ, "cty": "JWT"});
        assert!(
            verify(&set(&key), &with_header(&key, &header, &claims())).is_ok(),
            "{typ}"
        );
    }
}

#[test]
fn extensions_that_must_be_understood_are_refused() {
    let key = SigningKey::random();
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!("b64")] {
        let header = json!({"alg": "ES256", "kid": key.kid(), "crit": crit, "b64": false});
        assert_eq!(
            verify(&set(&key), &with_header(&key, &header, &claims())),
            Err(JwtError::Critical)
        );
    }
}

/// No `zip`, no `p2c`: what would have to be decrypted or unpacked is not read at all.
#[test]
fn encrypted_tokens_are_no_tokens() {
    let header = part(json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": u32::MAX, "zip": "DEF"}));
    assert_eq!(
        verify(&set(&rsa()), &format!("{header}.a.b.c.d")),
        Err(JwtError::Malformed)
    );
    assert_eq!(
        hs256_verify::<Value>(KEY, &format!("{header}.a.b.c.d")),
        Err(JwtError::Malformed)
    );
}

#[test]
fn clocks_may_be_a_little_apart() {
    let key = SigningKey::random();
    let at = |changes| verify(&set(&key), &key.sign(&claims_with(changes)).unwrap()).map(|_| ());
    assert_eq!(at(json!({"exp": NOW - 59})), Ok(()));
    assert_eq!(at(json!({"exp": NOW - 60})), Err(JwtError::Expired));
    for from in ["iat", "nbf"] {
        assert_eq!(at(json!({from: NOW + 60})), Ok(()));
        assert_eq!(at(json!({from: NOW + 61})), Err(JwtError::NotYetValid));
    }
    assert_eq!(
        at(json!({"exp": NOW as f64 + 0.5})),
        Ok(()),
        "fractions are allowed"
    );
    assert_eq!(at(json!({"exp": -1e300})), Err(JwtError::Expired));
}

#[test]
fn a_token_has_to_end() {
    let key = SigningKey::random();
    let read = |changes| verify(&set(&key), &key.sign(&claims_with(changes)).unwrap());
    assert_eq!(read(json!({"exp": null})), Err(JwtError::Claim("exp")));
    assert!(matches!(
        read(json!({"exp": "9999999999"})),
        Err(JwtError::Shape(_))
    ));
}

#[test]
fn tokens_for_or_from_somebody_else() {
    let key = SigningKey::random();
    let read = |changes| verify(&set(&key), &key.sign(&claims_with(changes)).unwrap()).map(|_| ());
    assert_eq!(
        read(json!({"iss": "https://idp.example.com/"})),
        Err(JwtError::Issuer)
    );
    assert_eq!(read(json!({"iss": null})), Err(JwtError::Issuer));
    assert_eq!(read(json!({"aud": "client2"})), Err(JwtError::Audience));
    assert_eq!(read(json!({"aud": null})), Err(JwtError::Audience));
    assert_eq!(read(json!({"aud": []})), Err(JwtError::Audience));
    assert_eq!(read(json!({"aud": ["other", "client"]})), Ok(()));
}

/// Two parsers would read two different issuers.
#[test]
fn claims_named_twice_are_refused() {
    let key = SigningKey::random();
    for twice in [
        r#""iss":"https://attacker.example.com""#,
        r#""aud":"x""#,
        r#""exp":1"#,
    ] {
        let mut text = claims().to_string();
        text.insert_str(1, &format!("{twice},"));
        let token = key.sign_raw(&part(json!({"alg": "ES256", "kid": key.kid()})), text.as_bytes());
        assert!(
            matches!(verify(&set(&key), &token), Err(JwtError::Shape(_))),
            "{twice}"
        );
    }
    let header = format!(r#"{{"alg":"none","alg":"ES256","kid":"{}"}}"#, key.kid());
    assert_eq!(
        verify(&set(&key), &key.sign_raw(&part(header), b"{}")),
        Err(JwtError::Malformed)
    );
}

#[test]
fn headers_and_claims_are_objects() {
    let key = SigningKey::random();
    let token = key.sign_raw(
        &part(json!(["ES256", key.kid(), null])),
        claims().to_string().as_bytes(),
    );
    assert_eq!(verify(&set(&key), &token), Err(JwtError::Malformed));
    let list = json!(["https://idp.example.com", "client", NOW + 300, null, null]);
    assert_eq!(
        verify(&set(&key), &key.sign(&list).unwrap()),
        Err(JwtError::Malformed)
    );
}

/// One token has one spelling: a list of revoked tokens cannot be walked around.
#[test]
fn base64_has_one_spelling() {
    let token = hs256_sign(KEY, &json!({"sub": "a"}));
    let (head, last) = token.split_at(token.len() - 1);
    let respelled = char::from(last.as_bytes()[0] + 1);
    for changed in [
        format!("{head}{respelled}"),
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
    ] {
        assert!(hs256_verify::<Value>(KEY, &changed).is_err(), "{changed:?}");
    }
}

/// All-zero and DER-encoded ECDSA signatures; cut and lengthened ones.
#[test]
fn signatures_of_odd_shape() {
    let key = SigningKey::random();
    let token = key.sign(&claims()).unwrap();
    let (head, good) = token.rsplit_once('.').unwrap();
    let good = base64url_decode(good).unwrap();
    let der = [&[0x30, 0x44, 2, 0x20][..], &good[..32], &[2, 0x20], &good[32..]].concat();
    for odd in [
        vec![0; 64],
        vec![0; 32],
        vec![],
        der,
        good[..63].to_vec(),
        [&good[..], &[0]].concat(),
    ] {
        let token = format!("{head}.{}", base64url_encode(&odd));
        assert_eq!(
            verify(&set(&key), &token),
            Err(JwtError::Signature),
            "{} bytes",
            odd.len()
        );
    }
}

/// Nothing that is printed by accident holds key material.
#[test]
fn debug_output_holds_no_secret() {
    let shared = [0x5a; 32];
    let printed = format!("{:?}", SigningKey::derived(&shared));
    let secret = crate::kdf::p256_pkcs8(&shared, "derived-jwt-signing-key");
    assert!(printed.contains("ES256"));
    for window in secret.windows(8) {
        assert!(!printed.contains(&hex::encode(window)) && !printed.contains(&format!("{window:?}")));
    }
}
