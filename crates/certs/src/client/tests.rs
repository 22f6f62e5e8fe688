//! Chains of every kind against the rules, one flaw at a time.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

fn at(unix: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix).unwrap()
}

struct Ca {
    der: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = at(NOW - 30 * DAY);
    params.not_after = at(NOW + 30 * DAY);
    params
}

impl Ca {
    fn root(name: &str) -> Self {
        Self::with(ca_params(name))
    }

    fn with(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn below(&self, name: &str) -> Self {
        let (params, key) = (ca_params(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let params = leaf_params(change);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }

    fn anchors(&self) -> Anchors {
        Anchors::read("downstream_mtls.ca", self.pem.as_bytes()).unwrap()
    }

    fn crl(&self, serials: &[u64], from: i64, until: i64) -> String {
        let params = CertificateRevocationListParams {
            this_update: at(from),
            next_update: at(until),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: at(NOW - DAY),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn leaf_params(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a, client");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Example");
    params.not_before = at(NOW - DAY);
    params.not_after = at(NOW + DAY);
    params.serial_number = Some(SerialNumber::from(7));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::Rfc822Name("user@example.com".try_into().unwrap())];
    change(&mut params);
    params
}

fn rules(crl: &str, names: &[(NameKind, &str)], depth: u32, dates: bool) -> Arc<Rules> {
    let names: Vec<_> = names
        .iter()
        .map(|(kind, pattern)| (*kind, (*pattern).to_owned()))
        .collect();
    let lists = RevocationLists::read(crl.as_bytes()).unwrap();
    Arc::new(Rules::new(lists, &names, depth, dates).unwrap())
}

fn plain() -> Arc<Rules> {
    rules("", &[], 1, false)
}

fn chain(certificates: &[&CertificateDer<'static>]) -> ClientChain {
    let certificates: Vec<_> = certificates.iter().map(|der| (*der).clone()).collect();
    ClientChain::new(&certificates).unwrap()
}

fn judge(trust: &ClientTrust, certificates: &[&CertificateDer<'static>]) -> Verdict {
    trust.verify(&chain(certificates), NOW)
}

fn flaw(trust: &ClientTrust, certificates: &[&CertificateDer<'static>]) -> Flaw {
    match judge(trust, certificates) {
        Verdict::Invalid(flaw) => flaw,
        Verdict::Valid => panic!("valid"),
    }
}

#[test]
fn one_flaw_at_a_time() {
    let (ca, other) = (Ca::root("one"), Ca::root("two"));
    let trust = ClientTrust::new(ca.anchors(), plain());
    assert_eq!(judge(&trust, &[&ca.leaf(|_| {})]), Verdict::Valid);
    assert_eq!(flaw(&trust, &[&other.leaf(|_| {})]), Flaw::UnknownAuthority);
    let expired = ca.leaf(|params| params.not_after = at(NOW - 1));
    assert_eq!(flaw(&trust, &[&expired]), Flaw::Expired);
    let early = ca.leaf(|params| params.not_before = at(NOW + 1));
    assert_eq!(flaw(&trust, &[&early]), Flaw::NotYetValid);
    let server = ca.leaf(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(flaw(&trust, &[&server]), Flaw::Purpose);
    for usages in [vec![], vec![ExtendedKeyUsagePurpose::Any]] {
        let leaf = ca.leaf(|params| params.extended_key_usages = usages);
        assert_eq!(judge(&trust, &[&leaf]), Verdict::Valid);
    }
    let garbage = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
    assert_eq!(flaw(&trust, &[&garbage]), Flaw::Unreadable);
    // Another authority of the same name.
    let namesake = Ca::root("one");
    assert_ne!(judge(&trust, &[&namesake.leaf(|_| {})]), Verdict::Valid);
}

#[test]
fn depth_counts_what_stands_between() {
    let root = Ca::root("root");
    let middle = root.below("middle");
    let low = middle.below("low");
    let (direct, second, third) = (root.leaf(|_| {}), middle.leaf(|_| {}), low.leaf(|_| {}));
    for (depth, expected) in [
        (1, [true, false, false]),
        (2, [true, true, false]),
        (3, [true; 3]),
        (0, [true; 3]),
    ] {
        let trust = ClientTrust::new(root.anchors(), rules("", &[], depth, false));
        let found = [
            judge(&trust, &[&direct]),
            judge(&trust, &[&second, &middle.der]),
            judge(&trust, &[&third, &low.der, &middle.der]),
        ];
        assert_eq!(
            found.map(|verdict| verdict == Verdict::Valid),
            expected,
            "{depth}"
        );
        assert!(
            !found.contains(&Verdict::Invalid(Flaw::UnknownAuthority)),
            "{depth}"
        );
        assert_eq!(
            flaw(&trust, &[&second]),
            Flaw::UnknownAuthority,
            "the client has to send what is between"
        );
    }
    // An intermediate may be the anchor, whether or not the client sends it along.
    let trust = ClientTrust::new(middle.anchors(), plain());
    assert_eq!(judge(&trust, &[&second]), Verdict::Valid);
    assert_eq!(judge(&trust, &[&second, &middle.der]), Verdict::Valid);
    assert_eq!(flaw(&trust, &[&direct]), Flaw::UnknownAuthority);
}

#[test]
fn authorities_end_too() {
    let mut params = ca_params("old");
    params.not_after = at(NOW - 1);
    let old = Ca::with(params);
    let trust = ClientTrust::new(old.anchors(), plain());
    assert_eq!(flaw(&trust, &[&old.leaf(|_| {})]), Flaw::Expired);
}

#[test]
fn a_certificate_in_the_bundle_needs_no_issuer() {
    let params = leaf_params(|_| {});
    let own = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let anchors = Anchors::read("ca", own.pem().as_bytes()).unwrap();
    let trust = ClientTrust::new(anchors.clone(), plain());
    assert_eq!(judge(&trust, &[own.der()]), Verdict::Valid);
    assert_eq!(
        trust.verify(&chain(&[own.der()]), NOW + DAY + 1),
        Verdict::Invalid(Flaw::Expired)
    );
    let named = ClientTrust::new(anchors, rules("", &[(NameKind::Dns, ".*")], 1, false));
    assert_eq!(flaw(&named, &[own.der()]), Flaw::Name);
}

#[test]
fn one_name_has_to_match_whole() {
    let ca = Ca::root("one");
    let upn = CustomExtension::from_oid_content(&[2, 5, 29, 17], {
        // SEQUENCE { [0] { OID 1.3.6.1.4.1.311.20.2.3, [0] { UTF8String "u@corp" } } }
        let mut name = vec![0x06, 0x0a, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3];
        name.extend([0xa0, 8, 0x0c, 6]);
        name.extend(b"u@corp");
        let mut out = vec![
            0x30,
            u8::try_from(name.len() + 2).unwrap(),
            0xa0,
            u8::try_from(name.len()).unwrap(),
        ];
        out.extend(name);
        out
    });
    let many = ca.leaf(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName("host.example.com".try_into().unwrap()),
            SanType::Rfc822Name("user@example.com".try_into().unwrap()),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::URI("spiffe://example.com/a".try_into().unwrap()),
        ];
    });
    let other = ca.leaf(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(upn);
    });
    let verdict = |names: &[(NameKind, &str)], leaf| {
        judge(
            &ClientTrust::new(ca.anchors(), rules("", names, 1, false)),
            &[leaf],
        )
    };
    for names in [
        vec![(NameKind::Dns, r"host\.example\.com")],
        vec![(NameKind::Email, r".*@example\.com")],
        vec![(NameKind::IpAddress, r"192\.0\.2\.\d+")],
        vec![(NameKind::Uri, r"spiffe://example\.com/.*")],
        vec![
            (NameKind::Dns, "nope"),
            (NameKind::Dns, "also"),
            (NameKind::Email, "user@.*"),
        ],
    ] {
        assert_eq!(verdict(&names, &many), Verdict::Valid, "{names:?}");
    }
    for names in [
        vec![(NameKind::Dns, r"host\.example")],
        vec![(NameKind::Dns, r"example\.com")],
        vec![(NameKind::Email, r"host\.example\.com")],
        vec![
            (NameKind::Dns, "host"),
            (NameKind::Dns, "example"),
            (NameKind::Dns, "com"),
        ],
        vec![(NameKind::UserPrincipalName, ".*")],
    ] {
        assert_eq!(verdict(&names, &many), Verdict::Invalid(Flaw::Name), "{names:?}");
    }
    assert_eq!(
        verdict(&[(NameKind::UserPrincipalName, "u@corp")], &other),
        Verdict::Valid
    );
    assert_eq!(
        verdict(&[(NameKind::UserPrincipalName, "u@cor")], &other),
        Verdict::Invalid(Flaw::Name)
    );
    let broken = [(NameKind::Dns, "a)|(b".to_owned())];
    assert!(Rules::new(RevocationLists::default(), &broken, 1, false).is_err());
}

#[test]
fn revoked_by_the_list_of_the_issuer_only() {
    let (ca, other) = (Ca::root("one"), Ca::root("two"));
    let (kept, revoked) = (
        ca.leaf(|params| params.serial_number = Some(SerialNumber::from(8))),
        ca.leaf(|_| {}),
    );
    let lists = format!(
        "{}\n{}",
        ca.crl(&[7], NOW - DAY, NOW + DAY),
        other.crl(&[8], NOW - DAY, NOW + DAY)
    );
    for dates in [false, true] {
        let trust = ClientTrust::new(ca.anchors(), rules(&lists, &[], 1, dates));
        assert_eq!(judge(&trust, &[&kept]), Verdict::Valid);
        assert_eq!(flaw(&trust, &[&revoked]), Flaw::Revoked);
    }
    // Lists are about leaves: a revoked intermediate is for the authority that trusts it to see to.
    let middle = ca.below("middle");
    let below = middle.leaf(|_| {});
    let trust = ClientTrust::new(ca.anchors(), rules(&lists, &[], 2, false));
    assert_eq!(judge(&trust, &[&below, &middle.der]), Verdict::Valid);
    let lists = middle.crl(&[7], NOW - DAY, NOW + DAY);
    let trust = ClientTrust::new(ca.anchors(), rules(&lists, &[], 2, false));
    assert_eq!(
        flaw(&trust, &[&below, &middle.der]),
        Flaw::Revoked,
        "an intermediate has a list of its own"
    );
}

#[test]
fn a_list_that_is_not_current_invalidates_everything_where_dates_count() {
    let ca = Ca::root("one");
    let leaf = ca.leaf(|params| params.serial_number = Some(SerialNumber::from(8)));
    for (from, until) in [(NOW - 2 * DAY, NOW - DAY), (NOW + DAY, NOW + 2 * DAY)] {
        let list = ca.crl(&[7], from, until);
        let lenient = ClientTrust::new(ca.anchors(), rules(&list, &[], 1, false));
        assert_eq!(judge(&lenient, &[&leaf]), Verdict::Valid);
        let strict = ClientTrust::new(ca.anchors(), rules(&list, &[], 1, true));
        assert_eq!(flaw(&strict, &[&leaf]), Flaw::ListOutdated);
    }
}

#[test]
fn lists_have_to_be_signed_by_whom_they_name() {
    let (ca, namesake, stranger) = (Ca::root("one"), Ca::root("one"), Ca::root("two"));
    let check = |pem: &str| {
        RevocationLists::read(pem.as_bytes())
            .unwrap()
            .check(&ca.anchors())
    };
    assert_eq!(check(&ca.crl(&[], NOW - DAY, NOW + DAY)), Ok(vec![]));
    assert_eq!(
        check(&stranger.crl(&[], NOW - DAY, NOW + DAY)),
        Ok(vec!["CN=two".to_owned()])
    );
    let forged = namesake.crl(&[], NOW - DAY, NOW + DAY);
    let error = check(&forged).unwrap_err();
    assert!(
        error.to_string().contains("the list of CN=one is not signed"),
        "{error}"
    );
    // Should it come this far, nothing that authority issued is valid.
    let trust = ClientTrust::new(ca.anchors(), rules(&forged, &[], 1, false));
    assert_eq!(flaw(&trust, &[&ca.leaf(|_| {})]), Flaw::ListForged);
}

#[test]
fn bundles_count_whole_or_not_at_all() {
    let ca = Ca::root("one");
    let crl = ca.crl(&[], NOW - DAY, NOW + DAY);
    for bad in [
        format!("{crl}\nnot PEM"),
        "garbage".to_owned(),
        format!("{crl}{}", ca.pem),
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned(),
        crl.replace("-----END X509 CRL-----\n", ""),
    ] {
        assert!(RevocationLists::read(bad.as_bytes()).is_err(), "{bad}");
    }
    for bad in [
        String::new(),
        "garbage".to_owned(),
        crl,
        format!(
            "{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ca.pem
        ),
    ] {
        assert!(Anchors::read("ca", bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Everything a verdict depends on is part of what it is remembered under.
#[test]
fn a_remembered_verdict_ends_with_what_it_depends_on() {
    let ca = Ca::root("one");
    let middle = ca.below("middle");
    let leaf = middle.leaf(|_| {});
    let trust = ClientTrust::new(ca.anchors(), rules("", &[], 2, false));
    let whole = chain(&[&leaf, &middle.der]);
    assert_eq!(trust.verify(&whole, NOW), Verdict::Valid);
    assert_eq!(trust.verify(&whole, NOW + DAY), Verdict::Valid, "the last second");
    assert_eq!(
        trust.verify(&whole, NOW + DAY + 1),
        Verdict::Invalid(Flaw::Expired),
        "time goes on"
    );
    assert_eq!(
        trust.verify(&whole, NOW - DAY - 1),
        Verdict::Invalid(Flaw::NotYetValid)
    );
    assert_eq!(
        trust.verify(&chain(&[&leaf]), NOW),
        Verdict::Invalid(Flaw::UnknownAuthority),
        "the rest of the chain counts"
    );
    let list = middle.crl(&[7], NOW - DAY, NOW + DAY);
    let ids: std::collections::HashSet<_> = [
        plain(),
        rules("", &[], 2, false),
        rules("", &[], 1, true),
        rules("", &[(NameKind::Dns, "a")], 1, false),
        rules("", &[(NameKind::Uri, "a")], 1, false),
        rules(&list, &[], 1, false),
    ]
    .into_iter()
    .flat_map(|rules| {
        [
            ca.anchors(),
            middle.anchors(),
            ca.anchors().union(&middle.anchors()),
        ]
        .map(|anchors| *ClientTrust::new(anchors, Arc::clone(&rules)).id())
    })
    .collect();
    assert_eq!(ids.len(), 18);
}

#[test]
fn sets_of_authorities() {
    let (one, two) = (Ca::root("one").anchors(), Ca::root("two").anchors());
    let both = one.union(&two);
    assert!(both.contain(&one) && both.contain(&two) && both.contain(&both));
    assert!(!one.contain(&two) && !one.contain(&both));
    assert_eq!(both.union(&one).trusted.len(), 2, "each once");
    assert_eq!(both.hints().len(), 2);
}

#[test]
fn names_for_logs() {
    let leaf = Ca::root("one").leaf(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName("a.example.com".try_into().unwrap()),
            SanType::URI("urn:b".try_into().unwrap()),
        ];
    });
    assert_eq!(
        chain(&[&leaf]).names(),
        CertificateNames {
            issuer: "CN=one".into(),
            subject: r"O=Example,CN=a\, client".into(),
            alternatives: vec!["DNS:a.example.com".into(), "URI:urn:b".into()],
        }
    );
}
