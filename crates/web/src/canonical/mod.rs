//! The canonical request: method, scheme, authority, path, client and headers, read once at the edge.
//!
//! What is judged is what is forwarded: [`canonicalize`] cleans `parts` in place, so whoever reads the
//! headers or the target later reads the same values as [`CanonicalRequest`]. What it cannot read without
//! a guess it refuses. Start with [`canonicalize`]; the steps live in `path`, `authority`, `headers` and
//! `forwarded`. No routing and no decisions here.

mod authority;
mod forwarded;
mod headers;
mod managed;
pub mod path;
mod reported;
mod target;

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, Version, header, request::Parts};
use ipnet::IpNet;

pub use authority::{Authority, AuthorityError};
pub use forwarded::{append_forwarded_host, is_internal};
pub use headers::{JWT_ASSERTION, JWT_ASSERTION_FOR, POMERIUM_AUTHORIZATION, REQUEST_ID};
pub use managed::{ManagedHeaders, Meaning};
pub use reported::{Reported, canonicalize_reported};

/// What happens to header names with an underscore (`headers_with_underscores_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// They pass; twins of managed headers are removed all the same.
    Allow,
    /// 400.
    #[default]
    Reject,
    /// The header is left out.
    Drop,
}

/// What happens to `%2f` and `%5c` in the path (`path_with_escaped_slashes_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// They stay as they are.
    Keep,
    /// 400.
    #[default]
    Reject,
    /// They become slashes and the client is sent there (307).
    UnescapeAndRedirect,
    /// They become slashes.
    UnescapeAndForward,
}

/// How requests are read: the settings behind [`canonicalize`], resolved.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Header names with `_`.
    pub underscores: Underscores,
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// Dot segments, `\` and unreserved escapes are resolved.
    pub normalize_path: bool,
    /// `%2f` and `%5c`.
    pub escaped_slashes: EscapedSlashes,
    /// Leave `x-forwarded-for` as it came.
    pub skip_xff_append: bool,
    /// How many proxies of ours stand in front; 0 means none.
    pub xff_trusted_hops: usize,
    /// Peers whose forwarded headers are believed. Empty with hops above 0: any direct peer.
    pub trusted: Vec<IpNet>,
    /// Names, values and target together, in bytes; more is 431.
    pub max_header_bytes: usize,
    /// Header fields; more is 431.
    pub max_headers: usize,
    /// Headers that clients may not set, beyond the fixed ones.
    pub managed: ManagedHeaders,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            underscores: Underscores::Reject,
            merge_slashes: true,
            normalize_path: true,
            escaped_slashes: EscapedSlashes::Reject,
            skip_xff_append: false,
            xff_trusted_hops: 0,
            trusted: Vec::new(),
            max_header_bytes: 128 * 1024,
            max_headers: 1000,
            managed: ManagedHeaders::default(),
        }
    }
}

/// The connection a request came over.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// The other end, after the PROXY protocol.
    pub peer: SocketAddr,
    /// Whether it is TLS.
    pub tls: bool,
    /// Our end.
    pub local: SocketAddr,
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS, here or at a trusted proxy in front.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// One request, as routing, policy, logs and the upstream see it.
#[derive(Debug, Clone)]
pub struct CanonicalRequest {
    /// The method.
    pub method: Method,
    /// The scheme the client used, as far as we can know.
    pub scheme: Scheme,
    /// `host[:port]`, lower-case, no trailing dot, ASCII.
    pub authority: Authority,
    /// The normalised path, still escaped. Empty for CONNECT, `*` for `OPTIONS *`.
    pub path: String,
    /// The percent-decoded path; bytes that are not UTF-8 are U+FFFD.
    pub decoded_path: String,
    /// The query as sent, without `?`.
    pub query: Option<String>,
    /// The client, after trusted hops.
    pub client_ip: IpAddr,
    /// The peer of the connection.
    pub peer: SocketAddr,
    /// The peer's forwarded headers are believed.
    pub peer_trusted: bool,
    /// `x-request-id`: ours, or a trusted peer's.
    pub request_id: String,
    /// The protocol of an HTTP/1 upgrade, lower-case. `Connection` and `Upgrade` are gone from the headers:
    /// who forwards the upgrade writes them again.
    pub upgrade: Option<String>,
    /// The content type is `application/grpc` or `application/grpc+…`.
    pub is_grpc: bool,
}

