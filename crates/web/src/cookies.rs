//! Cookies: reading them, writing ours, and keeping ours away from applications (authentication.md 6).

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use smallvec::SmallVec;

/// The `SameSite` attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never sent from another site.
    Strict,
    /// Sent on top-level navigations.
    Lax,
    /// Sent always.
    None,
}

impl SameSite {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// The settings that session cookies share (`cookie_*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieOptions {
    /// The base name.
    pub name: String,
    /// `Domain`, when set.
    pub domain: Option<String>,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`; left out when unset.
    pub same_site: Option<SameSite>,
    /// From now to `Expires`.
    pub expire: Duration,
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self {
            name: "_pomerium".to_owned(),
            domain: None,
            http_only: true,
            same_site: None,
            expire: Duration::from_secs(14 * 60 * 60),
        }
    }
}

/// How long a browser keeps a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// `Expires` only.
    Expires(Duration),
    /// `Max-Age` and `Expires`.
    MaxAge(Duration),
    /// Gone: `Max-Age=-1` and an hour ago.
    Cleared,
}

/// A value that cannot stand in a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// Control bytes, blanks, `"`, `,`, `;`, `\` or non-ASCII in a name or value.
    #[error("cookie name or value holds a forbidden character")]
    Forbidden,
    /// Name and value above 4096 bytes: browsers would drop it without a word.
    #[error("cookie too large")]
    TooLarge,
}

/// One `Set-Cookie`. Always `Secure`.
#[derive(Debug, Clone)]
pub struct SetCookie<'a> {
    /// The full name.
    pub name: &'a str,
    /// The value, already in cookie-safe characters.
    pub value: &'a str,
    /// `Path`.
    pub path: &'a str,
    /// `Domain`.
    pub domain: Option<&'a str>,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`.
    pub same_site: Option<SameSite>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// Browsers cap name plus value here (RFC 6265bis section 5.6).
const MAX_LEN: usize = 4096;

impl SetCookie<'_> {
    /// The header value.
    ///
    /// # Errors
    /// [`CookieError`] when name, value, path or domain cannot be written, or the cookie is too large.
    pub fn to_header(&self, now: Timestamp) -> Result<HeaderValue, CookieError> {
        if self.name.len() + self.value.len() > MAX_LEN {
            return Err(CookieError::TooLarge);
        }
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte > 0x20 && byte < 0x7f && !b"\",;\\".contains(&byte))
        };
        let texts = [self.value, self.path, self.domain.unwrap_or("")];
        if self.name.is_empty()
            || self.name.contains('=')
            || !plain(self.name)
            || !texts.into_iter().all(plain)
        {
            return Err(CookieError::Forbidden);
        }
        let mut text = format!("{}={}; Path={}", self.name, self.value, self.path);
        if let Some(domain) = self.domain {
            text.push_str("; Domain=");
            text.push_str(domain);
        }
        text.push_str(&lifetime(self.lifetime, now));
        if self.http_only {
            text.push_str("; HttpOnly");
        }
        text.push_str("; Secure");
        if let Some(same_site) = self.same_site {
            text.push_str("; SameSite=");
            text.push_str(same_site.as_str());
        }
        HeaderValue::try_from(text).map_err(|_| CookieError::Forbidden)
    }
}

fn lifetime(lifetime: Lifetime, now: Timestamp) -> String {
    match lifetime {
        Lifetime::Expires(after) => format!("; Expires={}", http_date(later(now, after))),
        Lifetime::MaxAge(after) => {
            format!(
                "; Expires={}; Max-Age={}",
                http_date(later(now, after)),
                after.as_secs()
            )
        }
        Lifetime::Cleared => {
            let past = now
                .checked_sub(Duration::from_secs(3600))
                .unwrap_or(Timestamp::MIN);
            format!("; Expires={}; Max-Age=-1", http_date(past))
        }
    }
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}

/// An HTTP date (RFC 9110 section 5.6.7).
pub fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A cookie under these settings, on `/` with their domain and expiry.
///
/// # Errors
/// See [`SetCookie::to_header`].
pub fn set(
    options: &CookieOptions,
    name: &str,
    value: &str,
    now: Timestamp,
) -> Result<HeaderValue, CookieError> {
    with(options, name, value, Lifetime::Expires(options.expire)).to_header(now)
}

