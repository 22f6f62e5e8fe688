use std::time::Duration;

use pomerium_config::settings::{AutocertDns, AutocertStorage};

use super::{Site, assert_problem, base64, certificate, load};

const ROUTES: &str = "authenticate_service_url: https://Auth.example.com\nroutes:\n\
    - {from: 'https://B.example.com:8443', to: 'http://a', allow_public_unauthenticated_access: true}\n\
    - {from: 'https://a.example.com', to: 'http://a', allow_public_unauthenticated_access: true}\n\
    - {from: 'https://a.example.com', prefix: /x, to: 'http://a', allow_public_unauthenticated_access: true}\n\
    - {from: 'tcp+https://db.example.com:5432', to: 'tcp://a:1', allow_public_unauthenticated_access: true}\n\
    - {from: 'http://plain.example.com', to: 'http://a', allow_public_unauthenticated_access: true}\n\
    - {from: 'https://*.example.org', to: 'http://a', allow_public_unauthenticated_access: true}\n\
    - {from: 'https://a-*.example.org', to: 'http://a', allow_public_unauthenticated_access: true}\n\
    - {from: 'https://192.0.2.1', to: 'http://a', allow_public_unauthenticated_access: true}\n";

#[test]
fn names_and_defaults() {
    let site = Site::new();
    let found = site.load(&format!("autocert: true\n{ROUTES}"));
    let autocert = found.settings().autocert.as_ref().unwrap();
    assert_eq!(
        autocert.directory,
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    assert_eq!(
        autocert.storage,
        AutocertStorage::Folder(site.path("data/autocert"))
    );
    let names = [
        "a.example.com",
        "auth.example.com",
        "b.example.com",
        "db.example.com",
    ];
    assert_eq!(autocert.names, names);
    assert!(autocert.eab.is_none() && autocert.trusted_ca.is_none() && autocert.dns.is_none());
    assert!(!autocert.must_staple && !autocert.http_challenge && autocert.email.is_empty());
    assert!(found.warned("no certificate for *.example.org: patterns need `autocert_dns`"));
    assert!(found.warned("no certificate for 192.0.2.1: it is an address"));
    assert!(
        load(ROUTES).settings().autocert.is_none(),
        "off unless switched on"
    );
}

#[test]
fn patterns_come_with_dns_challenges() {
    let dns = "autocert: true\nautocert_dns: {provider: rfc2136, server: ns.example.com}\n";
    let found = load(&format!("{dns}{ROUTES}"));
    let names = &found.settings().autocert.as_ref().unwrap().names;
    assert!(names.contains(&"*.example.org".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("a-*")));
    assert!(found.warned("certificates know patterns of the form"));
}

#[test]
fn the_hosted_service_gets_no_certificate() {
    let found = load("autocert: true\nauthenticate_service_url: https://authenticate.pomerium.app\n");
    assert!(found.settings().autocert.as_ref().unwrap().names.is_empty());
}

#[test]
fn every_key() {
    let site = Site::new();
    let (ca, _) = certificate();
    let file = site.write("ca.pem", &ca);
    let found = site.load(&format!(
        "autocert: true\nautocert_ca: https://ca.example.com/dir\nautocert_use_staging: true\n\
         autocert_email: ops@example.com\nautocert_eab_key_id: kid\nautocert_eab_mac_key: AQID\n\
         autocert_must_staple: true\nautocert_dir: s3://key:secret@minio:9000/bucket/prefix\n\
         autocert_trusted_ca_file: {file}\nhttp_redirect_addr: ':5002'\n"
    ));
    let autocert = found.settings().autocert.as_ref().unwrap();
    assert_eq!(
        autocert.directory, "https://ca.example.com/dir",
        "an own CA wins over staging"
    );
    assert_eq!(autocert.email, "ops@example.com");
    let (id, mac) = autocert.eab.as_ref().unwrap();
    assert_eq!((id.as_str(), mac.expose()), ("kid", &[1, 2, 3][..]));
    assert!(autocert.must_staple);
    assert!(
        matches!(&autocert.storage, AutocertStorage::Object(url) if url.expose().starts_with(b"s3://key"))
    );
    assert_eq!(autocert.trusted_ca.as_deref(), Some(ca.as_bytes()));
    assert!(autocert.http_challenge, "an own CA may ask on another port");
    assert!(!format!("{autocert:?}").contains("key:secret"));
    assert!(found.settings().watched_files.contains(&file.into()));
    let staging = load(
        "autocert: true\nautocert_use_staging: true\nhttp_redirect_addr: ':80'\nautocert_dir: /var/lib/acme\n",
    );
    let staging = staging.settings().autocert.as_ref().unwrap();
    assert_eq!(
        staging.directory,
        "https://acme-staging-v02.api.letsencrypt.org/directory"
    );
    assert_eq!(staging.storage, AutocertStorage::Folder("/var/lib/acme".into()));
    assert!(staging.http_challenge);
    let other_port = load("autocert: true\nhttp_redirect_addr: ':8080'\n");
    assert!(!other_port.settings().autocert.as_ref().unwrap().http_challenge);
}

#[test]
fn replicas_share_certificates_in_the_databroker() {
    let storage = |config: &str| {
        let found = load(&format!("autocert: true\n{config}"));
        found.settings().autocert.as_ref().unwrap().storage.clone()
    };
    assert_eq!(
        storage("autocert_storage: databroker\n"),
        AutocertStorage::Databroker
    );
    assert!(matches!(
        storage("autocert_storage: folder\n"),
        AutocertStorage::Folder(_)
    ));
    assert!(
        matches!(storage(""), AutocertStorage::Folder(_)),
        "one process, its own store"
    );
    let folder = "autocert: true\nautocert_dir: /var/lib/acme\n";
    let two = format!("{folder}autocert_storage: databroker\n");
    assert_problem(&two, &["certificates are kept in one place"]);
}

#[test]
fn staging_leaves_out_strict_transport_security() {
    let site = Site::new();
    let (cert, key) = certificate();
    let (cert, key) = (site.write("c.pem", &cert), site.write("k.pem", &key));
    let pair = format!("certificate_file: {cert}\ncertificate_key_file: {key}\n");
    let hsts = |config: &str| {
        let headers = site.load(config).settings().response_headers.clone();
        headers
            .iter()
            .any(|(name, _)| name == "Strict-Transport-Security")
    };
    assert!(hsts(&pair));
    assert!(!hsts(&format!("{pair}autocert_use_staging: true\n")));
    assert!(!hsts("autocert: true\n"), "autocert alone does not enable it");
}

#[test]
fn what_is_wrong_is_told_also_while_it_is_off() {
    assert_problem(
        "autocert_eab_key_id: a\n",
        &["Autocert EAB MAC Key required when Key ID is provided"],
    );
    assert_problem(
        "autocert_eab_mac_key: AQID\n",
        &["Autocert EAB Key ID required when MAC Key is provided"],
    );
    assert_problem(
        "autocert_eab_key_id: a\nautocert_eab_mac_key: '+/='\n",
        &["decoding base64-urlencoded MAC Key"],
    );
    assert_problem(
        "autocert_trusted_ca: a\nautocert_trusted_ca_file: b\n",
        &["providing both Autocert Trusted CA"],
    );
    assert_problem(
        "autocert_trusted_ca: QUFB\n",
        &["bad trusted certificate: no certificate found"],
    );
    assert_problem(
        "autocert_trusted_ca_file: /no/ca\n",
        &["bad trusted certificate (bundle) file: /no/ca"],
    );
    assert_problem("autocert_ca: http://ca.example.com\n", &["is no https URL"]);
    assert_problem(
        "autocert_dir: azblob://bucket\n",
        &["\"azblob://\" is no storage", "s3://"],
    );
}

#[test]
fn dns_by_update() {
    let site = Site::new();
    let secret = site.write("tsig", &format!("{}\n", base64("key")));
    let found = site.load(&format!(
        "autocert: true\nautocert_dns: {{provider: rfc2136, server: '192.0.2.53', zone: Example.com., \
         key_name: acme., algorithm: HMAC-SHA512, secret_file: {secret}, ttl: 30s, propagation: 10s}}\n"
    ));
    let Some(AutocertDns::Rfc2136 {
        server,
        zone,
        key_name,
        algorithm,
        secret: key,
        ttl,
        propagation,
    }) = found.settings().autocert.as_ref().unwrap().dns.clone()
    else {
        panic!()
    };
    assert_eq!(
        (server.as_str(), zone.as_deref()),
        ("192.0.2.53:53", Some("example.com"))
    );
    assert_eq!(
        (key_name.as_deref(), algorithm.as_str()),
        (Some("acme"), "hmac-sha512")
    );
    assert_eq!(key.unwrap().expose(), b"key");
    assert_eq!(
        (ttl, propagation),
        (Duration::from_secs(30), Duration::from_secs(10))
    );
    assert!(found.settings().watched_files.contains(&secret.into()));
    let env = r#"{"provider": "rfc2136", "server": "ns:5353"}"#;
    let found = site.load_with("autocert: true\n", &[("AUTOCERT_DNS", env)]);
    let dns = found.settings().autocert.as_ref().unwrap().dns.clone();
    let Some(AutocertDns::Rfc2136 {
        server,
        key_name: None,
        secret: None,
        algorithm,
        ..
    }) = dns
    else {
        panic!()
    };
    assert_eq!((server.as_str(), algorithm.as_str()), ("ns:5353", "hmac-sha256"));
}

#[test]
fn dns_by_a_program() {
    let found = load(
        "autocert: true\nautocert_dns: {provider: exec, program: /bin/true, args: [a, b], timeout: 5s, propagation: 1s}\n",
    );
    let wanted = AutocertDns::Exec {
        program: "/bin/true".into(),
        args: vec!["a".into(), "b".into()],
        timeout: Duration::from_secs(5),
        propagation: Duration::from_secs(1),
    };
    assert_eq!(found.settings().autocert.as_ref().unwrap().dns, Some(wanted));
}

#[test]
fn dns_that_is_wrong() {
    let with = |text: &str| format!("autocert_dns: {{{text}}}\n");
    assert_problem(&with("server: a"), &["`provider` is missing", "rfc2136, exec"]);
    assert_problem(&with("provider: route53"), &["unknown provider \"route53\""]);
    assert_problem(&with("provider: rfc2136"), &["is no address of a server"]);
    assert_problem(
        &with("provider: rfc2136, server: 'a:dns'"),
        &["is no address of a server"],
    );
    assert_problem(
        &with("provider: rfc2136, server: a, key_name: k"),
        &["are both needed, or neither"],
    );
    assert_problem(
        &with("provider: rfc2136, server: a, key_name: k, secret: '*'"),
        &["autocert_dns.secret: "],
    );
    assert_problem(
        &with("provider: rfc2136, server: a, key_name: k, secret_file: /no"),
        &["autocert_dns.secret_file: /no"],
    );
    assert_problem(
        &with("provider: rfc2136, server: a, algorithm: hmac-md5"),
        &["unknown algorithm \"hmac-md5\""],
    );
    assert_problem(
        &with("provider: rfc2136, server: a, program: /bin/true"),
        &["belongs to `provider: exec`"],
    );
    assert_problem(&with("provider: exec, program: hook.sh"), &["absolute path"]);
    assert_problem(
        &with("provider: exec, program: /no/such/hook"),
        &["/no/such/hook: No such file"],
    );
    assert_problem(
        &with("provider: exec, program: /etc/passwd"),
        &["/etc/passwd: Permission denied"],
    );
    assert_problem(
        &with("provider: exec, program: /bin/true, zone: a"),
        &["belongs to `provider: rfc2136`"],
    );
    assert_problem(
        &with("provider: exec, program: /bin/true, timeout: 0s"),
        &["must be more than zero"],
    );
}
