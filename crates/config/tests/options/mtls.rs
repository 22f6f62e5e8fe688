use pomerium_config::settings::{Enforcement, SanKind};

use super::{Site, assert_problem, base64, certificate, load, routed};

#[test]
fn every_key_of_downstream_mtls() {
    let site = Site::new();
    let (ca, _) = certificate();
    let file = site.write("ca.pem", &ca);
    let crl = site.write("crl.pem", &crl());
    let found = site.load(&format!(
        "downstream_mtls:\n  ca_file: {file}\n  crl_file: {crl}\n  enforcement: REJECT_CONNECTION\n  \
         match_subject_alt_names: [{{dns: '.*\\.example\\.com'}}, {{user_principal_name: a}}]\n  max_verify_depth: 0\n"
    ));
    let mtls = found.settings().downstream_mtls.as_ref().unwrap();
    assert_eq!(mtls.ca.as_deref(), Some(ca.as_bytes()));
    assert!(mtls.crl.as_ref().unwrap().starts_with(b"-----BEGIN X509 CRL"));
    assert_eq!(mtls.enforcement, Enforcement::RejectConnection);
    assert_eq!(mtls.san.len(), 2);
    assert_eq!(
        (mtls.san[0].kind, mtls.san[0].pattern.as_str()),
        (SanKind::Dns, r".*\.example\.com")
    );
    assert_eq!(mtls.san[1].kind, SanKind::UserPrincipalName);
    assert_eq!(mtls.max_verify_depth, 0);
    for file in [file, crl] {
        assert!(found.settings().watched_files.contains(&file.into()));
    }
}

#[test]
fn defaults_and_the_environment() {
    let (ca, _) = certificate();
    let found = Site::new().load_with("{}\n", &[("DOWNSTREAM_MTLS_CA", &base64(&ca))]);
    let mtls = found.settings().downstream_mtls.as_ref().unwrap();
    assert_eq!(mtls.enforcement, Enforcement::PolicyWithDefaultDeny);
    assert_eq!(mtls.max_verify_depth, 1);
    assert!(mtls.crl.is_none() && mtls.san.is_empty());
    assert!(load("{}\n").settings().downstream_mtls.is_none());
    assert!(load("downstream_mtls: {}\n").settings().downstream_mtls.is_none());
    let unknown = load("downstream_mtls: {enforcement: unknown, max_verify_depth: 2}\n");
    let unknown = unknown.settings().downstream_mtls.clone().unwrap();
    assert_eq!(
        (unknown.enforcement, unknown.ca),
        (Enforcement::PolicyWithDefaultDeny, None)
    );
}

#[test]
fn what_cannot_be_used_never_opens() {
    assert_problem(
        "downstream_mtls:\n  ca_file: /no/such/ca.pem\n",
        &[
            "config.yaml:2:12: downstream_mtls.ca_file: config: bad downstream mTLS settings: CA file: /no/such/ca.pem",
        ],
    );
    assert_problem(
        "downstream_mtls: {ca: QUFB}\n",
        &["mTLS settings: CA: no certificate found"],
    );
    assert_problem(
        "downstream_mtls: {ca: '*'}\n",
        &["mTLS settings: CA: ", "help: PEM is expected"],
    );
    let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_problem(
        &format!("downstream_mtls: {{ca: {}}}\n", base64(block)),
        &["CA: a PEM block is no X.509 certificate"],
    );
    assert_problem(
        "downstream_mtls: {crl: QUFB}\n",
        &["CRL: trailing data that is not PEM"],
    );
    let (certificate, _) = certificate();
    assert_problem(
        &format!("downstream_mtls: {{crl: {}}}\n", base64(&certificate)),
        &["CRL: a block is no X.509 revocation list"],
    );
    assert_problem(
        "downstream_mtls: {crl: a, crl_file: b}\n",
        &["cannot set both crl and crl_file"],
    );
    assert_problem(
        "downstream_mtls: {enforcement: maybe}\n",
        &["unsupported enum value maybe"],
    );
    assert_problem("downstream_mtls: {max_verify_depth: -1}\n", &["out of range"]);
}

