//! What is taken off a request after the session was found and before it goes upstream (proxy.md 4.8 step 5).

use http::{HeaderMap, HeaderName, header};

use crate::{
    canonical::{JWT_ASSERTION, JWT_ASSERTION_FOR, POMERIUM_AUTHORIZATION},
    cookies::{self, OwnCookies},
};

/// Headers that hold credentials of ours, or may.
const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    POMERIUM_AUTHORIZATION,
    JWT_ASSERTION,
    JWT_ASSERTION_FOR,
];

/// Removes every credential of ours: our cookies, `Authorization: Pomerium …`, `x-pomerium-authorization`,
/// and the inbound assertion headers (whoever carries a verified one on sets it anew).
pub fn strip_credentials(headers: &mut HeaderMap, own: &OwnCookies) {
    cookies::strip_from_request(headers, own);
    // One look at the names is cheaper than a lookup for each of ours, which few requests have.
    if !headers.keys().any(|name| CREDENTIALS.contains(name)) {
        return;
    }
    headers.remove(POMERIUM_AUTHORIZATION);
    strip_assertions(headers);
    let is_ours = |value: &http::HeaderValue| value.as_bytes().starts_with(b"Pomerium ");
    if headers.get_all(header::AUTHORIZATION).iter().any(is_ours) {
        headers.remove(header::AUTHORIZATION);
    }
}

/// Removes the inbound assertion headers only: where the upstream is the authenticate service, the credentials are for it.
pub fn strip_assertions(headers: &mut HeaderMap) {
    headers.remove(JWT_ASSERTION);
    headers.remove(JWT_ASSERTION_FOR);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn our_credentials_go_and_others_stay() {
        let mut map = headers(&[
            ("authorization", "Pomerium abc"),
            ("x-pomerium-authorization", "abc"),
            ("x-pomerium-jwt-assertion", "forged"),
            ("x-pomerium-jwt-assertion-for", "forged"),
            ("cookie", "a=1; _pomerium=x"),
            ("accept", "*/*"),
        ]);
        strip_credentials(&mut map, &OwnCookies::new("_pomerium"));
        assert_eq!(map.len(), 2);
        assert_eq!(map["cookie"], "a=1");
    }

    #[test]
    fn other_authorization_stays() {
        for value in ["Bearer abc", "pomerium abc", "Bearer Pomerium-abc", "Basic Zm9v"] {
            let mut map = headers(&[("authorization", value)]);
            strip_credentials(&mut map, &OwnCookies::new("_pomerium"));
            assert_eq!(map["authorization"], value);
        }
    }
}
