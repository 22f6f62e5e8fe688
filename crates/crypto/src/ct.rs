//! Comparison that takes the same time wherever the difference sits.

use subtle::ConstantTimeEq;

/// Whether `a` and `b` are equal. The time taken depends on the lengths only.
#[must_use]
pub fn eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::eq;

    #[test]
    fn compares_content_and_length() {
        assert!(eq(b"", b""));
        assert!(eq(b"same", b"same"));
        assert!(!eq(b"same", b"sama"));
        assert!(!eq(b"same", b"same "));
    }
}
