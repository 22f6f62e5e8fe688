//! Who is addressed: one host, lower-case, without a trailing dot, with a numeric port or none.

use std::{
    fmt::{self, Write as _},
    net::Ipv6Addr,
    ops::Deref,
};

/// A host and, if it was written, a port; in the one spelling that routes, certificates and policies use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    text: String,
    host_len: usize,
    port: Option<u16>,
}

/// The text does not name one host unmistakably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("host is not valid")]
pub struct AuthorityError;

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    /// User information, blanks, non-ASCII (IDNA names come in their ASCII form), empty labels, names
    /// above 253 bytes, zone ids, a port that is empty, zero, not numeric or above 65535.
    pub fn parse(raw: &[u8]) -> Result<Self, AuthorityError> {
        let (host, port) = if raw.first() == Some(&b'[') {
            split_v6(raw)?
        } else {
            split_name(raw)?
        };
        let port = port.map(parse_port).transpose()?;
        let mut text = host;
        let host_len = text.len();
        if let Some(port) = port {
            // Writing to a `String` cannot fail.
            let _ = write!(text, ":{port}");
        }
        Ok(Self { text, host_len, port })
    }

    /// `host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host alone; IPv6 addresses keep their brackets.
    pub fn host(&self) -> &str {
        &self.text[..self.host_len]
    }

    /// The port, when one was written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl Deref for Authority {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Authority {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn split_name(raw: &[u8]) -> Result<(String, Option<&[u8]>), AuthorityError> {
    let (host, port) = match raw.iter().position(|byte| *byte == b':') {
        Some(colon) => (&raw[..colon], Some(&raw[colon + 1..])),
        None => (raw, None),
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    let mut before = b'.';
    for &byte in host {
        let fine =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && before != b'.');
        if !fine {
            return Err(AuthorityError);
        }
        before = byte;
    }
    if !(1..=253).contains(&host.len()) || before == b'.' {
        return Err(AuthorityError);
    }
    // Room for the port; every byte is ASCII by now.
    let mut name = String::with_capacity(raw.len());
    name.push_str(std::str::from_utf8(host).map_err(|_| AuthorityError)?);
    name.make_ascii_lowercase();
    Ok((name, port))
}

fn split_v6(raw: &[u8]) -> Result<(String, Option<&[u8]>), AuthorityError> {
    let end = raw.iter().position(|byte| *byte == b']').ok_or(AuthorityError)?;
    let inside = std::str::from_utf8(&raw[1..end]).map_err(|_| AuthorityError)?;
    let address: Ipv6Addr = inside.parse().map_err(|_| AuthorityError)?;
    let port = match &raw[end + 1..] {
        [] => None,
        [b':', port @ ..] => Some(port),
        _ => return Err(AuthorityError),
    };
    Ok((format!("[{address}]"), port))
}

fn parse_port(digits: &[u8]) -> Result<u16, AuthorityError> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(AuthorityError);
    }
    let value = digits
        .iter()
        .fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    u16::try_from(value)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(AuthorityError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(raw: &str) -> Option<String> {
        Authority::parse(raw.as_bytes())
            .ok()
            .map(|done| done.as_str().to_owned())
    }

    #[test]
    fn one_spelling() {
        for (raw, want) in [
            ("app.example.com", "app.example.com"),
            ("a.B.Example.COM", "a.b.example.com"),
            ("app.example.com.", "app.example.com"),
            ("app.example.com.:8443", "app.example.com:8443"),
            ("app.example.com:443", "app.example.com:443"),
            ("app.example.com:00443", "app.example.com:443"),
            ("my_app.example.com", "my_app.example.com"),
            ("localhost", "localhost"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[::1]", "[::1]"),
            ("[2001:DB8:0:0::1]:8443", "[2001:db8::1]:8443"),
            ("xn--bcher-kva.example.com", "xn--bcher-kva.example.com"),
        ] {
            assert_eq!(text(raw).as_deref(), Some(want), "{raw}");
        }
    }

    #[test]
    fn what_is_refused() {
        for raw in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "a b",
            " a",
            "a ",
            "a,b",
            "user@a",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "a%2eb",
            "bücher.example.com",
            "a:",
            "a:0",
            "a:65536",
            "a:99999999",
            "a:8x",
            "a:-1",
            "a:+1",
            "a:80:80",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[fe80::1%25eth0]",
            "[]",
            "[a]",
            "::1",
            "a\0b",
            "a\tb",
            "*.example.com",
        ] {
            assert_eq!(text(raw), None, "{raw:?}");
        }
        assert_eq!(text(&"a".repeat(254)), None);
        assert!(text(&"a".repeat(253)).is_some());
    }

    #[test]
    fn parts() {
        let name = Authority::parse(b"App.example.com:8443").unwrap();
        assert_eq!((name.host(), name.port()), ("app.example.com", Some(8443)));
        let six = Authority::parse(b"[::1]").unwrap();
        assert_eq!((six.host(), six.port()), ("[::1]", None));
    }
}
