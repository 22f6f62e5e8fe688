//! Headers on the way in: limits, underscores, hop-by-hop fields, names that only we may set.

use http::{
    HeaderMap, HeaderName, HeaderValue, header,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};
use smallvec::SmallVec;

use super::{Refusal, Rules, Underscores, forwarded, managed::Class};

/// The request id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A session handle in a header of ours.
pub const POMERIUM_AUTHORIZATION: HeaderName = HeaderName::from_static("x-pomerium-authorization");
/// The signed statement of who the user is.
pub const JWT_ASSERTION: HeaderName = HeaderName::from_static("x-pomerium-jwt-assertion");
/// The statement that came with the request, carried on.
pub const JWT_ASSERTION_FOR: HeaderName = HeaderName::from_static("x-pomerium-jwt-assertion-for");

/// What one pass over the headers found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// To be removed whoever sent it.
    remove: SmallVec<[HeaderName; 8]>,
    /// To be removed unless the peer is trusted.
    forwarded: SmallVec<[HeaderName; 4]>,
    cookies: usize,
    connection: bool,
}

/// Checks limits and names in one pass; changes nothing.
pub(super) fn survey(parts: &Parts, rules: &Rules) -> Result<Survey, Refusal> {
    let headers = &parts.headers;
    if headers.len() > rules.max_headers {
        return Err(Refusal::status(431, "too many header fields"));
    }
    let mut survey = Survey::default();
    let mut bytes = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    for (name, value) in headers {
        let text = name.as_str();
        bytes += text.len() + value.len();
        let class = rules.managed.classify(text);
        let underscore = text.as_bytes().contains(&b'_');
        if underscore && rules.underscores == Underscores::Reject {
            return Err(Refusal::bad("header name with an underscore"));
        }
        survey.note(name, class, underscore, rules.underscores);
    }
    if bytes > rules.max_header_bytes {
        return Err(Refusal::status(431, "header fields are too large"));
    }
    check_framing(headers)?;
    Ok(survey)
}

impl Survey {
    fn note(&mut self, name: &HeaderName, class: Class, underscore: bool, action: Underscores) {
        // A twin of a header of ours never passes, whatever the action says.
        if underscore && (class != Class::Plain || action == Underscores::Drop) {
            self.remove.push(name.clone());
            return;
        }
        match class {
            Class::Forbidden => self.remove.push(name.clone()),
            Class::Hop => {
                self.connection |= *name == CONNECTION;
                self.remove.push(name.clone());
            }
            // `x-forwarded-for` is kept from anybody: the peer is appended, and only hops count.
            Class::Forwarded if *name != forwarded::FOR => self.forwarded.push(name.clone()),
            Class::Ours if *name == COOKIE => self.cookies += 1,
            Class::Framing if *name == TRANSFER_ENCODING => self.remove.push(name.clone()),
            Class::Plain | Class::Ours | Class::Forwarded | Class::Framing => {}
        }
    }
}

/// Message framing that two parsers could read in two ways (proxy.md 14).
fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Refusal::bad("Content-Length twice"));
    }
    if length.is_some_and(|value| value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Err(Refusal::bad("Content-Length is not a number"));
    }
    let countable = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.parse::<u64>().is_ok());
    if length.is_some_and(|value| !countable(value)) {
        return Err(Refusal::bad("Content-Length is too large"));
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else {
        return Ok(());
    };
    if length.is_some() {
        return Err(Refusal::bad("Content-Length and Transfer-Encoding"));
    }
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Refusal::bad("Transfer-Encoding other than chunked"));
    }
    Ok(())
}

/// Removes what may not pass and joins split cookies. Returns the protocol of an upgrade.
pub(super) fn clean(
    headers: &mut HeaderMap,
    survey: Survey,
    peer_trusted: bool,
    rules: &Rules,
) -> Result<Option<String>, Refusal> {
    let mut upgrade = None;
    if survey.connection {
        let nominated = nominated(headers, rules)?;
        if nominated.upgrade {
            upgrade = upgrade_protocol(headers)?;
        }
        for name in nominated.names {
            headers.remove(name);
        }
    }
    let trailers = headers.get_all(TE).iter().any(|value| lists(value, "trailers"));
    for name in survey.remove {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if !peer_trusted {
        for name in survey.forwarded {
            headers.remove(name);
        }
    }
    if survey.cookies > 1 {
        join_cookies(headers)?;
    }
    Ok(upgrade)
}

struct Nominated {
    names: SmallVec<[HeaderName; 2]>,
    upgrade: bool,
}

/// The header names that `Connection` lists for removal. Nominating a header that the proxy manages would
/// delete it behind our back: 400.
fn nominated(headers: &HeaderMap, rules: &Rules) -> Result<Nominated, Refusal> {
    let mut found = Nominated {
        names: SmallVec::new(),
        upgrade: false,
    };
    for value in headers.get_all(CONNECTION) {
        for token in value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
        {
            if token.is_empty()
                || token.eq_ignore_ascii_case(b"keep-alive")
                || token.eq_ignore_ascii_case(b"close")
            {
                continue;
            }
            found.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            let name = HeaderName::from_bytes(token).map_err(|_| Refusal::bad("Connection is malformed"))?;
            if rules.managed.is_managed(name.as_str()) {
                return Err(Refusal::bad("Connection names a header that the proxy manages"));
            }
            found.names.push(name);
        }
    }
    // These are read before they go.
    found.names.retain(|name| *name != TE && *name != UPGRADE);
    Ok(found)
}

/// The one protocol asked for; `h2c` is not spoken and goes unanswered, as if it had not been asked.
fn upgrade_protocol(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut protocol = None;
    for value in headers.get_all(UPGRADE) {
        let value = value.to_str().map_err(|_| Refusal::bad("Upgrade is malformed"))?;
        for name in value.split(',').map(str::trim) {
            if name.is_empty() || name.eq_ignore_ascii_case("h2c") {
                continue;
            }
            if protocol.replace(name.to_ascii_lowercase()).is_some() {
                return Err(Refusal::bad("Upgrade names more than one protocol"));
            }
        }
    }
    Ok(protocol)
}

fn lists(value: &HeaderValue, wanted: &str) -> bool {
    let mut items = value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii);
    items.any(|item| item.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// HTTP/2 may split cookies over several fields (RFC 9113 section 8.2.3); everyone behind us reads one.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut joined = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(value.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&joined).map_err(|_| Refusal::bad("Cookie is malformed"))?;
    headers.insert(COOKIE, joined);
    Ok(())
}
