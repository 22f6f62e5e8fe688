//! Certificates made by `ssh-keygen` (in `testdata`), and odd ones made here.

mod odd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../testdata/", $name, ".pub"))
    };
}

const AUTHORITIES: [&str; 5] = [
    fixture!("ca_ed25519"),
    fixture!("ca_p256"),
    fixture!("ca_p384"),
    fixture!("ca_p521"),
    fixture!("ca_rsa"),
];

fn key(line: &str) -> PublicKey {
    PublicKey::parse(line).unwrap()
}

fn authorities() -> Vec<PublicKey> {
    AUTHORITIES.into_iter().map(key).collect()
}

/// The certificates of the fixtures count in January 2026.
fn check<'a>() -> CertificateCheck<'a> {
    CertificateCheck {
        principal: "deploy",
        now: "2026-01-15T00:00:00Z".parse().unwrap(),
        address: "203.0.113.7".parse().ok(),
    }
}

fn judge(line: &str, check: CertificateCheck<'_>) -> Result<(), CertificateProblem> {
    check_user_certificate(key(line).blob(), &authorities(), check)
}

#[test]
fn certificates_of_every_kind_of_authority_and_key_count() {
    for line in [
        fixture!("by_ed25519"),
        fixture!("by_p256"),
        fixture!("by_p384"),
        fixture!("by_p521"),
        fixture!("by_rsa"),
        fixture!("rsa_sha256"),
        fixture!("of_p256"),
        fixture!("of_rsa"),
        fixture!("extension"),
        fixture!("forever"),
    ] {
        assert_eq!(judge(line, check()), Ok(()), "{line}");
    }
}

#[test]
fn an_authority_that_is_not_listed_vouches_for_nobody() {
    let certificate = key(fixture!("by_ed25519"));
    for others in [
        Vec::new(),
        authorities().split_off(1),
        vec![key(fixture!("user_ed25519"))],
    ] {
        assert_eq!(
            check_user_certificate(certificate.blob(), &others, check()),
            Err(CertificateProblem::UnknownAuthority)
        );
    }
}

#[test]
fn a_certificate_counts_for_its_names_only() {
    let named = |principal| CertificateCheck { principal, ..check() };
    let certificate = fixture!("by_ed25519");
    assert_eq!(judge(certificate, named("admin")), Ok(()));
    for other in ["root", "", "deploy,admin", "Deploy", "deploy "] {
        assert_eq!(
            judge(certificate, named(other)),
            Err(CertificateProblem::OtherPrincipal),
            "{other}"
        );
    }
    assert_eq!(judge(fixture!("no_principals"), named("anybody")), Ok(()));
    assert_eq!(
        judge(fixture!("no_principals"), named("")),
        Err(CertificateProblem::OtherPrincipal)
    );
}

#[test]
fn a_certificate_counts_from_its_first_second_to_before_its_last() {
    let at = |text: &str| {
        let now = text.parse().unwrap();
        judge(fixture!("by_ed25519"), CertificateCheck { now, ..check() })
    };
    assert_eq!(
        at("2025-12-31T23:59:59.999Z"),
        Err(CertificateProblem::NotYetValid)
    );
    assert_eq!(at("2026-01-01T00:00:00Z"), Ok(()));
    assert_eq!(at("2026-01-31T23:59:59.999Z"), Ok(()));
    assert_eq!(at("2026-02-01T00:00:00Z"), Err(CertificateProblem::Expired));
    assert_eq!(at("1960-01-01T00:00:00Z"), Err(CertificateProblem::NotYetValid));
}

