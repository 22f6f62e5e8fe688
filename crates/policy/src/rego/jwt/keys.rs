//! The forms of keys that scripts give: a secret, a certificate or public key in PEM, a JWK or a set of them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value as Json;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::algorithm::Algorithm;

/// Most keys that are tried.
const MOST: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Its name in a JWK, its object identifier, and the bytes of a coordinate.
    const ALL: [(Self, &'static str, &'static str, usize); 3] = [
        (Self::P256, "P-256", "1.2.840.10045.3.1.7", 32),
        (Self::P384, "P-384", "1.3.132.0.34", 48),
        (Self::P521, "P-521", "1.3.132.0.35", 66),
    ];
}

/// A key that verifies.
#[derive(Debug)]
pub(super) enum Key {
    Secret(Vec<u8>),
    /// PKCS#1.
    Rsa(Vec<u8>),
    RsaParts {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    Ec(Curve, Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The keys in `text` that may have signed a token that names `kid`. `None` when there is none at all in it.
pub(super) fn read(algorithm: Algorithm, text: &str, kid: Option<&str>) -> Option<Vec<Key>> {
    if algorithm.is_symmetric() {
        return (!text.is_empty()).then(|| vec![Key::Secret(text.as_bytes().to_vec())]);
    }
    let text = text.trim();
    if text.starts_with("-----BEGIN ") {
        return pem(text).map(|key| vec![key]);
    }
    let json: Json = serde_json::from_str(text).ok()?;
    let listed = match json.get("keys") {
        Some(Json::Array(keys)) if keys.len() <= MOST => keys.iter().collect(),
        Some(_) => return None,
        None => vec![&json],
    };
    let named = |key: &Json, kid: &str| key.get("kid").is_none_or(|own| own.as_str() == Some(kid));
    let fitting = listed.iter().filter(|key| kid.is_none_or(|kid| named(key, kid)));
    let keys: Vec<Key> = fitting.filter_map(|key| jwk(key)).collect();
    (!keys.is_empty() || listed.iter().any(|key| jwk(key).is_some())).then_some(keys)
}

fn pem(text: &str) -> Option<Key> {
    let (label, rest) = text.strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    match label {
        "CERTIFICATE" => {
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
            spki(&certificate.tbs_certificate.subject_pki)
        }
        "PUBLIC KEY" => spki(&SubjectPublicKeyInfo::from_der(&der).ok()?.1),
        "RSA PUBLIC KEY" => Some(Key::Rsa(der)),
        _ => None,
    }
}

fn spki(key: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
    let bits = key.subject_public_key.data.to_vec();
    match key.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => Some(Key::Rsa(bits)),
        "1.3.101.112" => Some(Key::Ed25519(bits)),
        "1.2.840.10045.2.1" => {
            let named = key.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            let (curve, ..) = Curve::ALL.into_iter().find(|(_, _, id, _)| *id == named)?;
            Some(Key::Ec(curve, bits))
        }
        _ => None,
    }
}

fn jwk(key: &Json) -> Option<Key> {
    let text = |name: &str| key.get(name).and_then(Json::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    match text("kty")? {
        "RSA" => Some(Key::RsaParts {
            n: bytes("n")?,
            e: bytes("e")?,
        }),
        "OKP" if text("crv") == Some("Ed25519") => Some(Key::Ed25519(bytes("x")?)),
        "EC" => {
            let name = text("crv")?;
            let (curve, _, _, size) = Curve::ALL.into_iter().find(|(_, own, _, _)| *own == name)?;
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != size || y.len() != size {
                return None;
            }
            Some(Key::Ec(curve, [&[4], x.as_slice(), y.as_slice()].concat()))
        }
        _ => None,
    }
}
