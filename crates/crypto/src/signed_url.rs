//! Links between our own hosts that nobody else can make and that soon expire
//! (spec authentication.md 2.3).

use crate::query::Query;
use crate::{ct, encoding, mac};

/// Parameter with the unix second the link was made.
pub const ISSUED: &str = "pomerium_issued";
/// Parameter with the unix second the link ends.
pub const EXPIRY: &str = "pomerium_expiry";
/// Parameter with the signature.
pub const SIGNATURE: &str = "pomerium_signature";

/// How long a link is good, in seconds.
pub const LIFETIME: i64 = 300;
/// How far the clocks of two hosts may be apart, in seconds.
pub const LEEWAY: i64 = 60;

/// Why a URL cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `scheme://host` at the start.
    #[error("only an absolute URL can be signed")]
    NotAbsolute,
    /// A fragment never reaches the server, so that its signature could not be checked.
    #[error("a URL with a fragment cannot be signed")]
    Fragment,
    /// The query has broken escapes.
    #[error("the query of the URL is malformed")]
    Query,
}

/// Why a signed URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature.
    #[error("the link is not signed")]
    Missing,
    /// The URL, the signature or the times cannot be read.
    #[error("the link is malformed")]
    Malformed,
    /// Too old.
    #[error("the link has expired")]
    Expired,
    /// From later than now, beyond the leeway.
    #[error("the link is from the future: the clocks of two hosts are apart")]
    FromTheFuture,
    /// Signed with another key, or changed.
    #[error("the signature does not fit the link")]
    Mismatch,
}

/// Signs `url` at `now_unix` (seconds): adds the three parameters and writes the query in its one form.
/// Parameters of these names that are already there are replaced.
///
/// # Errors
/// [`UrlError`] for a URL that could never be verified.
pub fn sign(key: &[u8], url: &str, now_unix: i64) -> Result<String, UrlError> {
    sign_for(key, url, now_unix, LIFETIME)
}

/// [`sign`] for a link that is good for `lifetime` seconds. Whoever checks it reads the end from the link.
///
/// # Errors
/// [`UrlError`] for a URL that could never be verified.
pub fn sign_for(key: &[u8], url: &str, now_unix: i64, lifetime: i64) -> Result<String, UrlError> {
    let (base, query) = split(url)?;
    let mut query = Query::parse(query);
    if query.is_malformed() {
        return Err(UrlError::Query);
    }
    let expiry = now_unix.saturating_add(lifetime);
    query
        .remove(SIGNATURE)
        .set(ISSUED, now_unix.to_string())
        .set(EXPIRY, expiry.to_string());
    let signature = signature(key, base, &query, now_unix, expiry);
    query.set(SIGNATURE, encoding::base64url_padded_encode(&signature));
    Ok(join(base, &query))
}

/// Checks `url` at `now_unix` (seconds). The caller rebuilds the absolute URL as `https://` + Host header +
/// path as received + query.
///
/// # Errors
/// [`SignatureError`]; times are looked at before the signature, so that an honest visitor with an old link
/// is told so.
pub fn verify(key: &[u8], url: &str, now_unix: i64) -> Result<(), SignatureError> {
    let (base, query) = split(url).map_err(|_| SignatureError::Malformed)?;
    let mut query = Query::parse(query);
    if !query.contains(SIGNATURE) {
        return Err(SignatureError::Missing);
    }
    // A pair that we leave out but somebody else reads would be unsigned.
    if query.is_malformed() {
        return Err(SignatureError::Malformed);
    }
    let given = query
        .get(SIGNATURE)
        .and_then(|text| encoding::base64url_padded_decode(text).ok());
    let given = given.ok_or(SignatureError::Malformed)?;
    query.remove(SIGNATURE);
    let issued = seconds(&query, ISSUED)?;
    let expiry = seconds(&query, EXPIRY)?;
    if now_unix.saturating_sub(LEEWAY) > expiry {
        return Err(SignatureError::Expired);
    }
    if now_unix.saturating_add(LEEWAY) < issued {
        return Err(SignatureError::FromTheFuture);
    }
    if ct::eq(&given, &signature(key, base, &query, issued, expiry)) {
        Ok(())
    } else {
        Err(SignatureError::Mismatch)
    }
}

fn seconds(query: &Query, key: &str) -> Result<i64, SignatureError> {
    query
        .get(key)
        .and_then(|text| text.parse().ok())
        .ok_or(SignatureError::Malformed)
}

/// The times follow the URL with one space between them and none before: that is the wire format.
fn signature(key: &[u8], base: &str, query: &Query, issued: i64, expiry: i64) -> [u8; 32] {
    mac::hmac_sha512_256(key, format!("{}{issued} {expiry}", join(base, query)).as_bytes())
}

fn join(base: &str, query: &Query) -> String {
    if query.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", query.encode())
    }
}

