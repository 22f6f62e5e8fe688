//! A request that another proxy has received and tells us about: the same canonical request by the same rules, but
//! nothing may be put right on the way. What we would have to change, the other proxy forwards unchanged, so it is
//! refused.

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Version, header, request::Parts};

use super::{Authority, CanonicalRequest, Connection, Refusal, Rules, Scheme, canonicalize};

/// The request line as the other proxy tells it, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported<'a> {
    /// The method.
    pub method: &'a [u8],
    /// `http` or `https` (`ws` and `wss` mean the same).
    pub scheme: &'a [u8],
    /// `host[:port]`.
    pub host: &'a [u8],
    /// Path and query.
    pub target: &'a [u8],
}

/// Reads a reported request into its canonical form, and into the head that it would have had at our own edge.
///
/// `headers` are the client's. `x-forwarded-for` in them is believed as `rules` say; `x-forwarded-proto` and `host`
/// are set from what is reported, whatever stood there.
///
/// # Errors
/// [`Refusal`] for everything that [`canonicalize`] refuses, and for every target that is not in its canonical form
/// already.
pub fn canonicalize_reported(
    reported: &Reported<'_>,
    headers: HeaderMap,
    conn: &Connection,
    rules: &Rules,
    new_request_id: &mut dyn FnMut() -> String,
) -> Result<(CanonicalRequest, Parts), Refusal> {
    let scheme = scheme(reported.scheme)?;
    let host = authority(reported.host)?;
    let target = target(reported.target)?;
    let method = method(reported.method)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.version = Version::HTTP_11;
    parts.uri = target.clone().into();
    parts.headers = headers;
    let host = http::HeaderValue::from_str(&host).map_err(|_| refused("the host is not valid"))?;
    parts.headers.insert(header::HOST, host);
    let conn = Connection {
        tls: scheme == Scheme::Https,
        ..*conn
    };
    parts.headers.remove("x-forwarded-proto");
    let request = canonicalize(&mut parts, &conn, rules, new_request_id).map_err(keep_open)?;
    // Path and query are what was reported, or another request is judged than the one that is forwarded.
    if request.path_and_query() != target.as_str() {
        return Err(refused("the path is not in its canonical form"));
    }
    Ok((request, parts))
}

/// The proxy's connection carries requests of many people: it goes on. A redirect is not made for them.
fn keep_open(refusal: Refusal) -> Refusal {
    if refusal.redirect.is_some() {
        return refused("the path is not in its canonical form");
    }
    Refusal {
        close: false,
        ..refusal
    }
}

fn refused(detail: &'static str) -> Refusal {
    Refusal {
        close: false,
        ..Refusal::bad(detail)
    }
}

fn scheme(raw: &[u8]) -> Result<Scheme, Refusal> {
    match raw {
        b"https" | b"wss" => Ok(Scheme::Https),
        b"http" | b"ws" => Ok(Scheme::Http),
        _ => Err(refused("the scheme is neither http nor https")),
    }
}

fn method(raw: &[u8]) -> Result<Method, Refusal> {
    let method = Method::from_bytes(raw).map_err(|_| refused("the method is not valid"))?;
    if method == Method::CONNECT {
        return Err(refused("CONNECT is not judged for another proxy"));
    }
    Ok(method)
}

/// Upper case is another spelling of the same name for everybody. A trailing dot or a padded port is not: proxies
/// disagree about whose request that is.
fn authority(raw: &[u8]) -> Result<String, Refusal> {
    let authority = Authority::parse(raw).map_err(|_| refused("the host is not valid"))?;
    if !authority.as_str().as_bytes().eq_ignore_ascii_case(raw) {
        return Err(refused("the host is not in its canonical form"));
    }
    Ok(authority.as_str().to_owned())
}

