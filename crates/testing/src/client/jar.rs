//! Cookies, as far as tests need RFC 6265.

use http::HeaderMap;
use reqwest::Url;

#[derive(Debug, Clone)]
struct Cookie {
    name: String,
    value: String,
    domain: String,
    host_only: bool,
    path: String,
    secure: bool,
}

/// A cookie jar.
#[derive(Debug, Default)]
pub(super) struct Jar {
    cookies: Vec<Cookie>,
}

impl Jar {
    /// Keeps what `Set-Cookie` headers say.
    pub(super) fn keep(&mut self, url: &Url, headers: &HeaderMap) {
        for header in headers.get_all("set-cookie") {
            if let Some((cookie, removed)) = header.to_str().ok().and_then(|text| parse(url, text)) {
                self.cookies.retain(|known| {
                    (&known.name, &known.domain, &known.path) != (&cookie.name, &cookie.domain, &cookie.path)
                });
                if !removed {
                    self.cookies.push(cookie);
                }
            }
        }
    }

    pub(super) fn set(&mut self, url: &Url, name: &str, value: &str) {
        let domain = url.host_str().unwrap_or_default().to_owned();
        self.cookies
            .retain(|known| known.name != name || known.domain != domain);
        self.cookies.push(Cookie {
            name: name.into(),
            value: value.into(),
            domain,
            host_only: true,
            path: "/".into(),
            secure: true,
        });
    }

    /// The `Cookie` header for a request.
    pub(super) fn header(&self, url: &Url) -> Option<String> {
        let pairs: Vec<String> = self
            .matching(url)
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    pub(super) fn value(&self, url: &Url, name: &str) -> Option<String> {
        self.matching(url)
            .find(|cookie| cookie.name == name)
            .map(|cookie| cookie.value.clone())
    }

    fn matching(&self, url: &Url) -> impl Iterator<Item = &Cookie> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let (path, secure) = (url.path().to_owned(), url.scheme() == "https");
        self.cookies.iter().filter(move |cookie| {
            let domain = host == cookie.domain
                || (!cookie.host_only && host.ends_with(&format!(".{}", cookie.domain)));
            let below = cookie.path.trim_end_matches('/');
            let path =
                path == cookie.path || path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'));
            domain && path && (secure || !cookie.secure)
        })
    }
}

/// The cookie, and whether the header removes it.
fn parse(url: &Url, text: &str) -> Option<(Cookie, bool)> {
    let mut parts = text.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let mut cookie = Cookie {
        name: name.to_owned(),
        value: value.to_owned(),
        domain: url.host_str()?.to_owned(),
        host_only: true,
        path: "/".into(),
        secure: false,
    };
    let mut removed = false;
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key.to_ascii_lowercase().as_str() {
            "domain" => {
                cookie.domain = value.trim_start_matches('.').to_ascii_lowercase();
                cookie.host_only = false;
            }
            "path" if value.starts_with('/') => cookie.path = value.to_owned(),
            "secure" => cookie.secure = true,
            "max-age" => removed |= value.parse::<i64>().is_ok_and(|seconds| seconds <= 0),
            // Dates are not read: a cookie without a value and with a date is a removal.
            "expires" => removed |= cookie.value.is_empty(),
            _ => {}
        }
    }
    Some((cookie, removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(url: &str, set: &[&str]) -> Jar {
        let mut headers = HeaderMap::new();
        for value in set {
            headers.append("set-cookie", value.parse().unwrap());
        }
        let mut jar = Jar::default();
        jar.keep(&Url::parse(url).unwrap(), &headers);
        jar
    }

    fn header(jar: &Jar, url: &str) -> Option<String> {
        jar.header(&Url::parse(url).unwrap())
    }

    #[test]
    fn host_only_cookies_stay_on_their_host() {
        let jar = jar("https://a.example.com/", &["x=1; Path=/; Secure"]);
        assert_eq!(header(&jar, "https://a.example.com/p").as_deref(), Some("x=1"));
        assert_eq!(header(&jar, "https://b.example.com/"), None);
        assert_eq!(header(&jar, "http://a.example.com/"), None);
    }

    #[test]
    fn domain_and_path_are_respected() {
        let jar = jar("https://a.example.com/", &["x=1; Domain=example.com; Path=/in"]);
        assert_eq!(
            header(&jar, "https://b.example.com/in/side").as_deref(),
            Some("x=1")
        );
        assert_eq!(header(&jar, "https://b.example.com/inside"), None);
        assert_eq!(header(&jar, "https://notexample.com/in"), None);
    }

    #[test]
    fn a_removal_removes() {
        let mut jar = jar("https://a.example.com/", &["x=1; Path=/"]);
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", "x=; Path=/; Max-Age=-1".parse().unwrap());
        jar.keep(&Url::parse("https://a.example.com/").unwrap(), &headers);
        assert_eq!(header(&jar, "https://a.example.com/"), None);
    }
}
