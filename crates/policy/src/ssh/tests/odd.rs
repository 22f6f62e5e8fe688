//! Certificates that no tool makes.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};

use super::*;

fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A certificate in parts, each of which a test may change.
struct Odd {
    kind: u32,
    principals: Vec<u8>,
    after: u64,
    before: u64,
    critical: Vec<u8>,
    extensions: Vec<u8>,
    authority: Vec<u8>,
    authority_kind: &'static str,
}

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn plain_authority() -> Vec<u8> {
    [string("ssh-ed25519"), string(signer().public_key())].concat()
}

impl Default for Odd {
    fn default() -> Self {
        Self {
            kind: 1,
            principals: string("deploy"),
            after: 0,
            before: u64::MAX,
            critical: Vec::new(),
            extensions: Vec::new(),
            authority: plain_authority(),
            authority_kind: "ssh-ed25519",
        }
    }
}

impl Odd {
    fn unsigned(&self) -> Vec<u8> {
        let numbers = |number: u64| number.to_be_bytes().to_vec();
        [
            string("ssh-ed25519-cert-v01@openssh.com"),
            string([1; 32]),
            string([2; 32]),
            numbers(9),
            self.kind.to_be_bytes().to_vec(),
            string("id"),
            string(&self.principals),
            numbers(self.after),
            numbers(self.before),
            string(&self.critical),
            string(&self.extensions),
            string(""),
            string(&self.authority),
        ]
        .concat()
    }

    fn signed(&self) -> Vec<u8> {
        let unsigned = self.unsigned();
        let signature = [string(self.authority_kind), string(signer().sign(&unsigned))].concat();
        [unsigned, string(signature)].concat()
    }

    fn judged(&self) -> Result<(), CertificateProblem> {
        judged(&self.signed(), &[&plain_authority()])
    }
}

fn judged(blob: &[u8], authorities: &[&[u8]]) -> Result<(), CertificateProblem> {
    let keys: Vec<_> = authorities
        .iter()
        .filter_map(|blob| PublicKey::from_wire(blob))
        .collect();
    check_user_certificate(blob, &keys, check())
}

#[test]
fn odd_lists_spoil_a_certificate() {
    assert_eq!(Odd::default().judged(), Ok(()));
    let tuple = |name: &str| [string(name), string("")].concat();
    let changed = [
        Odd {
            principals: [string("deploy"), string("")].concat(),
            ..Odd::default()
        },
        Odd {
            principals: string("deploy\0"),
            ..Odd::default()
        },
        Odd {
            principals: string([0xff]),
            ..Odd::default()
        },
        Odd {
            principals: [string("deploy"), vec![0]].concat(),
            ..Odd::default()
        },
        Odd {
            critical: string("name-without-data"),
            ..Odd::default()
        },
        Odd {
            extensions: [tuple("b"), tuple("a")].concat(),
            ..Odd::default()
        },
        Odd {
            extensions: [tuple("a"), tuple("a")].concat(),
            ..Odd::default()
        },
        Odd {
            extensions: vec![1],
            ..Odd::default()
        },
    ];
    for odd in changed {
        assert_eq!(odd.judged(), Err(CertificateProblem::Malformed));
    }
    let empty_address = [string("source-address"), string("")].concat();
    for critical in [
        tuple("source-address"),
        empty_address,
        [string("source-address"), string(string("203.0.113.0/24,oops"))].concat(),
        [
            string("source-address"),
            string([string("203.0.113.0/24"), vec![0]].concat()),
        ]
        .concat(),
    ] {
        let odd = Odd {
            critical,
            ..Odd::default()
        };
        assert_eq!(odd.judged(), Err(CertificateProblem::CriticalOption));
    }
}

#[test]
fn other_types_and_impossible_dates_do_not_count() {
    for kind in [0, 2, 3, u32::MAX] {
        assert_eq!(
            Odd {
                kind,
                ..Odd::default()
            }
            .judged(),
            Err(CertificateProblem::NotForUsers)
        );
    }
    let dates = |after, before| {
        Odd {
            after,
            before,
            ..Odd::default()
        }
        .judged()
    };
    assert_eq!(dates(u64::MAX, u64::MAX), Err(CertificateProblem::NotYetValid));
    assert_eq!(dates(0, u64::MAX - 1), Err(CertificateProblem::Expired));
    assert_eq!(dates(0, 0), Err(CertificateProblem::Expired));
}

#[test]
fn a_certificate_signs_no_certificate() {
    let nested = Odd::default().signed();
    let odd = Odd {
        authority: nested.clone(),
        ..Odd::default()
    };
    assert_eq!(
        judged(&odd.signed(), &[&nested, &plain_authority()]),
        Err(CertificateProblem::UnknownAuthority)
    );
}

#[test]
fn a_signature_names_the_kind_of_its_key() {
    let odd = Odd {
        authority_kind: "ssh-rsa",
        ..Odd::default()
    };
    assert_eq!(odd.judged(), Err(CertificateProblem::BadSignature));
}

/// A security key as authority: it signs its application, whether it was touched, and a digest.
#[test]
fn a_security_key_signs_only_when_touched() {
    let authority = [
        string("sk-ssh-ed25519@openssh.com"),
        string(signer().public_key()),
        string("ssh:"),
    ]
    .concat();
    let odd = Odd {
        authority: authority.clone(),
        ..Odd::default()
    };
    let with_flags = |flags: u8, more: &[u8]| {
        let unsigned = odd.unsigned();
        let counter = 5_u32.to_be_bytes();
        let message = [
            Sha256::digest("ssh:").as_slice(),
            &[flags],
            &counter,
            Sha256::digest(&unsigned).as_slice(),
        ]
        .concat();
        let signature = [
            string("sk-ssh-ed25519@openssh.com"),
            string(signer().sign(&message)),
            vec![flags],
            counter.to_vec(),
            more.to_vec(),
        ]
        .concat();
        judged(&[unsigned, string(signature)].concat(), &[&authority])
    };
    assert_eq!(with_flags(1, b""), Ok(()));
    assert_eq!(with_flags(5, b""), Ok(()));
    assert_eq!(with_flags(0, b""), Err(CertificateProblem::BadSignature));
    assert_eq!(with_flags(1, b"x"), Err(CertificateProblem::BadSignature));
}
