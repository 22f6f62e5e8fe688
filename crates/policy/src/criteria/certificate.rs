//! Client certificates: is there a valid one, and is it one of those named (spec policy.md 4)?
//!
//! Fingerprints and key hashes pin one certificate and match whatever it is signed by. Names are only as good as
//! who vouches for them, so they match a verified certificate only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::text::TextMatcher;
use crate::certificate::{CertificateFacts, CertificateTrust, ClientCertificate};
use crate::reason::Reason;

/// Compiled conditions on a client certificate; every one that is given must hold.
#[derive(Debug, Default)]
pub(crate) struct CertificateMatcher {
    pub(super) fingerprints: Option<Box<[Box<str>]>>,
    pub(super) spki_hashes: Option<Box<[Box<str>]>>,
    pub(super) emails: Option<TextMatcher>,
    pub(super) dns_names: Option<TextMatcher>,
    pub(super) uris: Option<TextMatcher>,
}

impl CertificateMatcher {
    pub(crate) fn matches(&self, certificate: &ClientCertificate<'_>) -> bool {
        let Some(leaf) = certificate.leaf else {
            return false;
        };
        let listed = |list: &Option<Box<[Box<str>]>>, value: &str| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|item| **item == *value))
        };
        listed(&self.fingerprints, &leaf.fingerprint)
            && listed(&self.spki_hashes, &leaf.spki_hash)
            && self.names_match(leaf, certificate.trust)
    }

    fn names_match(&self, leaf: &CertificateFacts, trust: CertificateTrust) -> bool {
        let conditions = [
            (&self.emails, &leaf.emails),
            (&self.dns_names, &leaf.dns_names),
            (&self.uris, &leaf.uris),
        ];
        conditions.into_iter().all(|(matcher, names)| match matcher {
            None => true,
            Some(matcher) => trust == CertificateTrust::Verified && matcher.matches_among(names),
        })
    }
}

/// The criterion `invalid_client_certificate`.
pub(super) fn invalid(certificate: &ClientCertificate<'_>) -> (bool, Reason) {
    match certificate.trust {
        CertificateTrust::NoAuthority | CertificateTrust::Verified => (false, Reason::ValidClientCertificate),
        CertificateTrust::Rejected if certificate.presented => (true, Reason::InvalidClientCertificate),
        CertificateTrust::Rejected => (true, Reason::ClientCertificateRequired),
    }
}

/// Reads a fingerprint in one of its two spellings: 64 lower-case hex digits, or 32 upper-case pairs joined by `:`.
/// Gives the first. Anything else is an error, so that a digest of another kind is not taken for one that never
/// matches.
pub(super) fn fingerprint(text: &str) -> Option<Box<str>> {
    let digits = |text: &str, fine: fn(&u8) -> bool| text.bytes().all(|byte| fine(&byte));
    let short = text.len() == 64 && digits(text, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if short {
        return Some(text.into());
    }
    let pairs: Vec<&str> = text.split(':').collect();
    let long = pairs.len() == 32
        && pairs
            .iter()
            .all(|pair| pair.len() == 2 && digits(pair, |byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')));
    long.then(|| pairs.concat().to_ascii_lowercase().into())
}

/// Reads the hash of a key: padded base64 of 32 bytes.
pub(super) fn spki_hash(text: &str) -> Option<Box<str>> {
    let bytes = STANDARD.decode(text).ok()?;
    (bytes.len() == 32).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_have_two_spellings_and_no_third() {
        let short = "40ece338e7d4099e0784d3c860c16bffc7e7abd1676953672fd89d6434486c5d";
        let upper = short.to_uppercase();
        let pairs: Vec<String> = upper
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).into_owned())
            .collect();
        let long = pairs.join(":");
        assert_eq!(fingerprint(short).as_deref(), Some(short));
        assert_eq!(fingerprint(&long).as_deref(), Some(short));
        let mut mixed = short.to_owned();
        mixed.replace_range(0..4, "40EC");
        for bad in [
            "",
            upper.as_str(),
            mixed.as_str(),
            &long.to_lowercase(),
            &short[1..],
            &long[3..],
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        ] {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }

    #[test]
    fn key_hashes_are_base64_of_32_bytes() {
        assert!(spki_hash("JMm8Fhx0luOHgoTuEr40jEIemLnYcZJG5Zg57KNN4MI=").is_some());
        for bad in [
            "",
            "VYby3BAoHawLLtsyckwo5Q==",
            "JMm8Fhx0luOHgoTuEr40jEIemLnYcZJG5Zg57KNN4MI",
        ] {
            assert_eq!(spki_hash(bad), None, "{bad}");
        }
    }
}
