//! Whole TLS handshakes in memory: what a client really gets.

use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{Alpn, CertStore, DerivedAuthority, LoadedCertificate, LocalAuthority, load_pair, server_config};

const NOW: i64 = 1_800_000_000;
const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

fn certificate(algorithm: &'static SignatureAlgorithm, names: &[&str]) -> LoadedCertificate {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    load_pair(
        "test",
        params.self_signed(&key).unwrap().pem().as_bytes(),
        key.serialize_pem().as_bytes(),
    )
    .unwrap()
}

fn catch_all() -> LoadedCertificate {
    DerivedAuthority::new(&[1; 32]).unwrap().catch_all().unwrap()
}

fn ecdsa(names: &[&str]) -> LoadedCertificate {
    certificate(&PKCS_ECDSA_P256_SHA256, names)
}

fn rsa(names: &[&str]) -> LoadedCertificate {
    certificate(&PKCS_RSA_SHA256, names)
}

/// Takes every certificate, but can check only some kinds of signature.
#[derive(Debug)]
struct Gullible(Vec<SignatureScheme>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

const ALL_SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
];

#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            NOW as u64,
        )))
    }
}

fn client(
    verifier: Arc<dyn ServerCertVerifier>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut config =
        ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), Arc::new(FixedTime))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// What a client knows after a handshake.
#[derive(Debug)]
struct Seen {
    certificate: CertificateDer<'static>,
    version: ProtocolVersion,
    alpn: Option<Vec<u8>>,
    suite: CipherSuite,
    kind: HandshakeKind,
}

fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> Result<Seen, Error> {
    let mut client = ClientConnection::new(client.clone(), name.to_owned().try_into().unwrap())?;
    let mut server = ServerConnection::new(server.clone())?;
    let mut wire = Vec::new();
    loop {
        let mut moved = 0;
        while client.wants_write() {
            moved += client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            moved += server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        wire.clear();
        if moved == 0 {
            break;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Seen {
        certificate: client.peer_certificates().unwrap()[0].clone(),
        version: client.protocol_version().unwrap(),
        alpn: client.alpn_protocol().map(<[u8]>::to_vec),
        suite: client.negotiated_cipher_suite().unwrap().suite(),
        kind: client.handshake_kind().unwrap(),
    })
}

fn server(certificates: Vec<LoadedCertificate>) -> Arc<ServerConfig> {
    Arc::new(server_config(Arc::new(CertStore::new(certificates)), Alpn::Auto).unwrap())
}

fn gets(server: &Arc<ServerConfig>, name: &str, schemes: &[SignatureScheme]) -> CertificateDer<'static> {
    let client = Arc::new(client(Arc::new(Gullible(schemes.to_vec())), BOTH));
    handshake(server, &client, name).unwrap().certificate
}

#[test]
fn exact_name_then_wildcard_then_first() {
    let (first, exact) = (
        ecdsa(&["first.example.com"]),
        ecdsa(&["a.example.com", "10.0.0.1"]),
    );
    let wildcard = ecdsa(&["*.example.com"]);
    let server = server(vec![first.clone(), wildcard.clone(), exact.clone()]);
    for (name, expected) in [
        ("a.example.com", &exact),
        ("A.EXAMPLE.com", &exact),
        ("b.example.com", &wildcard),
        ("first.example.com", &first),
        ("example.com", &first),
        ("x.b.example.com", &first),
        ("unknown.example.net", &first),
        ("localhost", &first),
        // An address is not sent as SNI.
        ("10.0.0.1", &first),
    ] {
        assert_eq!(gets(&server, name, &ALL_SCHEMES), expected.chain()[0], "{name}");
    }
}

#[test]
fn ecdsa_for_those_who_can_and_rsa_for_the_others() {
    let name = "a.example.com";
    let (other, rsa, ecdsa) = (ecdsa(&["other.example.com"]), rsa(&[name]), ecdsa(&[name]));
    for order in [[&other, &rsa, &ecdsa], [&other, &ecdsa, &rsa]] {
        let server = server(order.into_iter().cloned().collect());
        assert_eq!(gets(&server, name, &ALL_SCHEMES), ecdsa.chain()[0]);
        assert_eq!(gets(&server, name, &ALL_SCHEMES[1..]), rsa.chain()[0]);
        assert_eq!(
            gets(&server, "unknown.example.net", &ALL_SCHEMES),
            other.chain()[0]
        );
        assert_eq!(
            gets(&server, "unknown.example.net", &ALL_SCHEMES[1..]),
            rsa.chain()[0],
            "the first it can check"
        );
    }
}

#[test]
fn of_two_for_one_name_the_first_is_taken() {
    let (first, second) = (
        ecdsa(&["a.example.com"]),
        ecdsa(&["a.example.com", "b.example.com"]),
    );
    let server = server(vec![first.clone(), second.clone()]);
    assert_eq!(gets(&server, "a.example.com", &ALL_SCHEMES), first.chain()[0]);
    assert_eq!(gets(&server, "b.example.com", &ALL_SCHEMES), second.chain()[0]);
}

#[test]
fn a_certificate_nobody_can_check_is_still_refused_by_the_client() {
    let server = server(vec![ecdsa(&["a.example.com"])]);
    let client = Arc::new(client(Arc::new(Gullible(ALL_SCHEMES[1..].to_vec())), BOTH));
    assert!(handshake(&server, &client, "a.example.com").is_err());
}

#[test]
fn certificates_change_under_a_running_server() {
    let (old, new) = (ecdsa(&["a.example.com"]), ecdsa(&["a.example.com"]));
    let store = Arc::new(CertStore::new(vec![old.clone()]));
    let server = Arc::new(server_config(store.clone(), Alpn::Auto).unwrap());
    assert_eq!(gets(&server, "a.example.com", &ALL_SCHEMES), old.chain()[0]);
    store.swap(vec![new.clone()]);
    assert_eq!(gets(&server, "a.example.com", &ALL_SCHEMES), new.chain()[0]);
    assert_eq!(store.certificates().len(), 1);
    store.swap(Vec::new());
    assert!(store.choose(Some("a.example.com"), &ALL_SCHEMES).is_none());
}

#[test]
fn versions_suites_and_protocols() {
    let certificates = vec![catch_all()];
    let connect = |alpn, versions: &[&'static SupportedProtocolVersion], offered: &[&[u8]]| {
        let store = Arc::new(CertStore::new(certificates.clone()));
        let server = Arc::new(server_config(store, alpn).unwrap());
        let mut client = client(Arc::new(Gullible(ALL_SCHEMES.to_vec())), versions);
        client.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        handshake(&server, &Arc::new(client), "a.example.com")
    };
    let both: &[&[u8]] = &[b"http/1.1", b"h2"];
    let seen = connect(Alpn::Auto, BOTH, both).unwrap();
    assert_eq!(seen.version, ProtocolVersion::TLSv1_3);
    assert_eq!(
        seen.alpn.as_deref(),
        Some(&b"h2"[..]),
        "the server's order counts"
    );
    let seen = connect(Alpn::Auto, &[&TLS12], &[b"http/1.1"]).unwrap();
    assert_eq!(seen.version, ProtocolVersion::TLSv1_2);
    assert_eq!(seen.suite, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    assert_eq!(seen.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(
        connect(Alpn::Http1, BOTH, both).unwrap().alpn.as_deref(),
        Some(&b"http/1.1"[..])
    );
    assert_eq!(
        connect(Alpn::Http2, BOTH, both).unwrap().alpn.as_deref(),
        Some(&b"h2"[..])
    );
    assert_eq!(connect(Alpn::Http2, BOTH, &[]).unwrap().alpn, None);
    assert!(connect(Alpn::Http2, BOTH, &[b"http/1.1"]).is_err());
}

#[test]
fn the_servers_order_of_suites_counts() {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.reverse();
    let client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(ALL_SCHEMES.to_vec())))
        .with_no_client_auth();
    let seen = handshake(&server(vec![catch_all()]), &Arc::new(client), "a.example.com").unwrap();
    assert_eq!(seen.suite, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
}

/// Both versions come back with a ticket, and without the server keeping anything.
#[test]
fn sessions_are_resumed() {
    for version in [&TLS12, &TLS13] {
        let mut config = server_config(Arc::new(CertStore::new(vec![catch_all()])), Alpn::Auto).unwrap();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let server = Arc::new(config);
        let mut client = client(Arc::new(Gullible(ALL_SCHEMES.to_vec())), &[version]);
        client.resumption = Resumption::in_memory_sessions(8);
        let client = Arc::new(client);
        assert_eq!(
            handshake(&server, &client, "a.example.com").unwrap().kind,
            HandshakeKind::Full
        );
        assert_eq!(
            handshake(&server, &client, "a.example.com").unwrap().kind,
            HandshakeKind::Resumed
        );
    }
}

fn strict_client(ca_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    Arc::new(client(verifier, BOTH))
}

#[test]
fn services_trust_what_the_shared_secret_derives() {
    let theirs = DerivedAuthority::new(&[1; 32]).unwrap();
    let leaf = theirs
        .issue(
            "tls_derive",
            &["pomerium.internal".into(), "*.pomerium.internal".into()],
        )
        .unwrap();
    let server = server(vec![leaf]);
    let ours = strict_client(&DerivedAuthority::new(&[1; 32]).unwrap().ca_pem());
    assert!(handshake(&server, &ours, "pomerium.internal").is_ok());
    assert!(handshake(&server, &ours, "databroker.pomerium.internal").is_ok());
    assert!(handshake(&server, &ours, "a.example.com").is_err());
    let stranger = strict_client(&DerivedAuthority::new(&[2; 32]).unwrap().ca_pem());
    assert!(handshake(&server, &stranger, "pomerium.internal").is_err());
}

#[test]
fn the_local_authority_is_accepted_for_local_names() {
    let folder = tempfile::tempdir().unwrap();
    let authority = LocalAuthority::open_or_create(folder.path(), NOW).unwrap();
    let hosts = ["localhost", "verify.localhost", "127.0.0.1", "::1"].map(String::from);
    let server = server(vec![authority.issue(&hosts, NOW).unwrap()]);
    let client = strict_client(authority.ca_pem());
    for host in &hosts {
        assert!(handshake(&server, &client, host).is_ok(), "{host}");
    }
    assert!(handshake(&server, &client, "other.localhost").is_err());
}

/// A stolen key of the local authority opens no site of the world.
#[test]
fn the_local_authority_is_worthless_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let authority = LocalAuthority::open_or_create(folder.path(), NOW).unwrap();
    let client = strict_client(authority.ca_pem());
    let control = authority.issue_without_asking(&["localhost".to_owned()], NOW);
    assert!(handshake(&server(vec![control]), &client, "localhost").is_ok());
    for host in ["bank.example.com", "localhost.example.com", "10.0.0.1"] {
        let forged = authority.issue_without_asking(&[host.to_owned()], NOW);
        assert!(handshake(&server(vec![forged]), &client, host).is_err(), "{host}");
    }
}

/// Workers choose while a reload exchanges: each gets the old certificate or the new one.
#[test]
fn a_store_is_shared_between_threads() {
    let (old, new) = (ecdsa(&["a.example.com"]), ecdsa(&["a.example.com"]));
    let valid = [old.chain()[0].clone(), new.chain()[0].clone()];
    let store = CertStore::new(vec![old.clone()]);
    let seen = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..200).for_each(|i| store.swap(vec![if i % 2 == 0 { new.clone() } else { old.clone() }]))
        });
        scope.spawn(|| {
            for _ in 0..1000 {
                seen.lock()
                    .push(store.choose(Some("a.example.com"), &ALL_SCHEMES).unwrap());
            }
        });
    });
    assert!(seen.lock().iter().all(|key| valid.contains(&key.cert[0])));
}