/// Never through a URL parser, for which `//host/path` begins with a host and `#` ends the path.
fn target(raw: &[u8]) -> Result<PathAndQuery, Refusal> {
    if raw.first() != Some(&b'/') {
        return Err(refused("the path does not start with a slash"));
    }
    if raw.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return Err(refused("the path holds a byte that belongs in no path"));
    }
    let target = PathAndQuery::try_from(raw).map_err(|_| refused("the path is not valid"))?;
    if target.as_str().as_bytes() != raw {
        return Err(refused("the path is not valid"));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const GOOD: Reported<'static> = Reported {
        method: b"POST",
        scheme: b"https",
        host: b"app.example.com",
        target: b"/a/b?c=d",
    };

    fn read(reported: &Reported<'_>, rules: &Rules) -> Result<CanonicalRequest, &'static str> {
        let conn = Connection {
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            tls: false,
            local: SocketAddr::from(([127, 0, 0, 1], 2)),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        headers.insert("x-forwarded-proto", "http".parse().unwrap());
        headers.insert("host", "decision.example.com".parse().unwrap());
        canonicalize_reported(reported, headers, &conn, rules, &mut || "id".into())
            .map(|(request, parts)| {
                assert_eq!(
                    parts.headers["host"].as_bytes(),
                    request.authority.as_str().as_bytes()
                );
                assert_eq!(parts.uri, *request.path_and_query());
                request
            })
            .map_err(|refusal| {
                assert!(!refusal.close && refusal.redirect.is_none());
                refusal.detail
            })
    }

    fn rules() -> Rules {
        Rules {
            trusted: vec!["127.0.0.1/32".parse().unwrap()],
            ..Rules::default()
        }
    }

    #[test]
    fn the_facts_are_those_reported() {
        let request = read(&GOOD, &rules()).unwrap();
        assert_eq!(request.url(), "https://app.example.com/a/b?c=d");
        assert_eq!(
            (request.method, request.client_ip.to_string()),
            (Method::POST, "192.0.2.1".into())
        );
        let host = Reported {
            host: b"App.Example.com:8443",
            ..GOOD
        };
        assert_eq!(
            read(&host, &rules()).unwrap().authority.as_str(),
            "app.example.com:8443"
        );
    }

    #[test]
    fn a_target_is_refused_rather_than_put_right() {
        for target in [
            &b""[..],
            b"a",
            b"*",
            b"//evil.example.com/a",
            b"/a//b",
            b"http://evil.example.com/a",
            b"/a/../b",
            b"/a/./b",
            b"/a#b",
            b"/a%23/..",
            b"/a%2fb",
            b"/a%5Cb",
            b"/a\\b",
            b"/a%2e%2e/b",
            b"/%61",
            b"/a%",
            b"/a%00",
            b"/a b",
            b"/a\tb",
            b"/\xff",
            b"/\xc3\xa4",
            b"/a?b#c",
            b"/a?b c",
        ] {
            let reported = Reported { target, ..GOOD };
            assert!(read(&reported, &rules()).is_err(), "{}", target.escape_ascii());
        }
        // A query is not a path.
        for target in [&b"/?a=//b/../c"[..], b"/a%20b?c=%2f", b"/?"] {
            let reported = Reported { target, ..GOOD };
            assert!(read(&reported, &rules()).is_ok(), "{}", target.escape_ascii());
        }
        // What another rule would unescape is still another path than the one that is forwarded.
        for action in [
            super::super::EscapedSlashes::UnescapeAndForward,
            super::super::EscapedSlashes::UnescapeAndRedirect,
        ] {
            let rules = Rules {
                escaped_slashes: action,
                ..rules()
            };
            let reported = Reported {
                target: b"/a%2fb",
                ..GOOD
            };
            assert!(read(&reported, &rules).is_err());
        }
    }

    #[test]
    fn hosts_schemes_and_methods_that_leave_a_doubt() {
        for host in [
            &b""[..],
            b"app.example.com.",
            b"app.example.com:0443",
            b"app.example.com:",
            b"user@app.example.com",
            b"app.example.com/x",
            b"app.example.com, evil.example.com",
            b"\xff",
        ] {
            assert!(
                read(&Reported { host, ..GOOD }, &rules()).is_err(),
                "{}",
                host.escape_ascii()
            );
        }
        for scheme in [&b""[..], b"HTTPS", b"ftp", b"https,http", b"https "] {
            assert!(read(&Reported { scheme, ..GOOD }, &rules()).is_err());
        }
        for method in [&b""[..], b"GET POST", b"CONNECT", b"G\xffT"] {
            assert!(read(&Reported { method, ..GOOD }, &rules()).is_err());
        }
    }
}
