use super::{Site, assert_problem, base64, certificate};

#[test]
fn a_certificate_and_a_client_ca() {
    let site = Site::new();
    let (cert, key) = certificate();
    let (ca, _) = certificate();
    let address = "metrics_address: ':9090'\n";
    let found = site.load(&format!(
        "{address}metrics_certificate: {}\nmetrics_certificate_key: {}\nmetrics_client_ca: {}\n",
        base64(&cert),
        base64(&key),
        base64(&ca)
    ));
    let tls = found.settings().metrics.as_ref().unwrap().tls.as_ref().unwrap();
    assert_eq!(tls.certificate.chain, cert.as_bytes());
    assert_eq!(tls.certificate.key.expose(), key.as_bytes());
    assert_eq!(tls.client_ca.as_deref(), Some(ca.as_bytes()));
    let files = [
        site.write("c", &cert),
        site.write("k", &key),
        site.write("ca", &ca),
    ];
    let found = site.load(&format!(
        "{address}metrics_certificate_file: {}\nmetrics_certificate_key_file: {}\nmetrics_client_ca_file: {}\n",
        files[0], files[1], files[2]
    ));
    let tls = found.settings().metrics.as_ref().unwrap().tls.as_ref().unwrap();
    assert_eq!(tls.certificate.origin, files[0]);
    assert!(tls.client_ca.is_some());
    for file in files {
        assert!(found.settings().watched_files.contains(&file.into()));
    }
    assert!(
        site.load(address)
            .settings()
            .metrics
            .as_ref()
            .unwrap()
            .tls
            .is_none()
    );
}

#[test]
fn half_a_guard_is_no_guard() {
    let (cert, key) = certificate();
    let (_, other) = certificate();
    let (cert, key, other) = (base64(&cert), base64(&key), base64(&other));
    assert_problem(
        &format!("metrics_certificate: {cert}\n"),
        &["certificate and key are both needed"],
    );
    assert_problem(
        &format!("metrics_certificate_key: {key}\n"),
        &["certificate and key are both needed"],
    );
    assert_problem(
        &format!("metrics_certificate: {cert}\nmetrics_certificate_key: {other}\n"),
        &["config: bad metrics certificate"],
    );
    assert_problem(&format!("metrics_client_ca: {cert}\n"), &["over TLS only"]);
    let pair = format!("metrics_certificate: {cert}\nmetrics_certificate_key: {key}\n");
    assert_problem(
        &format!("{pair}metrics_client_ca: QUFB\n"),
        &["bad metrics client CA: no certificate"],
    );
    assert_problem(
        &format!("{pair}metrics_client_ca_file: /no/ca\n"),
        &["bad metrics client CA: /no/ca"],
    );
}