#[test]
fn critical_options_are_obeyed_or_refused() {
    let from = |address: Option<&str>| {
        let address = address.map(|text| text.parse().unwrap());
        judge(
            fixture!("source_address"),
            CertificateCheck { address, ..check() },
        )
    };
    assert_eq!(from(Some("203.0.113.7")), Ok(()));
    assert_eq!(from(Some("::ffff:203.0.113.7")), Ok(()));
    assert_eq!(from(Some("2001:db8::5")), Ok(()));
    assert_eq!(from(Some("198.51.100.1")), Err(CertificateProblem::OtherAddress));
    assert_eq!(from(None), Err(CertificateProblem::OtherAddress));
    for line in [
        fixture!("force_command"),
        fixture!("verify_required"),
        fixture!("unknown_option"),
    ] {
        assert_eq!(
            judge(line, check()),
            Err(CertificateProblem::CriticalOption),
            "{line}"
        );
    }
}

#[test]
fn what_is_no_user_certificate_does_not_count() {
    assert_eq!(
        judge(fixture!("host"), check()),
        Err(CertificateProblem::NotForUsers)
    );
    assert_eq!(
        judge(fixture!("user_ed25519"), check()),
        Err(CertificateProblem::Malformed)
    );
    assert_eq!(
        judge(fixture!("rsa_sha1"), check()),
        Err(CertificateProblem::BadSignature)
    );
    for blob in [&b""[..], b"x", &[0, 0, 0, 1], &vec![0xff; 100_000]] {
        assert_eq!(
            check_user_certificate(blob, &authorities(), check()),
            Err(CertificateProblem::Malformed)
        );
    }
}

/// Whatever byte is changed, cut off or put behind: the certificate stops counting.
#[test]
fn no_byte_can_be_changed() {
    let certificate = key(fixture!("by_p256")).blob().to_vec();
    let counts = |blob: &[u8]| check_user_certificate(blob, &authorities(), check()).is_ok();
    assert!(counts(&certificate));
    for at in 0..certificate.len() {
        let mut changed = certificate.clone();
        changed[at] ^= 1;
        assert!(!counts(&changed), "byte {at}");
        assert!(!counts(&certificate[..at]), "cut at {at}");
    }
    assert!(!counts(&[certificate.as_slice(), b"\0"].concat()));
}

#[test]
fn a_line_may_have_options_a_comment_and_others_around_it() {
    let plain = fixture!("user_ed25519").trim();
    for line in [
        format!("  {plain} more words"),
        format!("# comment\n\n{plain}\nssh-rsa AAAA\n"),
        format!("no-pty,command=\"echo \\\"ssh-rsa x\\\"\" {plain}"),
        format!("restrict\t{plain}"),
        plain.replacen(' ', "\t ", 1),
        plain.rsplit_once(' ').unwrap().0.to_owned(),
    ] {
        assert_eq!(key(&line), key(plain), "{line}");
    }
    for (line, problem) in [
        ("", KeyProblem::Empty),
        ("# only a comment", KeyProblem::Empty),
        ("ssh-ed25519", KeyProblem::NotALine),
        ("command=\"ssh-rsa AAAA", KeyProblem::NotALine),
        ("ssh-ed25519 AAAA=", KeyProblem::NotBase64),
        ("ssh-ed25519 AAAA", KeyProblem::NotAKey),
        ("ssh-dss AAAAB3NzaC1kc3M=", KeyProblem::NotAKey),
    ] {
        assert_eq!(PublicKey::parse(line), Err(problem), "{line}");
    }
}

#[test]
fn keys_with_something_behind_are_no_keys() {
    let blob = key(fixture!("user_rsa")).blob().to_vec();
    assert!(PublicKey::from_wire(&blob).is_some());
    assert!(PublicKey::from_wire(&[blob.as_slice(), b"x"].concat()).is_none());
    assert!(PublicKey::from_wire(&blob[..blob.len() - 1]).is_none());
    // A number with a zero too many would be a second spelling of the same key.
    let ed25519 = STANDARD.decode("AAAAC3NzaC1lZDI1NTE5AAAAIA==").unwrap();
    assert!(PublicKey::from_wire(&ed25519).is_none());
}
