//! What a proxy says about a request over HTTP (forward-auth), read from its headers.
//!
//! A proxy passes the client's own headers along with those it sets, so a header proves nothing by being there. One
//! family of names is believed, whole or not at all; every other way of saying the same must agree with it.

use http::{HeaderMap, HeaderName};
use pomerium_web::canonical::{ManagedHeaders, Meaning, Reported};

const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
/// Other names that programs read the target from.
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const REWRITE_URL: HeaderName = HeaderName::from_static("x-rewrite-url");

/// All names that tell a request line.
const ALL: [HeaderName; 8] = [
    FORWARDED_METHOD,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    FORWARDED_URI,
    ORIGINAL_METHOD,
    ORIGINAL_URL,
    ORIGINAL_URI,
    REWRITE_URL,
];

/// Which family of headers a proxy tells the request line in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri`: Traefik, Caddy.
    Forwarded,
    /// `X-Original-URL`, `X-Original-Method`: nginx.
    Original,
}

/// Reads the request line. Errors say what the proxy has to send.
pub(super) fn read(headers: &HeaderMap, dialect: Dialect) -> Result<Reported<'_>, &'static str> {
    let line = match dialect {
        Dialect::Forwarded => Reported {
            method: need(headers, &FORWARDED_METHOD, "X-Forwarded-Method is missing")?,
            scheme: need(headers, &FORWARDED_PROTO, "X-Forwarded-Proto is missing")?,
            host: need(headers, &FORWARDED_HOST, "X-Forwarded-Host is missing")?,
            target: need(headers, &FORWARDED_URI, "X-Forwarded-Uri is missing")?,
        },
        Dialect::Original => {
            let url = need(headers, &ORIGINAL_URL, "X-Original-URL is missing")?;
            let (scheme, host, target) = split(url).ok_or("X-Original-URL is not scheme://host/path")?;
            Reported {
                method: need(headers, &ORIGINAL_METHOD, "X-Original-Method is missing")?,
                scheme,
                host,
                target,
            }
        }
    };
    agree(headers, &line)?;
    Ok(line)
}

/// Where the others say something else, somebody lies.
fn agree(headers: &HeaderMap, line: &Reported<'_>) -> Result<(), &'static str> {
    const CONFLICT: &str = "headers about the original request contradict each other";
    let said = [
        (&FORWARDED_METHOD, line.method),
        (&ORIGINAL_METHOD, line.method),
        (&FORWARDED_PROTO, line.scheme),
        (&FORWARDED_HOST, line.host),
        (&FORWARDED_URI, line.target),
        (&ORIGINAL_URI, line.target),
        (&REWRITE_URL, line.target),
    ];
    for (name, believed) in said {
        if let Some(value) = one(headers, name)?
            && value != believed
        {
            return Err(CONFLICT);
        }
    }
    let believed = (line.scheme, line.host, line.target);
    match one(headers, &ORIGINAL_URL)? {
        Some(url) if split(url) != Some(believed) => Err(CONFLICT),
        _ => Ok(()),
    }
}

/// `scheme`, `host`, `/target` of `scheme://host/target`, by the first slash. No URL parser: those read a path in more
/// ways than one.
fn split(url: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (scheme, rest) = [&b"https"[..], b"http"].into_iter().find_map(|scheme| {
        let rest = url.strip_prefix(scheme)?.strip_prefix(b"://")?;
        Some((&url[..scheme.len()], rest))
    })?;
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    Some((scheme, &rest[..slash], &rest[slash..]))
}

fn need<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    missing: &'static str,
) -> Result<&'a [u8], &'static str> {
    one(headers, name)?
        .filter(|value| !value.is_empty())
        .ok_or(missing)
}

/// The value. Two of them are the client's and the proxy's, and nobody knows which is which.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err("a header about the original request is there twice");
    }
    Ok(value.map(http::HeaderValue::as_bytes))
}

/// Refuses headers that no client may send, because nothing of ours stands between them and the application: other
/// spellings of what the proxy tells, and identity headers.
pub(super) fn check_names(headers: &HeaderMap, managed: &ManagedHeaders) -> Result<(), &'static str> {
    for name in headers.keys() {
        let text = name.as_str();
        let meaning = managed.meaning(text);
        let twin = text.contains('_');
        if twin && (meaning != Meaning::Plain || ALL.iter().any(|own| own.as_str() == text.replace('_', "-")))
        {
            return Err("a header of the proxy is there in another spelling");
        }
        if meaning == Meaning::Identity && text != "x-pomerium-authorization" {
            return Err("the client sends an identity header");
        }
    }
    Ok(())
}

