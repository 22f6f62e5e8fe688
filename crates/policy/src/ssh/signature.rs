//! Whether a key signed a text.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use sha2::{Digest as _, Sha256};

use super::key::{Curve, Material};
use super::wire::Reader;

/// The flag of a security key that says that somebody touched it.
const TOUCHED: u8 = 1;

/// Whether `signature`, in wire format, is one of `message` by `key`. SHA-1 is not believed, and neither are RSA keys
/// below 2048 bits or security keys that nobody touched.
pub(super) fn verifies(key: &Material<'_>, message: &[u8], signature: &[u8]) -> bool {
    read(key, message, signature).unwrap_or(false)
}

fn read(key: &Material<'_>, message: &[u8], signature: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(signature)?;
    let algorithm = reader.text()?;
    let bytes = reader.string()?;
    let whole = |reader: &Reader<'_>| reader.is_empty().then_some(());
    Some(match (key, algorithm) {
        (Material::Ed25519(point), "ssh-ed25519") => {
            whole(&reader)?;
            checks(&ED25519, point, message, bytes)
        }
        (Material::Rsa { exponent, modulus }, "rsa-sha2-256" | "rsa-sha2-512") => {
            whole(&reader)?;
            let parameters = match algorithm {
                "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                _ => &RSA_PKCS1_2048_8192_SHA512,
            };
            let key = RsaPublicKeyComponents {
                n: *modulus,
                e: *exponent,
            };
            key.verify(parameters, message, &padded(bytes, modulus.len())?)
                .is_ok()
        }
        (Material::Ecdsa(curve, point), _) if algorithm == ecdsa_name(*curve) => {
            whole(&reader)?;
            ecdsa(*curve, point, message, bytes)?
        }
        (Material::SkEd25519(point, application), "sk-ssh-ed25519@openssh.com") => {
            let message = touched(&mut reader, application, message)?;
            checks(&ED25519, point, &message, bytes)
        }
        (Material::SkEcdsa(point, application), "sk-ecdsa-sha2-nistp256@openssh.com") => {
            let message = touched(&mut reader, application, message)?;
            ecdsa(Curve::P256, point, &message, bytes)?
        }
        _ => false,
    })
}

fn checks(algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], bytes: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, bytes)
        .is_ok()
}

const fn ecdsa_name(curve: Curve) -> &'static str {
    match curve {
        Curve::P256 => "ecdsa-sha2-nistp256",
        Curve::P384 => "ecdsa-sha2-nistp384",
        Curve::P521 => "ecdsa-sha2-nistp521",
    }
}

/// The two numbers of the signature, each as long as a coordinate.
fn ecdsa(curve: Curve, point: &[u8], message: &[u8], bytes: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(bytes)?;
    let mut fixed = padded(reader.positive()?, curve.size())?;
    fixed.extend(padded(reader.positive()?, curve.size())?);
    if !reader.is_empty() {
        return None;
    }
    let algorithm: &'static dyn VerificationAlgorithm = match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED,
        Curve::P521 => &ECDSA_P521_SHA512_FIXED,
    };
    Some(checks(algorithm, point, message, &fixed))
}

/// What a security key signs in place of the message: its application, how it was used, and the digest.
fn touched(reader: &mut Reader<'_>, application: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let (flags, counter) = (reader.u8()?, reader.u32()?);
    if !reader.is_empty() || flags & TOUCHED == 0 {
        return None;
    }
    let mut signed = Sha256::digest(application).to_vec();
    signed.push(flags);
    signed.extend(counter.to_be_bytes());
    signed.extend(Sha256::digest(message));
    Some(signed)
}

/// A number with zeros before it.
fn padded(number: &[u8], size: usize) -> Option<Vec<u8>> {
    let zeros = size.checked_sub(number.len())?;
    let mut bytes = vec![0; zeros];
    bytes.extend_from_slice(number);
    Some(bytes)
}
