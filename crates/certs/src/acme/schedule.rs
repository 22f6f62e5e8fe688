//! When something is due. Times are unix seconds.

use std::time::Duration;

use crate::load::LoadedCertificate;

/// The first pause after a failure.
const FIRST_PAUSE: i64 = 60;
/// The longest pause.
const LONGEST_PAUSE: i64 = 6 * 3600;
/// The shortest, for certificates that live minutes.
const SHORTEST_PAUSE: i64 = 5;
/// A new plan lets failed names be tried again, but not sooner than this after the last attempt.
pub(super) const AFTER_RELOAD: i64 = 60;
/// How long the authority's suggestion counts at most, and when it cannot be had.
const LONGEST_SUGGESTION: i64 = 24 * 3600;
const NO_SUGGESTION: i64 = 6 * 3600;
const SHORTEST_SUGGESTION: i64 = 60;

/// When a certificate is renewed unless the authority says otherwise: in the last third of its life. The same
/// certificate has the same moment in every process, different certificates spread over a tenth of that third.
pub(super) fn renew_at(certificate: &LoadedCertificate) -> i64 {
    let third = (certificate.not_after() - certificate.not_before()) / 3;
    let begin = certificate.not_after() - third;
    begin + within(third / 10, certificate)
}

/// A moment in the window that the authority suggests (RFC 9773 section 4.2).
pub(super) fn in_window(start: i64, end: i64, certificate: &LoadedCertificate) -> i64 {
    start + within((end - start).max(0), certificate)
}

/// A part of `span` that depends on the certificate alone.
fn within(span: i64, certificate: &LoadedCertificate) -> i64 {
    let drawn = certificate
        .fingerprint()
        .get(..4)
        .and_then(|digits| i64::from_str_radix(digits, 16).ok())
        .unwrap_or(0);
    i64::try_from(i128::from(span) * i128::from(drawn) / 65_536).unwrap_or(0)
}

/// When to ask for the window again.
pub(super) fn ask_again(now: i64, retry_after: Option<Duration>) -> i64 {
    let pause = retry_after.map_or(NO_SUGGESTION, |after| {
        i64::try_from(after.as_secs()).unwrap_or(i64::MAX)
    });
    now + pause.clamp(SHORTEST_SUGGESTION, LONGEST_SUGGESTION)
}

/// When to try again after `failures` in a row: ever later, never at the same moment for all names, and soon enough for a
/// certificate with `left` seconds to live.
pub(super) fn retry_at(now: i64, failures: u32, left: Option<i64>) -> i64 {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(12));
    let mut pause = doubled.min(LONGEST_PAUSE);
    if let Some(left) = left.filter(|left| *left > 0) {
        pause = pause.min((left / 10).max(SHORTEST_PAUSE));
    }
    let [drawn] = pomerium_crypto::random::bytes::<1>();
    now + pause * 3 / 4 + pause * i64::from(drawn) / 512
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::OffsetDateTime;

    use super::*;
    use crate::load::load_pair;

    fn certificate(from: i64, until: i64) -> LoadedCertificate {
        let mut params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        params.not_before = OffsetDateTime::from_unix_timestamp(from).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(until).unwrap();
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        load_pair("x", made.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn renewal_is_in_the_last_third_and_spread() {
        let begin = 1_800_000_000;
        let moments: Vec<i64> = (0..20)
            .map(|_| renew_at(&certificate(begin, begin + 90_000)))
            .collect();
        assert!(
            moments
                .iter()
                .all(|at| (begin + 60_000..begin + 63_000).contains(at)),
            "{moments:?}"
        );
        assert!(moments.iter().any(|at| *at != moments[0]));
        let one = certificate(begin, begin + 90_000);
        assert_eq!(
            renew_at(&one),
            renew_at(&one),
            "every process finds the same moment"
        );
    }

    #[test]
    fn pauses_grow_to_a_bound_and_shrink_for_short_lives() {
        let pause = |failures, left| retry_at(0, failures, left);
        assert!((45..=75).contains(&pause(1, None)));
        assert!((90..=150).contains(&pause(2, None)));
        assert!((16_200..=27_000).contains(&pause(40, None)));
        assert!((3..=6).contains(&pause(1, Some(30))));
        assert!((45..=75).contains(&pause(1, Some(-5))));
    }

    #[test]
    fn a_window_is_followed_within_its_bounds() {
        let one = certificate(1_800_000_000, 1_800_090_000);
        assert!((100..200).contains(&in_window(100, 200, &one)));
        assert_eq!(in_window(200, 100, &one), 200);
        assert_eq!(ask_again(0, Some(Duration::ZERO)), 60);
        assert_eq!(ask_again(0, Some(Duration::from_secs(1 << 40))), 86_400);
        assert_eq!(ask_again(0, None), 21_600);
    }
}