/// Leaves the client's own headers.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in &ALL {
        headers.remove(name);
    }
    // Of the question, not of the request that it is about.
    headers.remove(http::header::CONTENT_LENGTH);
    headers.remove(http::header::TRANSFER_ENCODING);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAEFIK: [(&str, &str); 4] = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example.com"),
        ("x-forwarded-uri", "/a?b=c"),
    ];
    const NGINX: [(&str, &str); 2] = [
        ("x-original-method", "GET"),
        ("x-original-url", "https://app.example.com/a?b=c"),
    ];

    fn headers<'a>(lists: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lists {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn both_families_say_the_same() {
        let (forwarded, original) = (headers(&TRAEFIK), headers(&NGINX));
        let line = read(&forwarded, Dialect::Forwarded).unwrap();
        assert_eq!(line, read(&original, Dialect::Original).unwrap());
        assert_eq!(
            (line.host, line.target),
            (&b"app.example.com"[..], &b"/a?b=c"[..])
        );
        let both = headers(TRAEFIK.iter().chain(&NGINX));
        assert!(read(&both, Dialect::Forwarded).is_ok() && read(&both, Dialect::Original).is_ok());
    }

    #[test]
    fn a_family_is_believed_whole_or_not_at_all() {
        for left_out in 0..TRAEFIK.len() {
            let rest = TRAEFIK.iter().enumerate().filter(|(index, _)| *index != left_out);
            let rest = headers(rest.map(|(_, header)| header).chain(&NGINX));
            assert!(read(&rest, Dialect::Forwarded).is_err());
        }
        assert!(read(&headers(&NGINX[..1]), Dialect::Original).is_err());
        assert!(read(&headers(&NGINX[1..]), Dialect::Original).is_err());
        let empty = headers(TRAEFIK[..3].iter().chain(&[("x-forwarded-uri", "")]));
        assert!(read(&empty, Dialect::Forwarded).is_err());
    }

    #[test]
    fn contradictions_and_doubles_are_refused() {
        for lie in [
            ("x-forwarded-method", "POST"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "admin.example.com"),
            ("x-forwarded-uri", "/public"),
            ("x-original-uri", "/public"),
            ("x-rewrite-url", "/public"),
        ] {
            let lying = headers(NGINX.iter().chain([&lie]));
            assert!(read(&lying, Dialect::Original).is_err(), "{lie:?}");
        }
        for lie in [
            ("x-original-method", "POST"),
            ("x-original-url", "https://app.example.com/public"),
            ("x-original-url", "nonsense"),
            ("x-forwarded-uri", "/a?b=c"),
        ] {
            let lying = headers(TRAEFIK.iter().chain([&lie]));
            assert!(read(&lying, Dialect::Forwarded).is_err(), "{lie:?}");
        }
    }

    #[test]
    fn an_original_url_is_split_at_the_first_slash() {
        assert_eq!(
            split(b"http://a//b/c"),
            Some((&b"http"[..], &b"a"[..], &b"//b/c"[..]))
        );
        for url in [
            &b"//a/b"[..],
            b"ftp://a/b",
            b"HTTPS://a/b",
            b"https:/a/b",
            b"https://a",
            b"/a",
        ] {
            assert_eq!(split(url), None);
        }
    }

    #[test]
    fn names_that_no_client_may_send() {
        let managed = ManagedHeaders::new(["X-Email"]);
        let check = |name| check_names(&headers(&[(name, "x")]), &managed);
        for name in [
            "x_forwarded_uri",
            "x-forwarded_uri",
            "x_original_url",
            "x-original_method",
            "x_rewrite_url",
            "x_forwarded_for",
            "x-email",
            "x_email",
            "x-forwarded-user",
            "x-pomerium-jwt-assertion",
            "x_pomerium_jwt_assertion",
            "x_pomerium_authorization",
            "x-pomerium-claim-groups",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
        for name in [
            "accept",
            "my_header",
            "x-forwarded-for",
            "x-pomerium-authorization",
            "cookie",
        ] {
            assert!(check(name).is_ok(), "{name}");
        }
    }
}
