//! The request target and `Host`: which authority, which path, which query.

use http::{HeaderValue, Method, Uri, header, request::Parts, uri::PathAndQuery};

use super::{Authority, CanonicalRequest, Refusal, Rules, path};

/// The one authority of the request (proxy.md 14; RFC 9112 section 3.2, RFC 9113 section 8.3.1).
pub(super) fn authority(parts: &Parts) -> Result<Authority, Refusal> {
    let parse = |raw: &[u8]| Authority::parse(raw).map_err(|_| Refusal::bad("host is not valid"));
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::bad("more than one Host"));
    }
    let multiplexed = parts.version >= http::Version::HTTP_2;
    if host.is_none() && !multiplexed {
        return Err(Refusal::bad("no Host"));
    }
    let Some(target) = parts.uri.authority() else {
        let host = host.ok_or_else(|| Refusal::bad("no Host"))?;
        return parse(host.as_bytes());
    };
    // `user@` is refused by the parser: `@` is no host character.
    let authority = parse(target.as_str().as_bytes())?;
    if let Some(host) = host {
        let host = parse(host.as_bytes())?;
        let connect = parts.method == Method::CONNECT;
        let same = host == authority || (connect && host.port().is_none() && host.host() == authority.host());
        if !same && (multiplexed || connect) {
            return Err(Refusal::bad("Host and authority differ"));
        }
    }
    if parts.method == Method::CONNECT && authority.port().is_none() {
        return Err(Refusal::bad("CONNECT without a port"));
    }
    Ok(authority)
}

/// The canonical path, and whether the client should be sent there.
pub(super) fn path(parts: &Parts, rules: &Rules) -> Result<(String, bool), Refusal> {
    let raw = parts.uri.path();
    if parts.method == Method::CONNECT && raw.is_empty() {
        return Ok((String::new(), false));
    }
    if raw == "*" && parts.method == Method::OPTIONS {
        return Ok((raw.to_owned(), false));
    }
    let done = path::normalise(raw, rules).map_err(|error| Refusal::bad(detail(error)))?;
    Ok((done.path.into_owned(), done.redirect))
}

fn detail(error: path::PathError) -> &'static str {
    match error {
        path::PathError::NotAbsolute => "path does not start with a slash",
        path::PathError::Control => "path holds a control character",
        path::PathError::Fragment => "path holds a fragment",
        path::PathError::BadEscape => "path holds a malformed percent-escape",
        path::PathError::EscapedSlash => "path holds an escaped slash",
        path::PathError::DisguisedDots => "path holds a disguised dot segment",
        path::PathError::DisguisedSlash => "path holds a disguised double slash",
    }
}

/// The query, untouched; raw control bytes and `#` are refused.
pub(super) fn query(parts: &Parts) -> Result<Option<String>, Refusal> {
    let Some(query) = parts.uri.query() else {
        return Ok(None);
    };
    if query.bytes().any(|byte| matches!(byte, 0..=0x20 | 0x7f | b'#')) {
        return Err(Refusal::bad("query holds a control character"));
    }
    Ok(Some(query.to_owned()))
}

/// Makes `parts` say the same as the canonical request: origin form, canonical path, canonical `Host`.
pub(super) fn rewrite(parts: &mut Parts, request: &CanonicalRequest) -> Result<(), Refusal> {
    let host = request.authority.as_str();
    if parts
        .headers
        .get(header::HOST)
        .is_none_or(|value| value.as_bytes() != host.as_bytes())
    {
        let value = HeaderValue::from_str(host).map_err(|_| Refusal::bad("host is not valid"))?;
        parts.headers.insert(header::HOST, value);
    }
    if parts.method == Method::CONNECT && request.path.is_empty() {
        return Ok(());
    }
    let same_path = parts.uri.path() == request.path;
    if same_path && parts.uri.authority().is_none() && parts.uri.scheme().is_none() {
        return Ok(());
    }
    let target = match parts.uri.path_and_query() {
        Some(target) if same_path => target.clone(),
        _ => request
            .path_and_query()
            .parse::<PathAndQuery>()
            .map_err(|_| Refusal::bad("path is not valid"))?,
    };
    let mut origin = http::uri::Parts::default();
    origin.path_and_query = Some(target);
    parts.uri = Uri::from_parts(origin).map_err(|_| Refusal::bad("path is not valid"))?;
    Ok(())
}
