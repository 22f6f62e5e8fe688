//! Server certificates and extra trust roots, read and checked (spec config.md 8.4).

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Cx;
use crate::records::Fault;
use crate::settings::{CertificatePair, Secret};
use crate::spec::base64_std;
use crate::spec::values::Values;

/// Certificates in order of precedence, and extra roots as PEM.
pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> (Vec<CertificatePair>, Vec<u8>) {
    let mut pairs = Vec::new();
    pairs.extend(inline(values, cx));
    for entry in values.objects("certificates") {
        let (cert, key) = (entry.text("cert"), entry.text("key"));
        let complaint = "config: bad cert entry, file reference invalid.";
        match from_files(cert, key, cx) {
            Ok(pair) => pairs.push(pair),
            Err(message) => {
                let help = "`cert` and `key` are paths of PEM files";
                cx.sink.error(
                    entry.place,
                    entry.path.clone(),
                    format!("{complaint} {message}"),
                    help,
                );
            }
        }
    }
    pairs.extend(of_records(cx));
    pairs.extend(files(values, cx));
    pairs.extend(super::certificate_folder::resolve(values, cx));
    (pairs, roots(values, cx))
}

/// Those of records; one that cannot be used is left out by itself.
fn of_records(cx: &mut Cx<'_>) -> Vec<CertificatePair> {
    let records = cx.records;
    let mut pairs = Vec::with_capacity(records.certificates.len());
    for given in &records.certificates {
        match check(&given.chain, given.key.expose()) {
            Ok(()) => pairs.push(CertificatePair {
                origin: given.record.clone(),
                of_record: true,
                chain: given.chain.clone(),
                key: given.key.clone(),
            }),
            Err(problem) => cx
                .record_problems
                .push(Fault::of("certificate", problem).of_record(&given.record)),
        }
    }
    pairs
}

fn inline(values: &Values, cx: &mut Cx<'_>) -> Option<CertificatePair> {
    let (cert, key) = (values.text("certificate"), values.text("certificate_key"));
    if cert.is_empty() && key.is_empty() {
        return None;
    }
    let pair = decode(cert, "certificate")
        .and_then(|chain| Ok((chain, decode(key, "certificate_key")?)))
        .and_then(|(chain, key)| check(&chain, &key).map(|()| (chain, key)));
    match pair {
        Ok((chain, key)) => Some(CertificatePair {
            origin: "certificate".into(),
            of_record: false,
            chain,
            key: Secret::new(key),
        }),
        Err(message) => {
            let name = if cert.is_empty() {
                "certificate_key"
            } else {
                "certificate"
            };
            let help = "set `certificate` and `certificate_key`, each base64 of PEM, that belong together";
            let message = format!("config: bad cert base64 {message}");
            cx.sink.error(values.place(name), name, message, help);
            None
        }
    }
}

fn decode(text: &str, name: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Err(format!("`{name}` is missing"));
    }
    base64_std(text).map_err(|message| format!("`{name}`: {message}"))
}

fn files(values: &Values, cx: &mut Cx<'_>) -> Option<CertificatePair> {
    let (cert, key) = (
        values.text("certificate_file"),
        values.text("certificate_key_file"),
    );
    if cert.is_empty() && key.is_empty() {
        return None;
    }
    from_files(cert, key, cx)
        .map_err(|message| {
            let name = if cert.is_empty() {
                "certificate_key_file"
            } else {
                "certificate_file"
            };
            let help = "set `certificate_file` and `certificate_key_file`, PEM files that belong together";
            cx.sink.error(
                values.place(name),
                name,
                format!("config: bad cert file {message}"),
                help,
            );
        })
        .ok()
}

pub(super) fn from_files(cert: &str, key: &str, cx: &mut Cx<'_>) -> Result<CertificatePair, String> {
    if cert.is_empty() || key.is_empty() {
        return Err("certificate and key are both needed".into());
    }
    let chain = cx.read(cert)?;
    let key = cx.read(key)?;
    check(&chain, &key)?;
    Ok(CertificatePair {
        origin: cert.to_owned(),
        of_record: false,
        chain,
        key: Secret::new(key),
    })
}

/// Whether chain and key can be read and belong together.
pub(super) fn check(chain: &[u8], key: &[u8]) -> Result<(), String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("certificate: {error}"))?;
    if chain.is_empty() {
        return Err("no certificate found in the PEM text".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key: {error}"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Both forms of `certificate_authority` together; what cannot be used is reported and left out.
fn roots(values: &Values, cx: &mut Cx<'_>) -> Vec<u8> {
    let mut pem = Vec::new();
    let inline = values
        .some_text("certificate_authority")
        .map(|text| (base64_std(text), "certificate_authority"));
    let file = values
        .some_text("certificate_authority_file")
        .map(|path| (cx.read(path), "certificate_authority_file"));
    for (bytes, name) in inline.into_iter().chain(file) {
        match bytes {
            Ok(bytes) if super::files::has_certificate(&bytes) => {
                pem.extend_from_slice(&bytes);
                pem.push(b'\n');
            }
            Ok(_) => cx.sink.warn(
                values.place(name),
                name,
                "holds no certificate: it is ignored",
                "use PEM",
            ),
            Err(message) => {
                cx.sink.warn(
                    values.place(name),
                    name,
                    format!("{message}: it is ignored"),
                    "use PEM",
                );
            }
        }
    }
    pem
}
