//! Small values that travel through the browser: readable and changeable by nobody but us, bound to one use.

use pomerium_crypto::{aead, encoding, kdf};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Seals values for one purpose; a value sealed for another does not open.
#[derive(Clone)]
pub struct Sealer {
    key: [u8; 32],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(<secret>)")
    }
}

impl Sealer {
    /// A sealer whose key comes from `secret` and `purpose`.
    pub fn new(secret: &[u8; 32], purpose: &str) -> Self {
        Self {
            key: kdf::derive(secret, purpose),
        }
    }

    /// The value as URL- and cookie-safe text.
    pub fn seal<T: Serialize>(&self, value: &T) -> String {
        let plain = serde_json::to_vec(value).unwrap_or_default();
        encoding::base64url_encode(&aead::seal(&self.key, &plain, b""))
    }

    /// The value behind such text; `None` for anything we did not make.
    pub fn open<T: DeserializeOwned>(&self, text: &str) -> Option<T> {
        let sealed = encoding::base64url_decode(text).ok()?;
        let plain = aead::open(&self.key, &sealed, b"").ok()?;
        serde_json::from_slice(&plain).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_open_only_unchanged_and_for_their_purpose() {
        let one = Sealer::new(&[7; 32], "one");
        let text = one.seal(&("value", 1));
        assert_eq!(one.open::<(String, i32)>(&text), Some(("value".into(), 1)));
        assert_eq!(Sealer::new(&[7; 32], "two").open::<(String, i32)>(&text), None);
        assert_eq!(Sealer::new(&[8; 32], "one").open::<(String, i32)>(&text), None);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                one.open::<(String, i32)>(std::str::from_utf8(&changed).unwrap()),
                None,
                "byte {at}"
            );
        }
        assert_eq!(one.open::<(String, i32)>(""), None);
        assert_eq!(one.open::<(String, i32)>("not base64 !"), None);
    }
}
