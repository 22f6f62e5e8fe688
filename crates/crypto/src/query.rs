//! Query strings, read and written the way Go's `net/url` does.
//!
//! Signed URLs are only worth something when both ends write the same bytes, so the form is fixed: keys
//! sorted by byte, values of a key in their order, space as `+`, everything outside `A-Za-z0-9-_.~` as
//! upper-case percent escapes.
//!
//! Values are bytes: a value that is not UTF-8 is kept and signed, but not handed out as text.

/// An ordered multimap of query parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    malformed: bool,
}

impl Query {
    /// An empty query.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a query string without its `?`. Pairs with a broken escape or a `;` are left out, as Go does;
    /// [`Query::is_malformed`] tells that this happened.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut query = Self::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (pair.contains(';'), unescape(key), unescape(value)) {
                (false, Some(key), Some(value)) => query.pairs.push((key, value)),
                _ => query.malformed = true,
            }
        }
        query
    }

    /// Whether [`Query::parse`] had to leave something out.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// Whether there are no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The first value of `key`; `None` when there is none or it is not UTF-8.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(k, _)| k == key.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// Every UTF-8 value of `key`, in order.
    pub fn get_all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(k, _)| *k == key)
            .map(|(_, value)| value)
    }

    /// How often `key` occurs. A parameter that decides something must occur once.
    #[must_use]
    pub fn count(&self, key: &str) -> usize {
        self.pairs.iter().filter(|(k, _)| k == key.as_bytes()).count()
    }

    /// Whether `key` occurs at all.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.count(key) > 0
    }

    /// All pairs that are UTF-8, in order of appearance.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .filter_map(|(k, v)| Some((std::str::from_utf8(k).ok()?, std::str::from_utf8(v).ok()?)))
    }

    /// Replaces all values of `key` by `value`.
    pub fn set(&mut self, key: &str, value: impl AsRef<str>) -> &mut Self {
        self.remove(key);
        self.append(key, value)
    }

    /// Adds one more value for `key`.
    pub fn append(&mut self, key: &str, value: impl AsRef<str>) -> &mut Self {
        self.pairs
            .push((key.as_bytes().to_vec(), value.as_ref().as_bytes().to_vec()));
        self
    }

    /// Removes all values of `key`.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.pairs.retain(|(k, _)| k != key.as_bytes());
        self
    }

    /// The one written form: sorted by key, escaped, without `?`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut pairs: Vec<_> = self.pairs.iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = String::new();
        for (key, value) in pairs {
            if !out.is_empty() {
                out.push('&');
            }
            escape_into(&mut out, key);
            out.push('=');
            escape_into(&mut out, value);
        }
        out
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Query {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut query = Self::new();
        for (key, value) in pairs {
            query.append(key.as_ref(), value);
        }
        query
    }
}

/// One key or value, escaped for a query string.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    escape_into(&mut out, text.as_bytes());
    out
}

fn escape_into(out: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// `None` for a `%` that is not followed by two hex digits.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            other => other,
        });
    }
    Some(out)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_or_all_values() {
        let query = Query::parse("b=2&a=x+y&a=%2B&&c&d=");
        assert_eq!(query.get("a"), Some("x y"));
        assert_eq!(query.get_all("a").collect::<Vec<_>>(), ["x y", "+"]);
        assert_eq!(
            (query.get("c"), query.get("d"), query.get("e")),
            (Some(""), Some(""), None)
        );
        assert_eq!((query.count("a"), query.count("e")), (2, 0));
        assert!(!query.is_malformed());
    }

    #[test]
    fn writes_sorted_and_keeps_the_order_of_equal_keys() {
        let mut query = Query::parse("b=2&a=z&a=b");
        query.set("b", "ü/?&=~ *").append("a", "c");
        assert_eq!(query.encode(), "a=z&a=b&a=c&b=%C3%BC%2F%3F%26%3D~+%2A");
        query.remove("a");
        assert_eq!(query.encode(), "b=%C3%BC%2F%3F%26%3D~+%2A");
        assert_eq!(Query::new().encode(), "");
    }

    #[test]
    fn broken_pairs_are_left_out_and_told() {
        for text in ["a=1&b=%zz", "a=1&b=%4", "a=1&b;c=2", "a=1&%"] {
            let query = Query::parse(text);
            assert_eq!(query.encode(), "a=1", "{text}");
            assert!(query.is_malformed(), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_survive_but_are_not_handed_out() {
        let query = Query::parse("a=%ff&b=1");
        assert_eq!(query.get("a"), None);
        assert!(query.contains("a"));
        assert_eq!(query.encode(), "a=%FF&b=1");
        assert_eq!(query.iter().collect::<Vec<_>>(), [("b", "1")]);
    }

    proptest::proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same(pairs in proptest::collection::vec((".{0,8}", ".{0,8}"), 0..6)) {
            let query: Query = pairs.into_iter().collect();
            let again = Query::parse(&query.encode());
            proptest::prop_assert!(!again.is_malformed());
            proptest::prop_assert_eq!(again.encode(), query.encode());
        }
    }
}
