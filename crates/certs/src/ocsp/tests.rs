//! Answers that are no answers. Real ones, by openssl, are in the security tests.

use rcgen::{CertificateParams, CustomExtension, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;

use super::{OcspError, Subject};

/// SEQUENCE { SEQUENCE { id-ad-ocsp, [6] "http://x" } }.
const RESPONDER: [u8; 24] = [
    0x30, 22, 0x30, 20, 0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, 8, b'h', b't', b't', b'p', b':', b'/',
    b'/', b'x',
];

fn chain(with_responder: bool) -> Vec<CertificateDer<'static>> {
    let (issuer_key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut issuer = CertificateParams::new(Vec::new()).unwrap();
    issuer
        .distinguished_name
        .push(rcgen::DnType::CommonName, "issuer");
    let issuer_certificate = issuer.self_signed(&issuer_key).unwrap();
    let mut leaf = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    if with_responder {
        let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], RESPONDER.to_vec());
        leaf.custom_extensions.push(extension);
    }
    let leaf = leaf
        .signed_by(&leaf_key, &Issuer::new(issuer, issuer_key))
        .unwrap();
    vec![leaf.der().clone(), issuer_certificate.der().clone()]
}

#[test]
fn who_can_be_asked_about() {
    let chain = self::chain(true);
    assert_eq!(Subject::of(&chain).unwrap().responder, "http://x");
    assert_eq!(Subject::of(&chain[..1]).unwrap_err(), OcspError::NoIssuer);
    assert_eq!(
        Subject::of(&self::chain(false)).unwrap_err(),
        OcspError::NoResponder
    );
    let (other, mut mixed) = (self::chain(true), chain);
    mixed[1] = other[0].clone();
    assert_eq!(Subject::of(&mixed).unwrap_err(), OcspError::NoIssuer);
}

#[test]
fn garbage_is_refused_and_refusals_are_named() {
    let subject = Subject::of(&chain(true)).unwrap();
    for bytes in [
        &b""[..],
        b"<html>",
        &[0x30],
        &[0x30, 0x80, 0, 0],
        &[0x30, 3, 0x0a, 1, 99],
    ] {
        assert!(
            matches!(subject.verify(bytes, 0), Err(OcspError::Malformed(_))),
            "{bytes:?}"
        );
    }
    assert_eq!(
        subject.verify(&[0x30, 3, 0x0a, 1, 3], 0),
        Err(OcspError::NoAnswer(3)),
        "try later"
    );
    assert_eq!(
        subject.verify(&[0x30, 3, 0x0a, 1, 0], 0),
        Err(OcspError::NoAnswer(0)),
        "no bytes"
    );
}
