//! Looking for texts in an answer, in order, not necessarily side by side, within a bound.

/// Looks for each of some texts after the one before it, as bytes come in.
///
/// Keeps at most `limit` bytes: what does not show up within them is not there.
#[derive(Debug)]
pub struct Matcher<'a> {
    wanted: &'a [Vec<u8>],
    seen: Vec<u8>,
    limit: usize,
}

impl<'a> Matcher<'a> {
    /// Looks for `wanted` within the first `limit` bytes.
    pub fn new(wanted: &'a [Vec<u8>], limit: usize) -> Self {
        Self {
            wanted,
            seen: Vec::new(),
            limit,
        }
    }

    /// Takes more of the answer.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.seen.len());
        self.seen.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Whether nothing more is looked at.
    pub fn is_full(&self) -> bool {
        self.seen.len() >= self.limit
    }

    /// Whether all texts were there.
    pub fn matched(&self) -> bool {
        let mut rest = self.seen.as_slice();
        self.wanted.iter().all(|text| match find(rest, text) {
            Some(end) => {
                rest = rest.get(end..).unwrap_or_default();
                true
            }
            None => false,
        })
    }
}

/// Where `text` first ends in `bytes`.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let at = bytes.windows(text.len()).position(|window| window == text)?;
    Some(at + text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(answer: &[u8], wanted: &[&str], limit: usize) -> bool {
        let wanted: Vec<Vec<u8>> = wanted.iter().map(|text| text.as_bytes().to_vec()).collect();
        let mut matcher = Matcher::new(&wanted, limit);
        for byte in answer.chunks(1) {
            matcher.push(byte);
        }
        matcher.matched()
    }

    #[test]
    fn texts_are_found_in_order_with_gaps() {
        assert!(matched(b"02..03", &["02", "03"], 100));
        assert!(matched(b"0203", &["02", "03"], 100));
        assert!(!matched(b"03..02", &["02", "03"], 100));
        assert!(!matched(b"abab", &["aba", "ab"], 100), "each byte counts once");
        assert!(matched(b"", &[], 100) && matched(b"", &[""], 100));
        assert!(!matched(b"", &["x"], 100));
    }

    #[test]
    fn nothing_is_looked_at_beyond_the_limit() {
        assert!(!matched(b"0123456789ok", &["ok"], 11));
        assert!(matched(b"0123456789ok", &["ok"], 12));
        let wanted = [b"ok".to_vec()];
        let mut matcher = Matcher::new(&wanted, 4);
        matcher.push(&[0; 1000]);
        assert!(matcher.is_full() && matcher.seen.len() == 4);
    }
}
