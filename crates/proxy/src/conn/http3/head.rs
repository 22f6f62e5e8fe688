//! The head of a request: from header lines to what the flow reads, and from the flow's answer back.
//!
//! A malformed head (RFC 9114 section 4.1.2) is refused here; everything that is only doubtful is the
//! canonical request's business, as on the other versions of HTTP.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::qpack::{Decoder, Failed, Name, Value};

/// What one line costs beside its name and value (RFC 9114 section 4.2.2).
const PER_LINE: usize = 32;

/// Why a head is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It breaks the rules of HTTP/3.
    Malformed,
    /// Too many bytes or lines.
    TooLarge,
    /// It cannot be decoded: the connection ends.
    Undecodable,
}

impl From<Failed> for Refused {
    fn from(_: Failed) -> Self {
        Self::Undecodable
    }
}

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Names and values, plus 32 for each line.
    pub(super) bytes: usize,
    /// Lines.
    pub(super) lines: usize,
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Fields that speak about a connection (RFC 9114 section 4.2).
const OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
];

#[derive(Default)]
struct Pseudo {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
}

impl Pseudo {
    fn set(&mut self, name: &[u8], value: Value) -> Result<(), Refused> {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            // Extended CONNECT (RFC 9220) is not offered, so `:protocol` is unknown here.
            _ => return Err(Refused::Malformed),
        };
        match place.replace(value.into_bytes()) {
            None => Ok(()),
            Some(_) => Err(Refused::Malformed),
        }
    }
}

/// Reads the head of a request.
pub(super) fn read(block: Bytes, limits: Limits) -> Result<Parts, Refused> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::new();
    lines(block, limits, |name, value| {
        if !name.as_bytes().starts_with(b":") {
            return append(&mut headers, &name, value);
        }
        if !headers.is_empty() {
            return Err(Refused::Malformed);
        }
        pseudo.set(name.as_bytes(), value)
    })?;
    assemble(pseudo, headers)
}

/// Reads a trailer section.
pub(super) fn read_trailers(block: Bytes, limits: Limits) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    lines(block, limits, |name, value| append(&mut headers, &name, value))?;
    Ok(headers)
}

fn lines(
    block: Bytes,
    limits: Limits,
    mut each: impl FnMut(Name, Value) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let mut decoder = Decoder::new(block)?;
    let (mut bytes, mut count) = (0, 0);
    while let Some((name, value)) = decoder.next()? {
        bytes += name.as_bytes().len() + value.len() + PER_LINE;
        count += 1;
        if bytes > limits.bytes || count > limits.lines {
            return Err(Refused::TooLarge);
        }
        each(name, value)?;
    }
    Ok(())
}

fn append(headers: &mut HeaderMap, name: &Name, value: Value) -> Result<(), Refused> {
    let name = name.header().ok_or(Refused::Malformed)?;
    let value = value.header().ok_or(Refused::Malformed)?;
    if OF_A_CONNECTION.contains(&name) || (name == TE && value != "trailers") {
        return Err(Refused::Malformed);
    }
    headers.try_append(name, value).map_err(|_| Refused::TooLarge)?;
    Ok(())
}

fn assemble(mut pseudo: Pseudo, mut headers: HeaderMap) -> Result<Parts, Refused> {
    let method = pseudo.method.take().ok_or(Refused::Malformed)?;
    let method = Method::from_bytes(&method).map_err(|_| Refused::Malformed)?;
    if method == Method::CONNECT {
        return connect(pseudo, headers);
    }
    let scheme = match pseudo.scheme.as_deref() {
        Some(b"https") => Scheme::HTTPS,
        Some(b"http") => Scheme::HTTP,
        _ => return Err(Refused::Malformed),
    };
    let path = path(pseudo.path.ok_or(Refused::Malformed)?, &method)?;
    let uri = match (pseudo.authority, headers.contains_key(HOST)) {
        (None, false) => return Err(Refused::Malformed),
        (None, true) => Uri::from(path),
        // One name for the host: the one that every upstream reads.
        (Some(authority), false) => {
            let host = HeaderValue::from_maybe_shared(authority).map_err(|_| Refused::Malformed)?;
            headers.insert(HOST, host);
            Uri::from(path)
        }
        // Both: the canonical request compares them.
        (Some(authority), true) => {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(scheme);
            parts.authority =
                Some(http::uri::Authority::from_maybe_shared(authority).map_err(|_| Refused::Malformed)?);
            parts.path_and_query = Some(path);
            Uri::from_parts(parts).map_err(|_| Refused::Malformed)?
        }
    };
    Ok(parts(method, uri, headers))
}