/// Everything before the `?`, and the query. The path stays byte for byte as it is.
fn split(url: &str) -> Result<(&str, &str), UrlError> {
    if url.contains('#') {
        return Err(UrlError::Fragment);
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let rest = base
        .strip_prefix("https://")
        .or_else(|| base.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok((base, query)),
        _ => Err(UrlError::NotAbsolute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"test-key";
    const NOW: i64 = 1_574_117_851;
    const VECTOR: &str = "https://pomerium.io?pomerium_expiry=1574118151&pomerium_issued=1574117851\
                          &pomerium_signature=XtvM-Y-oPvoGGV2Q5G0vrQ_CgNeYhVyTG5dHIqLsBOU%3D";

    #[test]
    fn agrees_with_the_published_vector() {
        assert_eq!(sign(KEY, "https://pomerium.io", NOW).unwrap(), VECTOR);
        assert_eq!(verify(KEY, VECTOR, NOW), Ok(()));
    }

    /// Without the space between the two times the signature would begin with `ZiVZR-`.
    #[test]
    fn the_space_between_the_times_counts() {
        let url = "https://pomerium.io?pomerium_expiry=1574118151&pomerium_issued=1574117851";
        let unspaced = mac::hmac_sha512_256(KEY, format!("{url}{NOW}{}", NOW + LIFETIME).as_bytes());
        let unspaced = encoding::base64url_padded_encode(&unspaced);
        assert!(unspaced.starts_with("ZiVZR-"), "{unspaced}");
        let forged = format!("{url}&pomerium_signature={}", crate::query::escape(&unspaced));
        assert_eq!(verify(KEY, &forged, NOW), Err(SignatureError::Mismatch));
    }

    #[test]
    fn times_have_a_minute_of_leeway() {
        let end = NOW + LIFETIME + LEEWAY;
        assert_eq!(verify(KEY, VECTOR, end), Ok(()));
        assert_eq!(verify(KEY, VECTOR, end + 1), Err(SignatureError::Expired));
        assert_eq!(verify(KEY, VECTOR, NOW - LEEWAY), Ok(()));
        assert_eq!(
            verify(KEY, VECTOR, NOW - LEEWAY - 1),
            Err(SignatureError::FromTheFuture)
        );
    }

    #[test]
    fn a_link_can_be_good_for_longer() {
        let url = sign_for(KEY, "https://a.example.com/", NOW, 900).unwrap();
        assert_eq!(verify(KEY, &url, NOW + 900 + LEEWAY), Ok(()));
        assert_eq!(
            verify(KEY, &url, NOW + 900 + LEEWAY + 1),
            Err(SignatureError::Expired)
        );
    }

    #[test]
    fn any_change_is_seen() {
        let url = sign(KEY, "https://a.example.com/x%2Fy?b=1&a=%20z", NOW).unwrap();
        assert!(
            url.starts_with("https://a.example.com/x%2Fy?a=+z&b=1&pomerium_expiry="),
            "{url}"
        );
        assert_eq!(verify(KEY, &url, NOW), Ok(()));
        for (from, to) in [
            ("https://a.", "https://b."),
            ("https://", "http://"),
            ("x%2Fy", "x/y"),
            ("b=1", "b=2"),
            ("b=1", "b=1&b=2"),
            ("pomerium_expiry=1574118151", "pomerium_expiry=1574118152"),
            ("pomerium_issued=1574117851", "pomerium_issued=1574117850"),
        ] {
            assert_eq!(
                verify(KEY, &url.replacen(from, to, 1), NOW),
                Err(SignatureError::Mismatch),
                "{to}"
            );
        }
        assert_eq!(verify(b"other-key", &url, NOW), Err(SignatureError::Mismatch));
    }

    #[test]
    fn the_order_of_parameters_does_not_count() {
        let url = sign(KEY, "https://a.example.com/?a=1", NOW).unwrap();
        let (base, query) = url.split_once('?').unwrap();
        let turned: Vec<_> = query.split('&').rev().collect();
        assert_eq!(verify(KEY, &format!("{base}?{}", turned.join("&")), NOW), Ok(()));
    }

    #[test]
    fn signing_again_replaces_the_old_signature() {
        let once = sign(KEY, "https://a.example.com/", NOW - 1000).unwrap();
        assert_eq!(sign(KEY, &once, NOW), sign(KEY, "https://a.example.com/", NOW));
    }

    #[test]
    fn unreadable_links_are_refused_before_anything_else() {
        assert_eq!(
            verify(KEY, "https://a.example.com/", NOW),
            Err(SignatureError::Missing)
        );
        for (from, to) in [
            ("%3D", ""),
            ("XtvM", "%2F%2F"),
            ("pomerium_issued=1574117851", "pomerium_issued=x"),
            ("&pomerium_issued=1574117851", ""),
            ("?", "?a=%zz&"),
            ("https://pomerium.io", "/relative"),
            ("&pomerium_issued", "#&pomerium_issued"),
        ] {
            assert_eq!(
                verify(KEY, &VECTOR.replacen(from, to, 1), NOW),
                Err(SignatureError::Malformed),
                "{from}"
            );
        }
    }

    #[test]
    fn refuses_to_sign_what_could_not_be_verified() {
        assert_eq!(sign(KEY, "/path", NOW), Err(UrlError::NotAbsolute));
        assert_eq!(sign(KEY, "https:///path", NOW), Err(UrlError::NotAbsolute));
        assert_eq!(sign(KEY, "ftp://a.example.com/", NOW), Err(UrlError::NotAbsolute));
        assert_eq!(
            sign(KEY, "https://a.example.com/#x", NOW),
            Err(UrlError::Fragment)
        );
        assert_eq!(
            sign(KEY, "https://a.example.com/?a=%z", NOW),
            Err(UrlError::Query)
        );
    }
}
