//! The CSRF cookie: 32 random bytes that bind a login to the browser that began it.
//!
//! The encoding is the one other Pomerium servers write (spec authentication.md 6), so that a browser may meet
//! both during a migration: `base64url(seconds "|" value "|" mac)`, where value is the base64 of a JSON string.

use pomerium_crypto::{ct, encoding, mac, random};

/// Seconds a cookie is good.
pub const LIFETIME: i64 = 12 * 3600;
const MAX_LEN: usize = 4096;

/// The random value of a browser.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CsrfToken([u8; 32]);

impl std::fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CsrfToken(<secret>)")
    }
}

impl CsrfToken {
    /// A fresh one.
    pub fn random() -> Self {
        Self(random::bytes())
    }

    /// As it stands in the login state.
    pub fn to_text(self) -> String {
        encoding::base64_encode(&self.0)
    }

    /// Whether `text` is [`CsrfToken::to_text`] of this one.
    pub fn is(self, text: &str) -> bool {
        ct::eq(self.to_text().as_bytes(), text.as_bytes())
    }
}

/// Cookie value for `token`, for the cookie called `name`.
pub fn encode(secret: &[u8; 32], name: &str, token: CsrfToken, now: i64) -> String {
    let json = format!("\"{}\"", token.to_text());
    let value = encoding::base64url_padded_encode(json.as_bytes());
    let mac = mac::hmac_sha256(secret, format!("{name}|{now}|{value}").as_bytes());
    let mut packed = format!("{now}|{value}|").into_bytes();
    packed.extend_from_slice(&mac);
    encoding::base64url_padded_encode(&packed)
}

/// The token behind a cookie value that we wrote at most 12 hours ago.
pub fn decode(secret: &[u8; 32], name: &str, cookie: &str, now: i64) -> Option<CsrfToken> {
    if cookie.len() > MAX_LEN {
        return None;
    }
    let packed = encoding::base64url_padded_decode(cookie).ok()?;
    let mut parts = packed.splitn(3, |byte| *byte == b'|');
    let (seconds, value, given) = (parts.next()?, parts.next()?, parts.next()?);
    let (seconds, value) = (
        std::str::from_utf8(seconds).ok()?,
        std::str::from_utf8(value).ok()?,
    );
    let expected = mac::hmac_sha256(secret, format!("{name}|{seconds}|{value}").as_bytes());
    if !ct::eq(given, &expected) {
        return None;
    }
    let written: i64 = seconds.parse().ok()?;
    if now - written >= LIFETIME || written > now + 300 {
        return None;
    }
    let json = encoding::base64url_padded_decode(value).ok()?;
    let text: String = serde_json::from_slice(&json).ok()?;
    encoding::base64_decode(&text)
        .ok()?
        .try_into()
        .ok()
        .map(CsrfToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    #[test]
    fn a_cookie_comes_back_until_it_is_old_or_changed() {
        let token = CsrfToken::random();
        let cookie = encode(&SECRET, "_pomerium_csrf", token, 1_000);
        assert_eq!(decode(&SECRET, "_pomerium_csrf", &cookie, 1_000), Some(token));
        assert_eq!(
            decode(&SECRET, "_pomerium_csrf", &cookie, 1_000 + LIFETIME - 1),
            Some(token)
        );
        assert_eq!(decode(&SECRET, "_pomerium_csrf", &cookie, 1_000 + LIFETIME), None);
        assert_eq!(
            decode(&SECRET, "_pomerium_csrf", &cookie, 600),
            None,
            "from the future"
        );
        assert_eq!(decode(&SECRET, "_other_csrf", &cookie, 1_000), None);
        assert_eq!(decode(&[8; 32], "_pomerium_csrf", &cookie, 1_000), None);
        for junk in ["", "x", "MTIz", &"A".repeat(5_000)] {
            assert_eq!(decode(&SECRET, "_pomerium_csrf", junk, 1_000), None);
        }
    }

    #[test]
    fn the_layout_is_seconds_value_mac() {
        let cookie = encode(&SECRET, "_pomerium_csrf", CsrfToken([0; 32]), 1_700_000_000);
        let packed = encoding::base64url_padded_decode(&cookie).unwrap();
        let head = b"1700000000|IkFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE9Ig==|";
        assert!(packed.starts_with(head), "{}", String::from_utf8_lossy(&packed));
        assert_eq!(packed.len(), head.len() + 32);
    }

    #[test]
    fn tokens_compare_whole() {
        let token = CsrfToken([1; 32]);
        assert!(token.is(&token.to_text()));
        assert!(!token.is(""));
        assert!(!token.is(&token.to_text()[..43]));
        assert!(!CsrfToken([2; 32]).is(&token.to_text()));
    }
}
