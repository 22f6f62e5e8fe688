//! Every YAML example of the README and of `docs/` loads, and could be started.
#![allow(clippy::unwrap_used, reason = "a test: what is missing shows at once")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pomerium_config::Loader;
use pomerium_proxy::Snapshot;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};

/// The folder of the files that examples name, which no test machine has.
const SECRETS: &str = "/run/secrets/";

/// Writes the files that examples name into `folder`.
fn write_secrets(folder: &Path) {
    fs::write(folder.join("idp"), "a client secret").unwrap();
    for name in ["shared", "cookie"] {
        fs::write(folder.join(name), "MzIgYnl0ZXMgdGhhdCBvbmx5IGV4YW1wbGVzIGhhdmU=").unwrap();
    }
    fs::write(
        folder.join("postgres"),
        "postgres://pomerium@db.example.com/pomerium",
    )
    .unwrap();
    let program = folder.join("publish-record");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    #[cfg(unix)]
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let made = rcgen::generate_simple_self_signed(["docs.example.net".to_owned()]).unwrap();
    fs::write(folder.join("fullchain.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("acme-ca.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("privkey.pem"), made.signing_key.serialize_pem()).unwrap();
    let pairs = folder.join("certificates");
    fs::create_dir(&pairs).unwrap();
    fs::write(pairs.join("wiki.crt"), made.cert.pem()).unwrap();
    fs::write(pairs.join("wiki.key"), made.signing_key.serialize_pem()).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    fs::write(
        folder.join("client-ca.pem"),
        params.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2120, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&Issuer::new(params, key)).unwrap();
    fs::write(folder.join("client-crl.pem"), list.pem().unwrap()).unwrap();
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let docs = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs
        .filter(|path| path.extension().is_some_and(|ext| ext == "md"))
        .collect();
    pages.push(root.join("README.md"));
    pages
}

fn examples(text: &str) -> Vec<&str> {
    text.split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect()
}

#[test]
fn every_example_loads_and_could_be_started() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = format!("{}/", dir.path().display());
    write_secrets(dir.path());
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for example in examples(&text) {
            let file = dir.path().join("config.yaml");
            fs::write(&file, example.replace(SECRETS, &secrets)).unwrap();
            let loaded = Loader::new(Some(&file), &BTreeMap::new()).dry_run().load();
            let loaded = loaded.unwrap_or_else(|error| panic!("{}:\n{example}\n{error}", page.display()));
            let refusals: Vec<String> = loaded.refusals.iter().map(ToString::to_string).collect();
            assert!(
                refusals.is_empty(),
                "{}:\n{example}\n{refusals:?}",
                page.display()
            );
            Snapshot::build(&loaded.settings, None).unwrap();
            seen += 1;
        }
    }
    assert!(
        seen >= 6,
        "only {seen} examples were found; has their form changed?"
    );
}
