//! Splitting a URL into its parts without changing any of them. Route ids and prefix rewrites depend on the
//! exact text, so a parser that normalises (adds `/`, drops the default port, lower-cases) must not be used
//! here (spec config.md 9.3, 18).

/// The parts of a URL, as written; `path` and `fragment` are unescaped, the raw forms are kept where they
/// differ from the usual escaping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GoUrl {
    /// Scheme, lower case.
    pub scheme: String,
    /// What follows `scheme:` when it does not begin with a slash.
    pub opaque: String,
    /// User and, if given, password.
    pub user: Option<(String, Option<String>)>,
    /// Host with port, as written.
    pub host: String,
    /// Path, unescaped.
    pub path: String,
    /// Path as written, only where escaping `path` anew would give something else.
    pub raw_path: String,
    /// Path as written.
    pub written_path: String,
    /// `scheme:///path` was `scheme:/path`.
    pub omit_host: bool,
    /// A `?` without a query.
    pub force_query: bool,
    /// Query without `?`.
    pub query: String,
    /// Fragment, unescaped.
    pub fragment: String,
    /// Fragment as written, only where escaping anew would give something else.
    pub raw_fragment: String,
}

impl GoUrl {
    /// Splits; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err("invalid control character in URL".into());
        }
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let mut url = Self::default();
        let rest = url.split_scheme(rest)?;
        let rest = url.split_query(rest);
        url.split_authority(rest, text)?;
        if let Some(fragment) = fragment {
            url.fragment = unescape(fragment)?;
            if escape(&url.fragment, Part::Fragment) != fragment {
                fragment.clone_into(&mut url.raw_fragment);
            }
        }
        Ok(url)
    }

    fn split_scheme<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' => {}
                b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
                b'0'..=b'9' | b'+' | b'-' | b'.' => return Ok(text),
                b':' if at == 0 => return Err("missing protocol scheme".into()),
                b':' => {
                    self.scheme = text[..at].to_lowercase();
                    return Ok(&text[at + 1..]);
                }
                _ => return Ok(text),
            }
        }
        Ok(text)
    }

    fn split_query<'a>(&mut self, text: &'a str) -> &'a str {
        if text.ends_with('?') && text.matches('?').count() == 1 {
            self.force_query = true;
            return &text[..text.len() - 1];
        }
        match text.split_once('?') {
            Some((rest, query)) => {
                query.clone_into(&mut self.query);
                rest
            }
            None => text,
        }
    }

    fn split_authority(&mut self, rest: &str, whole: &str) -> Result<(), String> {
        if !rest.starts_with('/') {
            if !self.scheme.is_empty() {
                rest.clone_into(&mut self.opaque);
                return Ok(());
            }
            let segment = rest.split('/').next().unwrap_or_default();
            if segment.contains(':') {
                return Err(format!(
                    "parse \"{whole}\": first path segment in URL cannot contain colon"
                ));
            }
        }
        let path = if (!self.scheme.is_empty() || !rest.starts_with("///")) && rest.starts_with("//") {
            let authority = &rest[2..];
            let end = authority.find('/').unwrap_or(authority.len());
            self.set_authority(&authority[..end])?;
            &authority[end..]
        } else {
            self.omit_host = !self.scheme.is_empty() && rest.starts_with('/');
            rest
        };
        self.path = unescape(path)?;
        path.clone_into(&mut self.written_path);
        if escape(&self.path, Part::Path) != path {
            path.clone_into(&mut self.raw_path);
        }
        Ok(())
    }

    fn set_authority(&mut self, authority: &str) -> Result<(), String> {
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                self.user = Some(match user.split_once(':') {
                    Some((name, password)) => (unescape(name)?, Some(unescape(password)?)),
                    None => (unescape(user)?, None),
                });
                host
            }
            None => authority,
        };
        check_host(host)?;
        self.host = unescape(host)?;
        Ok(())
    }

    /// Host without port and brackets.
    pub fn hostname(&self) -> &str {
        split_host_port(&self.host).0
    }

    /// Port, as written; empty when absent.
    pub fn port(&self) -> &str {
        split_host_port(&self.host).1
    }

    /// The URL put together again, as the original prints it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.scheme.is_empty() {
            text.push_str(&self.scheme);
            text.push(':');
        }
        if self.opaque.is_empty() {
            self.push_authority(&mut text);
            text.push_str(&self.written_path);
        } else {
            text.push_str(&self.opaque);
        }
        if self.force_query || !self.query.is_empty() {
            text.push('?');
            text.push_str(&self.query);
        }
        if !self.fragment.is_empty() {
            text.push('#');
            let raw = &self.raw_fragment;
            text.push_str(&if raw.is_empty() {
                escape(&self.fragment, Part::Fragment)
            } else {
                raw.clone()
            });
        }
        text
    }

    fn push_authority(&self, text: &mut String) {
        let has_authority = !self.host.is_empty() || self.user.is_some();
        if has_authority || (!self.scheme.is_empty() && !self.omit_host && !self.path.is_empty()) {
            text.push_str("//");
        }
        if let Some((name, password)) = &self.user {
            text.push_str(&escape(name, Part::User));
            if let Some(password) = password {
                text.push(':');
                text.push_str(&escape(password, Part::User));
            }
            text.push('@');
        }
        text.push_str(&self.host);
    }
}

