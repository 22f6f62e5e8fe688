//! `crypto.*`: digests and message authentication codes of texts, in lower-case hex. The broken ones are not here: see
//! the list of what is refused in [`super::functions`].

use std::fmt::Write as _;

use aws_lc_rs::{constant_time, digest, hmac};
use regorus::Value;

use super::functions::Pure;

pub(super) const FUNCTIONS: &[Pure] = &[
    ("crypto.sha1", 1, |given| {
        digest_of(&digest::SHA1_FOR_LEGACY_USE_ONLY, given)
    }),
    ("crypto.sha256", 1, |given| digest_of(&digest::SHA256, given)),
    ("crypto.hmac.sha1", 2, |given| {
        code(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, given)
    }),
    ("crypto.hmac.sha256", 2, |given| code(hmac::HMAC_SHA256, given)),
    ("crypto.hmac.sha512", 2, |given| code(hmac::HMAC_SHA512, given)),
    ("crypto.hmac.equal", 2, |given| {
        let [Value::String(one), Value::String(two)] = given else {
            return Value::Undefined;
        };
        Value::Bool(constant_time::verify_slices_are_equal(one.as_bytes(), two.as_bytes()).is_ok())
    }),
];

fn digest_of(algorithm: &'static digest::Algorithm, given: &[Value]) -> Value {
    match given {
        [Value::String(text)] => hex(digest::digest(algorithm, text.as_bytes()).as_ref()),
        _ => Value::Undefined,
    }
}

fn code(algorithm: hmac::Algorithm, given: &[Value]) -> Value {
    match given {
        [Value::String(text), Value::String(key)] => {
            let key = hmac::Key::new(algorithm, key.as_bytes());
            hex(hmac::sign(&key, text.as_bytes()).as_ref())
        }
        _ => Value::Undefined,
    }
}

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> Value {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Value::from(text)
}
