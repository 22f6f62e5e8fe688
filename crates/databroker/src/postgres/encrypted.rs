//! TLS to a real server, in every mode, with authorities and hosts that are right and wrong.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::running::{Postgres, Tls};
use super::tests::{KEY, tell};
use super::{OpenError, PostgresStore};

/// Whom the certificate of the server is for, and somebody else.
const HERE: &str = "db.example.com";
const ELSEWHERE: &str = "other.example.com";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = named("authority", Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// A certificate and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let params = named(name, vec![name.to_owned()]);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Each by a name of its own: one that is called like its authority is taken for that.
fn named(name: &str, hosts: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A server, and files of those who come to it.
struct Stage {
    server: Postgres,
    files: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let (good, foreign) = (Authority::new(), Authority::new());
        let (certificate, key) = good.issue(HERE);
        let files = tempfile::tempdir().unwrap();
        let (client, stranger) = (good.issue("client"), foreign.issue("client"));
        for (name, text) in [
            ("good.pem", &good.pem),
            ("foreign.pem", &foreign.pem),
            ("client.crt", &client.0),
            ("client.key", &client.1),
            ("stranger.crt", &stranger.0),
            ("stranger.key", &stranger.1),
        ] {
            std::fs::write(files.path().join(name), text).unwrap();
        }
        let server = tokio::task::spawn_blocking(move || {
            Postgres::start_with_tls(&Tls {
                certificate: &certificate,
                key: &key,
                authority: &good.pem,
            })
        });
        let server = server.await.unwrap().unwrap();
        Self { server, files }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Whether the store that is opened so speaks TLS with the server.
    async fn open(&self, database: &str, host: &str, more: &str) -> Result<bool, OpenError> {
        let port = self.server.port().unwrap();
        let connection =
            format!("host={host} hostaddr=127.0.0.1 port={port} user=postgres dbname={database} {more}");
        let store = PostgresStore::open(&connection, &[KEY]).await?;
        let row = store
            .connection()
            .await
            .unwrap()
            .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
            .await
            .unwrap();
        Ok(row.get(0))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_looks_at_the_server_as_it_says() {
    let stage = Stage::new().await;
    let (good, foreign) = (Some("good.pem"), Some("foreign.pem"));
    // `Some`: whether it is encrypted then.
    for (mode, authority, host, wanted) in [
        ("disable", None, HERE, Some(false)),
        ("disable", foreign, ELSEWHERE, Some(false)),
        ("prefer", None, ELSEWHERE, Some(true)),
        ("require", None, ELSEWHERE, Some(true)),
        ("require", good, ELSEWHERE, Some(true)),
        ("require", foreign, HERE, None),
        ("verify-ca", good, HERE, Some(true)),
        ("verify-ca", good, ELSEWHERE, Some(true)),
        ("verify-ca", foreign, HERE, None),
        ("verify-full", good, HERE, Some(true)),
        ("verify-full", good, ELSEWHERE, None),
        ("verify-full", foreign, HERE, None),
    ] {
        let case = format!("{mode}, {authority:?}, {host}");
        let root = authority.map(|name| format!("sslrootcert={}", stage.file(name).display()));
        let more = format!("sslmode={mode} {}", root.unwrap_or_default());
        match (stage.open("postgres", host, &more).await, wanted) {
            (Ok(encrypted), Some(wanted)) => assert_eq!(encrypted, wanted, "{case}"),
            (Err(error), None) => {
                let text = error.to_string();
                assert!(
                    text.contains(host) && text.contains("certificate"),
                    "{case}: {text}"
                );
            }
            (outcome, _) => panic!("{case}: {outcome:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_client_is_shown_where_the_server_wants_one() {
    let stage = Stage::new().await;
    let certified = Postgres::CERTIFIED;
    let create = format!("CREATE DATABASE {certified}");
    tell(&stage.server.connection("postgres"), &create).await;
    let verified = format!(
        "sslmode=verify-full sslrootcert={}",
        stage.file("good.pem").display()
    );
    let shown = |name: &str| {
        let path = |ending: &str| stage.file(&format!("{name}.{ending}")).display().to_string();
        format!("{verified} sslcert={} sslkey={}", path("crt"), path("key"))
    };
    let opened = stage.open(certified, HERE, &shown("client")).await;
    assert!(matches!(opened, Ok(true)), "{opened:?}");
    let refused = stage
        .open(certified, HERE, &verified)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("valid client certificate"), "{refused}");
    let refused = stage.open(certified, HERE, &shown("stranger")).await;
    assert!(matches!(refused, Err(OpenError::Server { .. })), "{refused:?}");
    let refused = stage.open(certified, HERE, "sslmode=disable").await;
    assert!(matches!(refused, Err(OpenError::Server { .. })), "{refused:?}");
}
