//! Request headers as policies see them.

use std::borrow::Cow;

use http::HeaderMap;
use pomerium_policy::HeaderLookup;

/// A header map for [`pomerium_policy::HttpInput::headers`].
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a>(pub &'a HeaderMap);

impl HeaderLookup for Headers<'_> {
    /// Repeated headers joined with `,`; bytes that are no UTF-8 are replaced.
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        joined(self.0, name)
    }

    fn each(&self, show: &mut dyn FnMut(&str, &str)) {
        for name in self.0.keys() {
            if let Some(value) = joined(self.0, name.as_str()) {
                show(name.as_str(), &value);
            }
        }
    }
}

/// All values of a header, joined with `,`.
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let first = String::from_utf8_lossy(values.next()?.as_bytes());
    let Some(second) = values.next() else {
        return Some(first);
    };
    let mut all = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        all.push(',');
        all.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    Some(Cow::Owned(all))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn repeated_headers_are_seen_whole() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        headers.append("x-b", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Headers(&headers).get("X-A").as_deref(), Some("1,2"));
        assert_eq!(Headers(&headers).get("x-b").as_deref(), Some("\u{fffd}"));
        assert_eq!(Headers(&headers).get("x-c"), None);
        let mut all = Vec::new();
        Headers(&headers).each(&mut |name, value| all.push(format!("{name}: {value}")));
        all.sort();
        assert_eq!(all, ["x-a: 1,2", "x-b: \u{fffd}"]);
    }
}
