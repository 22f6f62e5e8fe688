//! Functions that the engine lacks: digests, tokens, certificates of SSH; and those of its features.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::ssh::PublicKey;

#[test]
fn digests_are_those_of_the_standards() {
    for condition in [
        // RFC 3174, FIPS 180-2, RFC 4231 (case 2).
        r#"crypto.sha1("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d""#,
        r#"crypto.sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#,
        r#"crypto.hmac.sha1("what do ya want for nothing?", "Jefe") == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79""#,
        r#"crypto.hmac.sha256("what do ya want for nothing?", "Jefe") == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843""#,
        r#"startswith(crypto.hmac.sha512("what do ya want for nothing?", "Jefe"), "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737")"#,
        r#"crypto.hmac.equal("a", "a"); not crypto.hmac.equal("a", "b")"#,
        r#"not crypto.sha256(1)"#,
    ] {
        assert!(allow(&format!("allow {{ {condition} }}")).value, "{condition}");
    }
}

#[test]
fn yaml_and_patches() {
    for condition in [
        r#"yaml.unmarshal("a: [1, x]") == {"a": [1, "x"]}"#,
        r#"yaml.is_valid("a: 1"); not yaml.is_valid("a: [")"#,
        r#"yaml.unmarshal(yaml.marshal({"a": ["b"]})) == {"a": ["b"]}"#,
        r#"not yaml.unmarshal("a: [")"#,
        r#"json.patch({"a": 1}, [{"op": "add", "path": "/b", "value": 2}]) == {"a": 1, "b": 2}"#,
        r#"json.patch({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}]) == {"a": 1, "b": 1}"#,
    ] {
        assert!(allow(&format!("allow {{ {condition} }}")).value, "{condition}");
    }
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// Somebody who signs tokens with one key.
struct Signer {
    algorithm: &'static str,
    /// What scripts are given: PEM, JWK or secret.
    keys: Vec<String>,
    sign: Sign,
}

impl Signer {
    fn token(&self, header: &serde_json::Value, payload: &serde_json::Value) -> String {
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(payload));
        let signature = URL_SAFE_NO_PAD.encode((self.sign)(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn plain(&self, payload: &serde_json::Value) -> String {
        self.token(&json!({"alg": self.algorithm}), payload)
    }
}

fn pem(spki: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
        STANDARD.encode(spki)
    )
}

fn hs256() -> Signer {
    Signer {
        algorithm: "HS256",
        keys: vec!["a secret".into()],
        sign: Box::new(|signed| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret");
            hmac::sign(&key, signed).as_ref().to_vec()
        }),
    }
}

fn es256() -> Signer {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk =
        json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]), "kid": "k1"});
    let other =
        json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[1..33]), "kid": "k0"});
    Signer {
        algorithm: "ES256",
        keys: vec![
            pem(der.as_ref()),
            jwk.to_string(),
            json!({"keys": [other, jwk]}).to_string(),
        ],
        sign: Box::new(move |signed| pair.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()),
    }
}

fn rsa(algorithm: &'static str, padding: &'static dyn RsaEncoding) -> Signer {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    let pair = RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pkcs1 = STANDARD.encode(pair.public_key().as_ref());
    Signer {
        algorithm,
        keys: vec![
            pem(der.as_ref()),
            format!("-----BEGIN RSA PUBLIC KEY-----\n{pkcs1}\n-----END RSA PUBLIC KEY-----"),
        ],
        sign: Box::new(move |signed| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(padding, &SystemRandom::new(), signed, &mut signature)
                .unwrap();
            signature
        }),
    }
}

fn eddsa() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    Signer {
        algorithm: "EdDSA",
        keys: vec![json!({"kty": "OKP", "crv": "Ed25519", "x": x}).to_string()],
        sign: Box::new(move |signed| pair.sign(signed).as_ref().to_vec()),
    }
}

fn signers() -> [Signer; 5] {
    [
        hs256(),
        es256(),
        rsa("RS256", &signature::RSA_PKCS1_SHA256),
        rsa("PS384", &signature::RSA_PSS_SHA384),
        eddsa(),
    ]
}

/// What `call` gives, with `t` for the token and `k` for the key.
fn holds(condition: &str, token: &str, keys: &str) -> bool {
    let text = format!(
        "t := {}\nk := {}\nallow {{ {condition} }}",
        json!(token),
        json!(keys)
    );
    allow(&text).value
}

#[test]
fn tokens_are_verified_by_their_keys_only() {
    let signers = signers();
    for (at, signer) in signers.iter().enumerate() {
        let token = signer.plain(&json!({"sub": "u1"}));
        let verify = format!("io.jwt.verify_{}(t, k)", signer.algorithm.to_lowercase());
        for keys in &signer.keys {
            assert!(holds(&verify, &token, keys), "{verify} {keys}");
            let mut broken = token.clone().into_bytes();
            broken[token.len() / 2] ^= 1;
            let broken = String::from_utf8(broken).unwrap();
            assert!(!holds(&verify, &broken, keys), "{verify}: changed");
        }
        let other = &signers[(at + 1) % signers.len()];
        assert!(
            !holds(&verify, &token, &other.keys[0]),
            "{verify}: a key of somebody else"
        );
        let foreign = format!("io.jwt.verify_{}(t, k)", other.algorithm.to_lowercase());
        assert!(
            !holds(&foreign, &token, &signer.keys[0]),
            "{foreign}: another algorithm"
        );
    }
}