/// CONNECT has an authority and nothing else (RFC 9114 section 4.4).
fn connect(pseudo: Pseudo, headers: HeaderMap) -> Result<Parts, Refused> {
    if pseudo.scheme.is_some() || pseudo.path.is_some() {
        return Err(Refused::Malformed);
    }
    let authority = pseudo.authority.ok_or(Refused::Malformed)?;
    let mut target = http::uri::Parts::default();
    target.authority =
        Some(http::uri::Authority::from_maybe_shared(authority).map_err(|_| Refused::Malformed)?);
    let uri = Uri::from_parts(target).map_err(|_| Refused::Malformed)?;
    Ok(parts(Method::CONNECT, uri, headers))
}

/// The path, which may not be empty. The type would drop a fragment without a word.
fn path(path: Bytes, method: &Method) -> Result<PathAndQuery, Refused> {
    let whole = path.starts_with(b"/") || (&*path == b"*" && *method == Method::OPTIONS);
    if !whole || path.contains(&b'#') {
        return Err(Refused::Malformed);
    }
    PathAndQuery::from_maybe_shared(path).map_err(|_| Refused::Malformed)
}

fn parts(method: Method, uri: Uri, headers: HeaderMap) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.version = Version::HTTP_3;
    parts.headers = headers;
    parts
}

/// Whether a field of a response speaks about a connection and has no place in HTTP/3.
pub(super) fn is_of_a_connection(name: &HeaderName) -> bool {
    OF_A_CONNECTION.contains(name)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::qpack::Encoder;
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 4096,
        lines: 100,
    };
    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "app.example.com"),
        (":path", "/a?b=c"),
    ];

    fn block(lines: &[(&str, &str)]) -> Bytes {
        let mut block = BytesMut::new();
        let mut encoder = Encoder::new(&mut block);
        for (name, value) in lines {
            encoder.line(name, value.as_bytes(), false);
        }
        block.freeze()
    }

    fn refused(lines: &[(&str, &str)]) -> Option<Refused> {
        read(block(lines), LIMITS).err()
    }

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        GET.iter().chain(more).copied().collect()
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        GET.iter().filter(|(known, _)| *known != name).copied().collect()
    }

    #[test]
    fn a_request() {
        let head = read(block(&with(&[("cookie", "a=b"), ("te", "trailers")])), LIMITS).unwrap();
        assert_eq!(head.method, Method::GET);
        assert_eq!(head.uri, "/a?b=c");
        assert_eq!(head.version, Version::HTTP_3);
        assert_eq!(head.headers[HOST], "app.example.com");
        assert_eq!(head.headers["cookie"], "a=b");
    }

    #[test]
    fn host_beside_authority_is_left_to_be_compared() {
        let head = read(block(&with(&[("host", "other.example.com")])), LIMITS).unwrap();
        assert_eq!(head.uri.authority().unwrap(), "app.example.com");
        assert_eq!(head.headers[HOST], "other.example.com");
    }

    #[test]
    fn malformed_heads() {
        let mut late = GET.to_vec();
        late.insert(2, ("accept", "*/*"));
        let cases = [
            without(":method"),
            without(":scheme"),
            without(":authority"),
            without(":path"),
            late,
            with(&[(":path", "/other")]),
            with(&[(":method", "GET")]),
            with(&[(":status", "200")]),
            with(&[(":protocol", "websocket")]),
            with(&[("Accept", "*/*")]),
            with(&[("connection", "close")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("upgrade", "websocket")]),
            with(&[("keep-alive", "1")]),
            with(&[("proxy-connection", "close")]),
            with(&[("te", "gzip")]),
            with(&[("accept", "a\r\nb: c")]),
            with(&[("a b", "c")]),
            with(&[("", "c")]),
        ];
        for lines in cases {
            assert_eq!(refused(&lines), Some(Refused::Malformed), "{lines:?}");
        }
        for path in ["", "a", "*", "/a#b", "https://app.example.com/"] {
            let mut lines = without(":path");
            lines.push((":path", path));
            let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, *value)).collect();
            assert_eq!(refused(&lines), Some(Refused::Malformed), "{path:?}");
        }
    }

    #[test]
    fn connect_has_an_authority_and_nothing_else() {
        let connect = [(":method", "CONNECT"), (":authority", "db.example.com:5432")];
        let head = read(block(&connect), LIMITS).unwrap();
        assert_eq!(head.uri.authority().unwrap(), "db.example.com:5432");
        let mut more = connect.to_vec();
        more.push((":path", "/"));
        assert_eq!(refused(&more), Some(Refused::Malformed));
    }

    #[test]
    fn limits_hold_for_bytes_and_for_lines() {
        let long = "x".repeat(5000);
        let mut lines = GET.to_vec();
        lines.push(("x-long", &long));
        assert_eq!(refused(&lines), Some(Refused::TooLarge));
        let many = with(&[("a", "b"); 100]);
        assert_eq!(refused(&many), Some(Refused::TooLarge));
    }

    #[test]
    fn trailers_have_no_pseudo_headers() {
        assert!(read_trailers(block(&[("grpc-status", "0")]), LIMITS).is_ok());
        assert_eq!(
            read_trailers(block(&[(":path", "/")]), LIMITS),
            Err(Refused::Malformed)
        );
    }
}