/// `host:port` into host (no brackets) and port (may be empty).
pub fn split_host_port(authority: &str) -> (&str, &str) {
    let (host, port) = match authority.rfind(':') {
        Some(at) if authority[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => {
            (&authority[..at], &authority[at + 1..])
        }
        _ => (authority, ""),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (host, port)
}

fn check_host(host: &str) -> Result<(), String> {
    let after = match host.rfind(']') {
        Some(at) if host.starts_with('[') => &host[at + 1..],
        None if host.starts_with('[') => return Err("missing ']' in host".into()),
        _ => host
            .find(':')
            .map_or("", |_| &host[host.rfind(':').unwrap_or(0)..]),
    };
    let digits = after.strip_prefix(':').unwrap_or(after);
    if !after.is_empty() && (!after.starts_with(':') || !digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("invalid port \"{after}\" after host"));
    }
    match host
        .chars()
        .find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        Some(bad) => Err(format!("invalid character \"{bad}\" in host name")),
        None => Ok(()),
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let byte = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = byte else {
            let end = text.len().min(at + 3);
            return Err(format!(
                "invalid URL escape \"{}\"",
                text.get(at..end).unwrap_or("%")
            ));
        };
        out.push(byte);
        at += 3;
    }
    String::from_utf8(out).map_err(|_| "escaped bytes are not UTF-8".into())
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Path,
    Fragment,
    User,
}

/// The usual escaping of a part.
fn escape(text: &str, part: Part) -> String {
    let keep = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => true,
        b'$' | b'&' | b'+' | b',' | b'=' | b';' => true,
        b'/' | b':' | b'@' => part != Part::User,
        b'?' => part == Part::Fragment,
        b'!' | b'(' | b')' | b'*' => part == Part::Fragment,
        _ => false,
    };
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether URLs of a scheme name a UNIX socket, which has no host.
pub fn is_socket(scheme: &str) -> bool {
    matches!(scheme, "unix" | "https+unix")
}

/// A URL with scheme and host (spec config.md 7).
pub fn require(text: &str) -> Result<GoUrl, String> {
    if text.is_empty() {
        return Err("url cannot be empty".into());
    }
    let url = GoUrl::parse(text).map_err(|error| {
        if error.contains("first path segment") {
            format!("{error} have you specified protocol (ex: https)")
        } else {
            error
        }
    })?;
    if url.scheme.is_empty() {
        return Err(format!("{text} url does not contain a valid scheme"));
    }
    if url.host.is_empty() && !is_socket(&url.scheme) {
        return Err(format!("{text} url does not contain a valid hostname"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_without_changing() {
        let url = GoUrl::parse("HTTPS://Up.Internal:8443/Base/%2Fx?q=1#f").unwrap();
        assert_eq!(url.scheme, "https");
        assert_eq!(url.host, "Up.Internal:8443");
        assert_eq!((url.hostname(), url.port()), ("Up.Internal", "8443"));
        assert_eq!(url.path, "/Base//x");
        assert_eq!(url.raw_path, "/Base/%2Fx");
        assert_eq!((url.query.as_str(), url.fragment.as_str()), ("q=1", "f"));
    }

    #[test]
    fn a_plain_path_has_no_raw_form() {
        let url = GoUrl::parse("http://u/a b").unwrap();
        assert_eq!((url.path.as_str(), url.raw_path.as_str()), ("/a b", "/a b"));
        assert_eq!(GoUrl::parse("http://u/a%20b").unwrap().raw_path, "");
    }

    #[test]
    fn brackets_users_and_sockets() {
        let url = GoUrl::parse("http://me:pw@[::1]:80/").unwrap();
        assert_eq!((url.hostname(), url.port()), ("::1", "80"));
        assert_eq!(url.user, Some(("me".into(), Some("pw".into()))));
        let url = GoUrl::parse("unix:///run/x.sock").unwrap();
        assert_eq!(
            (url.host.as_str(), url.path.as_str(), url.omit_host),
            ("", "/run/x.sock", false)
        );
        assert!(GoUrl::parse("unix:/run/x.sock").unwrap().omit_host);
    }

    #[test]
    fn prints_what_it_read() {
        for text in [
            "https://a.example.com",
            "https://a.example.com/x?y=1#z",
            "unix:///run/x",
            "mailto:x",
        ] {
            assert_eq!(GoUrl::parse(text).unwrap().text(), text);
        }
    }

    #[test]
    fn required_parts() {
        assert!(require("").unwrap_err().contains("cannot be empty"));
        assert!(
            require("authenticate.example.com")
                .unwrap_err()
                .contains("valid scheme")
        );
        assert!(
            require("127.0.0.1:80")
                .unwrap_err()
                .contains("have you specified protocol")
        );
        assert!(require("localhost:80").unwrap_err().contains("valid hostname"));
        assert!(require("unix:///x").is_ok());
        assert!(GoUrl::parse("http://a:b/").is_err());
        assert!(GoUrl::parse("http://a/%zz").is_err());
    }
}
