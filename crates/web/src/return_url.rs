//! Where a browser may be sent back to after signing in or out. Every disguise that made another proxy
//! redirect to a stranger is refused here, before any list of allowed hosts is asked.

use std::fmt;

use crate::canonical::{Authority, Rules, Scheme, path};

/// Why a URL is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReturnUrlError {
    /// Neither `http://` nor `https://` with a host, or a path that could be read as a host.
    #[error("not an absolute http or https URL")]
    NotAbsolute,
    /// A blank, control byte, backslash, quote or non-ASCII letter.
    #[error("URL holds a forbidden character")]
    Forbidden,
    /// `user@`, an invalid host or port.
    #[error("URL has no valid host")]
    Host,
    /// Its path is one that no route of ours would serve.
    #[error("URL has no valid path")]
    Path,
    /// The host is not one of ours.
    #[error("host is not allowed")]
    NotAllowed,
}

/// A URL that was checked: its host is allowed and nobody can read it in another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeUrl {
    url: String,
    scheme: Scheme,
    authority: Authority,
}

impl SafeUrl {
    /// The URL, with scheme and host in lower case.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The authority, as written but for case.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Checks an absolute URL. `allowed` is asked with `host` or `host:port`, the scheme's own port left out.
///
/// # Errors
/// [`ReturnUrlError`] tells what is wrong; the URL itself is not repeated.
pub fn check(url: &str, allowed: &dyn Fn(&str) -> bool) -> Result<SafeUrl, ReturnUrlError> {
    if !url.bytes().all(is_harmless) {
        return Err(ReturnUrlError::Forbidden);
    }
    let (scheme, rest) = split_scheme(url).ok_or(ReturnUrlError::NotAbsolute)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    let authority = Authority::parse(host.as_bytes()).map_err(|_| ReturnUrlError::Host)?;
    let bare = if authority.port() == Some(scheme.default_port()) {
        authority.host()
    } else {
        &authority
    };
    if !allowed(bare) {
        return Err(ReturnUrlError::NotAllowed);
    }
    let path = target.split('?').next().unwrap_or_default();
    let slash = if path.is_empty() { "/" } else { "" };
    if !path.is_empty() {
        check_escapes(path)?;
    }
    let url = format!("{}://{authority}{slash}{target}", scheme.as_str());
    Ok(SafeUrl {
        url,
        scheme,
        authority,
    })
}

/// Printable ASCII without what browsers drop (`\t`), swap (`\`) or cut at (`#`).
fn is_harmless(byte: u8) -> bool {
    byte > 0x20 && byte < 0x7f && !matches!(byte, b'\\' | b'#' | b'"' | b'<' | b'>' | b'`')
}

fn split_scheme(url: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    match scheme {
        scheme if scheme.eq_ignore_ascii_case("https") => Some((Scheme::Https, rest)),
        scheme if scheme.eq_ignore_ascii_case("http") => Some((Scheme::Http, rest)),
        _ => None,
    }
}

/// Control bytes, even escaped, have no place in it; other paths are the application's own business.
fn check_escapes(path: &str) -> Result<(), ReturnUrlError> {
    let rules = Rules {
        normalize_path: false,
        merge_slashes: false,
        escaped_slashes: crate::canonical::EscapedSlashes::Keep,
        ..Rules::default()
    };
    path::normalise(path, &rules)
        .map(|_| ())
        .map_err(|_| ReturnUrlError::Path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(host: &str) -> bool {
        matches!(host, "app.example.com" | "localhost:8080")
    }

    #[test]
    fn our_own_hosts() {
        for (url, want) in [
            ("https://app.example.com", "https://app.example.com/"),
            ("https://app.example.com?x=1", "https://app.example.com/?x=1"),
            (
                "HTTPS://App.Example.Com:443/a?b=https://other.example.com",
                "https://app.example.com:443/a?b=https://other.example.com",
            ),
            ("https://app.example.com./a%20b", "https://app.example.com/a%20b"),
            ("http://localhost:8080/cb", "http://localhost:8080/cb"),
            (
                "https://app.example.com/a%2fb//c",
                "https://app.example.com/a%2fb//c",
            ),
        ] {
            assert_eq!(
                check(url, &ours).map(|safe| safe.to_string()).as_deref(),
                Ok(want),
                "{url}"
            );
        }
    }

    #[test]
    fn disguises() {
        for url in [
            "https://evil-app.example.com/",
            "https://app.example.com.evil.example.net/",
            "https://evil.example.net/app.example.com",
            "https://evil.example.net?app.example.com",
            "https://evil.example.net#app.example.com",
            "https://app.example.com@evil.example.net/",
            "https://app.example.com:pw@evil.example.net/",
            "https://evil.example.net\\@app.example.com/",
            "https://evil.example.net\\.app.example.com/",
            "https:\\\\evil.example.net",
            "https:/evil.example.net",
            "https:evil.example.net",
            "https:///evil.example.net",
            "//evil.example.net",
            "//app.example.com/",
            "/\\evil.example.net",
            "/\t/evil.example.net",
            "/%09/evil.example.net",
            "/app",
            "app.example.com",
            "javascript:alert(1)",
            "javascript://app.example.com/%0aalert(1)",
            "data:text/html,x",
            "ftp://app.example.com/",
            " https://app.example.com/",
            "https://app.example.com/\r\nSet-Cookie: a=b",
            "https://app.example.com/%0d%0aSet-Cookie:a=b",
            "https://app.example.com/%00",
            "https://app.example.com/%zz",
            "https://app.example.com/#x",
            "https://app.example.com:8443/",
            "https://app.example.com:0/",
            "https://app.example.com%2eevil.example.net/",
            "https://app。example.com/",
            "https://аpp.example.com/",
            "https://localhost/",
            "https://[::1]/",
            "",
        ] {
            assert!(check(url, &ours).is_err(), "{url:?}");
        }
    }
}