#[test]
fn patterns_of_names_must_compile_and_have_a_type() {
    let with = |item: &str| format!("downstream_mtls:\n  match_subject_alt_names: [{item}]\n");
    assert_problem(
        &with("{dns: '('}"),
        &["couldn't parse pattern \"(\"", "config.yaml:2:29"],
    );
    // Right alone, but not as the whole that is used.
    assert_problem(&with("{dns: 'a)|(b'}"), &["couldn't parse pattern"]);
    assert_problem(
        &with("{phone: a}"),
        &["unknown SAN type: phone", "types are dns, email"],
    );
    assert_problem(&with("{dns: a, email: b}"), &["unsupported SAN matcher format"]);
    assert_problem(&with("{dns: 5}"), &["unsupported SAN matcher format"]);
}

#[test]
fn a_route_may_have_a_ca_of_its_own() {
    let site = Site::new();
    let (inline, _) = certificate();
    let (other, _) = certificate();
    let file = site.write("ca.pem", &other);
    let found = site.load(&routed(&format!("tls_downstream_client_ca: {}", base64(&inline))));
    assert_eq!(found.route().downstream_ca.as_deref(), Some(inline.as_bytes()));
    let both = format!(
        "tls_downstream_client_ca: {}\ntls_downstream_client_ca_file: {file}",
        base64(&inline)
    );
    let found = site.load(&routed(&both));
    assert_eq!(
        found.route().downstream_ca.as_deref(),
        Some(other.as_bytes()),
        "the file wins"
    );
    assert!(found.settings().watched_files.contains(&file.into()));
    assert_problem(
        &routed("tls_downstream_client_ca_file: /no/ca.pem"),
        &[
            "config.yaml:5:34: routes[0].tls_downstream_client_ca_file: config: couldn't load downstream client ca: /no/ca.pem",
        ],
    );
    assert_problem(
        &routed("tls_downstream_client_ca: QUFB"),
        &["couldn't decode downstream client ca: no certificate"],
    );
}

/// A revocation list of a CA made for it.
fn crl() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let issuer = rcgen::Issuer::new(ca, key);
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2027, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().pem().unwrap()
}

/// Which routes deny without a valid certificate, whatever their own policy says.
#[test]
fn the_default_denies_as_soon_as_there_is_an_authority() {
    let (ca, _) = certificate();
    let ca = base64(&ca);
    let guarded = |config: &str| {
        let found = load(config);
        found
            .settings()
            .routes
            .iter()
            .map(|route| route.policy.needs_certificate())
            .collect::<Vec<_>>()
    };
    let one = routed("");
    let other =
        "- from: https://b.example.com\n  to: http://10.0.0.1\n  allow_public_unauthenticated_access: true\n";
    assert_eq!(guarded(&one), [false]);
    for (mtls, expected) in [
        (format!("downstream_mtls: {{ca: {ca}}}\n"), true),
        (
            format!("downstream_mtls: {{ca: {ca}, enforcement: reject_connection}}\n"),
            true,
        ),
        (
            format!("downstream_mtls: {{ca: {ca}, enforcement: policy}}\n"),
            false,
        ),
        (
            "downstream_mtls: {enforcement: reject_connection}\n".to_owned(),
            false,
        ),
    ] {
        assert_eq!(guarded(&format!("{mtls}{one}")), [expected], "{mtls}");
    }
    let of_route = format!("{}{other}", routed(&format!("tls_downstream_client_ca: {ca}")));
    assert_eq!(guarded(&of_route), [true, true], "a CA on one route is enough");
    let named = "routes:\n- from: https://a.example.com\n  to: http://10.0.0.1\n  policy:\n  - deny:\n      or:\n      - invalid_client_certificate: true\n";
    assert_eq!(guarded(named), [true]);
}
