//! Requests that another site made a browser send: refused by what the browser says about their origin,
//! and, for forms, by a token that only our page knew.

use http::{HeaderMap, Method};
use pomerium_crypto::{ct, encoding, mac};

use crate::canonical::{Authority, CanonicalRequest};

/// Why a request counts as forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrfError {
    /// The browser says that another site sent it.
    #[error("request comes from another site")]
    CrossSite,
    /// The form's token is missing, altered or for something else.
    #[error("form token is not valid")]
    Token,
    /// The form was open for too long.
    #[error("form token has expired")]
    Expired,
}

/// Checks a request that changes something. GET, HEAD and OPTIONS pass; so does a client that sends
/// neither `Sec-Fetch-Site` nor `Origin`, because no browser does that (authentication.md 3.1).
///
/// # Errors
/// [`CsrfError::CrossSite`].
pub fn check_origin(request: &CanonicalRequest, headers: &HeaderMap) -> Result<(), CsrfError> {
    if matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        let fine = matches!(site.as_bytes(), b"same-origin" | b"none");
        return if fine { Ok(()) } else { Err(CsrfError::CrossSite) };
    }
    let Some(origin) = headers.get("origin") else {
        return Ok(());
    };
    let same = origin.to_str().is_ok_and(|origin| is_same(origin, request));
    if same { Ok(()) } else { Err(CsrfError::CrossSite) }
}

fn is_same(origin: &str, request: &CanonicalRequest) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    let Ok(authority) = Authority::parse(host.as_bytes()) else {
        return false;
    };
    let port = |authority: &Authority| authority.port().unwrap_or(request.scheme.default_port());
    scheme == request.scheme.as_str()
        && authority.host() == request.host()
        && port(&authority) == port(&request.authority)
}

/// A token for one form: `purpose` names the form, `binding` the browser (a cookie's value or a session
/// id). `expires_at` is in unix seconds.
pub fn token(key: &[u8], purpose: &str, binding: &str, expires_at: i64) -> String {
    let tag = encoding::base64url_encode(&tag(key, purpose, binding, expires_at));
    format!("{expires_at}.{tag}")
}

/// Checks a token made by [`token`] with the same purpose and binding.
///
/// # Errors
/// [`CsrfError::Token`] or [`CsrfError::Expired`].
pub fn verify(key: &[u8], purpose: &str, binding: &str, token: &str, now: i64) -> Result<(), CsrfError> {
    let (expires_at, given) = token.split_once('.').ok_or(CsrfError::Token)?;
    let expires_at: i64 = expires_at.parse().map_err(|_| CsrfError::Token)?;
    let given = encoding::base64url_decode(given).map_err(|_| CsrfError::Token)?;
    if !ct::eq(&given, &tag(key, purpose, binding, expires_at)) {
        return Err(CsrfError::Token);
    }
    if now > expires_at {
        Err(CsrfError::Expired)
    } else {
        Ok(())
    }
}

/// Lengths stand in front, so that no two pairs of texts run together.
fn tag(key: &[u8], purpose: &str, binding: &str, expires_at: i64) -> [u8; 32] {
    let message = format!(
        "form token\n{}:{purpose}\n{}:{binding}\n{expires_at}",
        purpose.len(),
        binding.len()
    );
    mac::hmac_sha256(key, message.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::canonical::test_request;

    fn origin(method: Method, list: &[(&'static str, &'static str)]) -> Result<(), CsrfError> {
        let mut request = test_request("/.pomerium/sign_out");
        request.method = method;
        let headers = list
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        check_origin(&request, &headers)
    }

    #[test]
    fn what_the_browser_says_about_the_origin() {
        let post = |list| origin(Method::POST, list);
        assert_eq!(post(&[]), Ok(()));
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(post(&[("sec-fetch-site", "none")]), Ok(()));
        for site in ["same-site", "cross-site", "", "Same-Origin "] {
            let list = [("sec-fetch-site", site), ("origin", "https://app.example.com")];
            assert_eq!(origin(Method::POST, &list), Err(CsrfError::CrossSite), "{site}");
        }
        assert_eq!(post(&[("origin", "https://app.example.com")]), Ok(()));
        assert_eq!(post(&[("origin", "https://app.example.com:443")]), Ok(()));
        for other in [
            "null",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://evil.example.com",
            "",
        ] {
            assert_eq!(
                origin(Method::DELETE, &[("origin", other)]),
                Err(CsrfError::CrossSite),
                "{other}"
            );
        }
        assert_eq!(origin(Method::GET, &[("sec-fetch-site", "cross-site")]), Ok(()));
    }

    #[test]
    fn tokens_are_bound_to_form_browser_and_time() {
        let token = token(b"key", "sign-out", "session-1", 100);
        let check =
            |key: &[u8], purpose, binding, token: &str, now| verify(key, purpose, binding, token, now);
        assert_eq!(check(b"key", "sign-out", "session-1", &token, 100), Ok(()));
        assert_eq!(
            check(b"key", "sign-out", "session-1", &token, 101),
            Err(CsrfError::Expired)
        );
        assert_eq!(
            check(b"other", "sign-out", "session-1", &token, 1),
            Err(CsrfError::Token)
        );
        assert_eq!(
            check(b"key", "sign-in", "session-1", &token, 1),
            Err(CsrfError::Token)
        );
        assert_eq!(
            check(b"key", "sign-out", "session-2", &token, 1),
            Err(CsrfError::Token)
        );
        assert_eq!(
            check(
                b"key",
                "sign-out",
                "session-1",
                &token.replacen("100", "999", 1),
                1
            ),
            Err(CsrfError::Token)
        );
        assert_eq!(
            check(b"key", "sign-out", "session-1", &token[..token.len() - 4], 1),
            Err(CsrfError::Token)
        );
        assert_eq!(
            check(b"key", "sign-out", "session-1", "", 1),
            Err(CsrfError::Token)
        );
        assert_eq!(
            check(b"key", "sign-out", "session-1", "100.", 1),
            Err(CsrfError::Token)
        );
    }
}