impl CanonicalRequest {
    /// The host without port.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// The port, when one was written.
    pub fn port(&self) -> Option<u16> {
        self.authority.port()
    }

    /// Path and query, as they go upstream.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// `scheme://authority/path?query`.
    pub fn url(&self) -> String {
        let scheme = self.scheme.as_str();
        format!("{scheme}://{}{}", self.authority.as_str(), self.path_and_query())
    }
}

/// A request that is not served as it is: an answer before routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 426, 431, or 307 with `redirect`.
    pub status: u16,
    /// What is wrong, for the log and the page; fixed texts only.
    pub detail: &'static str,
    /// Where to, for 307: an absolute URL on the same authority.
    pub redirect: Option<String>,
    /// The connection is closed after the answer.
    pub close: bool,
}

impl Refusal {
    /// 400, connection closed.
    pub(crate) fn bad(detail: &'static str) -> Self {
        Self {
            status: 400,
            detail,
            redirect: None,
            close: true,
        }
    }

    pub(crate) fn status(status: u16, detail: &'static str) -> Self {
        Self {
            status,
            detail,
            redirect: None,
            close: true,
        }
    }
}

/// Reads a request into its canonical form and cleans `parts` to match: origin-form target, one `Host`,
/// no hop-by-hop headers, no header that only we may set, forwarded headers by rule.
///
/// Left in place for whoever resolves the session: `x-pomerium-authorization` and an inbound
/// `x-pomerium-jwt-assertion[-for]`; [`crate::hygiene::strip_credentials`] removes them before forwarding.
/// `transfer-encoding` is removed: framing is the forwarder's.
///
/// # Errors
/// [`Refusal`] for every request that could be read in two ways or breaks a limit (proxy.md 1.8 and 14).
pub fn canonicalize(
    parts: &mut Parts,
    conn: &Connection,
    rules: &Rules,
    new_request_id: &mut dyn FnMut() -> String,
) -> Result<CanonicalRequest, Refusal> {
    if parts.version < Version::HTTP_11 {
        return Err(Refusal::status(426, "HTTP/1.0 is not served"));
    }
    let survey = headers::survey(parts, rules)?;
    let authority = target::authority(parts)?;
    let (path, redirect) = target::path(parts, rules)?;
    let query = target::query(parts)?;
    let origin = forwarded::read(&parts.headers, conn, rules);
    let upgrade = headers::clean(&mut parts.headers, survey, origin.peer_trusted, rules)?;
    forwarded::write(&mut parts.headers, conn, &origin, rules)?;
    let request_id = forwarded::request_id(&mut parts.headers, origin.peer_trusted, new_request_id);
    let request = CanonicalRequest {
        method: parts.method.clone(),
        scheme: origin.scheme,
        decoded_path: path::decode(&path).into_owned(),
        authority,
        path,
        query,
        client_ip: origin.client_ip,
        peer: conn.peer,
        peer_trusted: origin.peer_trusted,
        request_id,
        upgrade,
        is_grpc: is_grpc(&parts.headers),
    };
    if redirect {
        let target = request.path_and_query();
        // As a reference, two slashes would begin a host, and browsers take a backslash for one.
        let begins_host = matches!(target.as_bytes().get(1), Some(b'/' | b'\\'));
        let url = if begins_host { request.url() } else { target };
        return Err(Refusal {
            status: 307,
            detail: "escaped slashes",
            redirect: Some(url),
            close: false,
        });
    }
    target::rewrite(parts, &request)?;
    Ok(request)
}

/// Whether the content type is `application/grpc`, or one of its kind.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let rest = value.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A request as tests of other modules start from.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn test_request(path: &str) -> CanonicalRequest {
    CanonicalRequest {
        method: Method::GET,
        scheme: Scheme::Https,
        authority: Authority::parse(b"app.example.com").unwrap(),
        path: path.to_owned(),
        decoded_path: path.to_owned(),
        query: None,
        client_ip: IpAddr::from([127, 0, 0, 1]),
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        peer_trusted: false,
        request_id: "id".to_owned(),
        upgrade: None,
        is_grpc: false,
    }
}

#[cfg(test)]
mod tests;