#[test]
fn what_a_token_says_of_itself_is_not_believed() {
    let (symmetric, signer) = (hs256(), es256());
    let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
    let unsigned = format!("{none}.{}.", URL_SAFE_NO_PAD.encode(r#"{"sub":"u1"}"#));
    let valid = r#"io.jwt.decode_verify(t, {"cert": k})[0] == true"#;
    assert!(!holds(valid, &unsigned, &signer.keys[0]));
    // A public key is no secret: signed with it as one, the token must not count.
    let confused = Signer {
        keys: Vec::new(),
        sign: {
            let key = signer.keys[0].clone();
            Box::new(move |signed| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
                hmac::sign(&key, signed).as_ref().to_vec()
            })
        },
        ..symmetric
    };
    assert!(!holds(valid, &confused.plain(&json!({})), &signer.keys[0]));
    let demanding = signer.token(
        &json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
        &json!({}),
    );
    assert!(!holds("io.jwt.verify_es256(t, k)", &demanding, &signer.keys[0]));
    for odd in ["", ".", "..", "a.b.c", "e30.e30", "e30.e30.e30.e30"] {
        assert!(!holds("io.jwt.decode(t)", odd, ""), "{odd}");
    }
}

#[test]
fn constraints_are_all_met_or_the_token_does_not_count() {
    let signer = es256();
    let now = 1_700_000_000;
    let good = json!({"iss": "https://idp.example.com", "aud": ["app", "other"], "exp": now + 10, "nbf": now, "sub": "u1"});
    let check = |payload: &serde_json::Value, constraints: &str| {
        let condition = format!(
            "x := io.jwt.decode_verify(t, {{\"cert\": k{constraints}}}); x[0]; x[2].exp > 0; x[1].alg == \"ES256\""
        );
        holds(&condition, &signer.plain(payload), &signer.keys[1])
    };
    let all = r#", "iss": "https://idp.example.com", "aud": "app", "alg": "ES256""#;
    assert!(check(&good, all));
    assert!(check(&good, r#", "aud": "app", "time": 1700000000000000000"#));
    for constraints in [
        "",
        r#", "aud": "elsewhere""#,
        r#", "aud": "app", "iss": "https://evil.example.com""#,
        r#", "aud": "app", "alg": "RS256""#,
        r#", "aud": "app", "time": 1800000000000000000"#,
        r#", "aud": "app", "unknown": 1"#,
        r#", "aud": "app", "secret": "x""#,
    ] {
        assert!(!check(&good, constraints), "{constraints}");
    }
    for (field, value) in [
        ("exp", json!(now)),
        ("exp", json!("never")),
        ("nbf", json!(now + 1)),
        ("aud", json!("other")),
    ] {
        let mut payload = good.clone();
        payload[field] = value;
        assert!(!check(&payload, all), "{field}");
    }
    assert!(holds(
        "x := io.jwt.decode(t); x[0] == {\"alg\": \"ES256\"}; x[1] == {\"a\": 1}; count(x[2]) == 128",
        &signer.plain(&json!({"a": 1})),
        ""
    ));
}

#[test]
fn certificates_of_ssh_count_as_for_the_criterion() {
    let wire = |line: &str| STANDARD.encode(PublicKey::parse(line).unwrap().blob());
    let certificate = wire(include_str!("../../ssh/testdata/by_ed25519.pub"));
    let authority = wire(include_str!("../../ssh/testdata/ca_ed25519.pub"));
    let other = wire(include_str!("../../ssh/testdata/ca_p256.pub"));
    let at = |now: &str, principal: &str, key: &str, authorities: &str| {
        let input = Input::new(None, http(), now.parse().unwrap());
        let text = format!(
            "allow {{ ssh_verify_user_cert({}, {}, {authorities}) }}",
            json!(principal),
            json!(key)
        );
        script(&text).run(&input).unwrap().allow.value
    };
    let now = "2026-01-15T00:00:00Z";
    let listed = json!([other, authority]).to_string();
    assert!(at(now, "deploy", &certificate, &listed));
    assert!(!at(now, "root", &certificate, &listed));
    assert!(!at("2027-01-15T00:00:00Z", "deploy", &certificate, &listed));
    assert!(!at(now, "deploy", &certificate, &json!([other]).to_string()));
    assert!(!at(now, "deploy", &authority, &listed), "a key is no certificate");
    assert!(!at(now, "deploy", "not base64!", &listed));
    assert!(!at(now, "deploy", &certificate, "[]"));
    assert!(
        !at(
            now,
            "deploy",
            &certificate,
            &json!([authority, "broken"]).to_string()
        ),
        "a list that cannot be read vouches for nobody"
    );
    let limited = wire(include_str!("../../ssh/testdata/source_address.pub"));
    let everyone = json!([
        authority,
        other,
        wire(include_str!("../../ssh/testdata/ca_p384.pub")),
        wire(include_str!("../../ssh/testdata/ca_p521.pub")),
        wire(include_str!("../../ssh/testdata/ca_rsa.pub")),
    ]);
    assert!(
        at(now, "deploy", &limited, &everyone.to_string()),
        "from the address of the request"
    );
}