/// The header that removes what [`set`] has set.
///
/// # Errors
/// See [`SetCookie::to_header`].
pub fn clear(options: &CookieOptions, name: &str, now: Timestamp) -> Result<HeaderValue, CookieError> {
    with(options, name, "", Lifetime::Cleared).to_header(now)
}

fn with<'a>(options: &'a CookieOptions, name: &'a str, value: &'a str, lifetime: Lifetime) -> SetCookie<'a> {
    SetCookie {
        name,
        value,
        path: "/",
        domain: options.domain.as_deref(),
        http_only: options.http_only,
        same_site: options.same_site,
        lifetime,
    }
}

/// The first cookie of this exact name.
pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    all(headers).find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// Every cookie, in order. Quotes around a value are taken off.
pub fn all(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .flat_map(pairs)
}

/// Where the parts of a `Cookie` line are, between its semicolons. Sessions are long, and every request carries one.
fn parts(line: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    memchr::memchr_iter(b';', line)
        .chain(std::iter::once(line.len()))
        .map(move |end| std::mem::replace(&mut start, end + 1)..end)
}

fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    parts(line.as_bytes()).filter_map(|part| {
        let (name, value) = line[part].split_once('=')?;
        let value = value.trim_matches([' ', '\t']);
        let bare = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        Some((name.trim_matches([' ', '\t']), bare))
    })
}

/// Which cookies are ours: none of them reaches an application.
#[derive(Debug, Clone)]
pub struct OwnCookies {
    base: String,
}

/// Names that do not depend on `cookie_name`.
const FIXED: [&str; 3] = [
    "pomerium_identity_profile",
    "pomerium_redirect_uri",
    "_pomerium_signed_out_redirect_uri",
];

impl OwnCookies {
    /// Ours under this base name: the session, `…_authenticate`, `…_csrf`, `…_pkce_N`, `…_login…`, `…_idp…`.
    pub fn new(cookie_name: &str) -> Self {
        Self {
            base: cookie_name.to_owned(),
        }
    }

    /// Whether a cookie name is ours.
    pub fn owns(&self, name: &str) -> bool {
        if let Some(rest) = name.strip_prefix(self.base.as_str()) {
            let suffix = matches!(rest, "" | "_authenticate" | "_csrf");
            return suffix
                || ["_pkce_", "_login", "_idp"]
                    .iter()
                    .any(|start| rest.starts_with(start));
        }
        let digits = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        FIXED.contains(&name) || digits == FIXED[0]
    }
}

/// Takes our cookies out of `Cookie`. A header without any of ours is not touched; a header with only
/// ours is sent on empty, as applications see it from the original.
pub fn strip_from_request(headers: &mut HeaderMap, own: &OwnCookies) {
    let Some(value) = headers.get(header::COOKIE) else {
        return;
    };
    let bytes = value.as_bytes();
    let mut kept: SmallVec<[&[u8]; 8]> = SmallVec::new();
    let mut found = false;
    for part in parts(bytes) {
        let pair = &bytes[part];
        if is_own(pair, own) {
            found = true;
        } else {
            kept.extend(Some(pair.trim_ascii()).filter(|pair| !pair.is_empty()));
        }
    }
    if !found {
        return;
    }
    let nothing = HeaderValue::from_static("");
    let joined = if kept.is_empty() {
        nothing
    } else {
        HeaderValue::from_bytes(&kept.join(&b"; "[..])).unwrap_or(nothing)
    };
    drop(kept);
    headers.insert(header::COOKIE, joined);
}

/// Takes cookies under our names out of `Set-Cookie`: an application that sets one plants a session on its siblings, or
/// ends one there.
pub fn strip_from_response(headers: &mut HeaderMap, own: &OwnCookies) {
    let set = headers.get_all(header::SET_COOKIE);
    if !set.iter().any(|value| is_own(first_pair(value), own)) {
        return;
    }
    let foreign = |value: &&HeaderValue| !is_own(first_pair(value), own);
    let kept: Vec<HeaderValue> = set.iter().filter(foreign).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Name and value, without attributes.
fn first_pair(value: &HeaderValue) -> &[u8] {
    let bytes = value.as_bytes();
    memchr::memchr(b';', bytes).map_or(bytes, |end| &bytes[..end])
}

fn is_own(pair: &[u8], own: &OwnCookies) -> bool {
    let name = memchr::memchr(b'=', pair)
        .map_or(pair, |end| &pair[..end])
        .trim_ascii();
    std::str::from_utf8(name).is_ok_and(|name| own.owns(name))
}

#[cfg(test)]
mod tests;
