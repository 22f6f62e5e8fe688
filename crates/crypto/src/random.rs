//! Random bytes from the operating system.

use crate::encoding;

/// `N` random bytes.
///
/// # Panics
/// When the operating system has no source of randomness. Nothing here could go on safely without one.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out);
    out
}

/// `n_bytes` random bytes as unpadded URL-safe base64: 16 or more for a name nobody can guess, 32 for a
/// secret.
///
/// # Panics
/// As [`bytes`].
#[must_use]
pub fn base64url(n_bytes: usize) -> String {
    let mut out = vec![0; n_bytes];
    fill(&mut out);
    encoding::base64url_encode(&out)
}

fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the operating system provides randomness");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_and_have_the_asked_length() {
        assert_ne!(bytes::<32>(), bytes::<32>());
        assert_eq!(base64url(32).len(), 43);
        assert_ne!(base64url(16), base64url(16));
    }
}
