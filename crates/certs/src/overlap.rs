//! Whether two certificates are for the same host. Which of them a handshake gets then depends on their keys and on how
//! exact their names are, so that somebody who may add one could take a host over.

use crate::load::LoadedCertificate;

impl LoadedCertificate {
    /// The first of its names that one of `others` is for as well: the same name, or one that a wildcard on either side
    /// fits.
    #[must_use]
    pub fn name_shared_with(&self, others: &[LoadedCertificate]) -> Option<&str> {
        let taken = |name: &&String| {
            others
                .iter()
                .any(|other| other.names().iter().any(|other| meet(name, other)))
        };
        self.names().iter().find(taken).map(String::as_str)
    }
}

/// Whether a host has both names. A wildcard stands for one label.
fn meet(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let (Some((first_a, rest_a)), Some((first_b, rest_b))) = (a.split_once('.'), b.split_once('.')) else {
        return false;
    };
    rest_a == rest_b && (first_a == "*" || first_b == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_meet_where_one_host_has_both() {
        for (a, b, expected) in [
            ("a.example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", "*.a.example.com", false),
            ("*.a.example.com", "a.example.com", false),
            ("*", "a.example.com", false),
        ] {
            assert_eq!(meet(a, b), expected, "{a} {b}");
            assert_eq!(meet(b, a), expected, "{b} {a}");
        }
    }
}
