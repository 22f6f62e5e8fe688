//! What a responder says about our certificates is believed only when it is its to say (RFC 6960 section 3.2): real
//! answers, made with openssl.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use pomerium_certs::ocsp::{OcspError, Staple, Subject};
use pomerium_testing::tools;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

/// An authority, a certificate, and everything that may sign an answer about it.
struct Authority {
    folder: TempDir,
}

const EXTENSIONS: &str = "\
[leaf]\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:1/\nsubjectAltName=DNS:a.example.com\n\
[ca]\nbasicConstraints=critical,CA:TRUE\n\
[charged]\nextendedKeyUsage=OCSPSigning\n\
[plain]\nextendedKeyUsage=serverAuth\n";

impl Authority {
    fn new() -> Result<Authority> {
        let authority = Authority {
            folder: tempfile::tempdir()?,
        };
        std::fs::write(authority.path().join("ext"), EXTENSIONS)?;
        authority.root("ca")?;
        authority.root("stranger")?;
        authority.issue("leaf", "ca", "leaf", "0x1001", 30)?;
        authority.issue("charged", "ca", "charged", "0x1002", 30)?;
        authority.issue("plain", "ca", "plain", "0x1003", 30)?;
        authority.issue("foreign", "stranger", "charged", "0x1004", 30)?;
        Ok(authority)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn openssl(&self, arguments: &str) -> Result<()> {
        let done = Command::new(tools::find("openssl")?)
            .args(arguments.split(' '))
            .current_dir(self.path())
            .output()?;
        if !done.status.success() {
            bail!("openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    fn root(&self, name: &str) -> Result<()> {
        self.key(name)?;
        self.openssl(&format!(
            "req -new -key {name}.key -subj /CN={name} -out {name}.csr"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -signkey {name}.key -days 30 -extfile ext -extensions ca -out {name}.pem"
        ))
    }

    fn key(&self, name: &str) -> Result<()> {
        self.openssl(&format!(
            "ecparam -name prime256v1 -genkey -noout -out {name}.key"
        ))
    }

    fn issue(&self, name: &str, by: &str, extensions: &str, serial: &str, days: i32) -> Result<()> {
        self.key(name)?;
        self.openssl(&format!(
            "req -new -key {name}.key -subj /CN={name} -out {name}.csr"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -set_serial {serial} -days {days} -extfile ext -extensions {extensions} -out {name}.pem"
        ))
    }

    fn certificate(&self, name: &str) -> Result<CertificateDer<'static>> {
        let file = self.path().join(format!("{name}.pem"));
        Ok(CertificateDer::from_pem_file(file)?)
    }

    fn subject(&self) -> Result<Subject> {
        Ok(Subject::of(&[
            self.certificate("leaf")?,
            self.certificate("ca")?,
        ])?)
    }

    /// What a responder whose key is `signer` answers. `state` is the line of the authority's index.
    fn answer(&self, signer: &str, state: &str, more: &str) -> Result<Vec<u8>> {
        std::fs::write(self.path().join("index"), state)?;
        self.openssl("ocsp -issuer ca.pem -cert leaf.pem -no_nonce -reqout question")?;
        self.openssl(&format!(
            "ocsp -index index -CA ca.pem -rsigner {signer}.pem -rkey {signer}.key -reqin question -respout answer{more}"
        ))?;
        std::fs::read(self.path().join("answer")).context("no answer")
    }
}

const VALID: &str = "V\t400101000000Z\t\t1001\tunknown\t/CN=leaf\n";
const REVOKED: &str = "R\t400101000000Z\t250101000000Z,keyCompromise\t1001\tunknown\t/CN=leaf\n";
const DAY: i64 = 24 * 3600;

fn now() -> Result<i64> {
    let said = Command::new("date").arg("+%s").output()?;
    Ok(String::from_utf8(said.stdout)?.trim().parse()?)
}

#[test]
fn the_issuer_and_whom_it_has_charged_are_believed() -> Result<()> {
    let (authority, now) = (Authority::new()?, now()?);
    let subject = authority.subject()?;
    for signer in ["ca", "charged"] {
        let answer = authority.answer(signer, VALID, " -ndays 2")?;
        let staple: Staple = subject.verify(&answer, now).with_context(|| signer.to_owned())?;
        assert!(!staple.revoked);
        assert_eq!(staple.der, answer);
        assert_eq!(staple.next_update - staple.this_update, 2 * DAY);
        assert_eq!(staple.refresh_at(), staple.this_update + DAY);
    }
    let revoked = subject.verify(&authority.answer("ca", REVOKED, " -ndays 2")?, now)?;
    assert!(revoked.revoked);
    let unknown = subject.verify(&authority.answer("ca", "", " -ndays 2")?, now);
    assert_eq!(unknown, Err(OcspError::Unknown));
    Ok(())
}

#[test]
fn nobody_else_is() -> Result<()> {
    let (authority, now) = (Authority::new()?, now()?);
    let subject = authority.subject()?;
    for signer in ["plain", "foreign", "stranger"] {
        let answer = authority.answer(signer, VALID, " -ndays 2")?;
        assert_eq!(
            subject.verify(&answer, now),
            Err(OcspError::Signature),
            "{signer}"
        );
    }
    let honest = authority.answer("ca", REVOKED, " -ndays 2")?;
    for at in (0..honest.len()).step_by(7) {
        let mut changed = honest.clone();
        changed[at] ^= 1;
        if let Ok(staple) = subject.verify(&changed, now) {
            assert!(staple.revoked, "byte {at}: a change turned revoked into good");
        }
    }
    Ok(())
}

#[test]
fn only_about_this_certificate_and_only_in_its_time() -> Result<()> {
    let (authority, now) = (Authority::new()?, now()?);
    let subject = authority.subject()?;
    let answer = authority.answer("ca", VALID, " -ndays 2")?;
    for moment in [now - DAY, now + 3 * DAY] {
        assert_eq!(subject.verify(&answer, moment), Err(OcspError::OutOfTime));
    }
    authority.issue("leaf", "ca", "leaf", "0x2002", 30)?;
    assert_eq!(
        authority.subject()?.verify(&answer, now),
        Err(OcspError::OtherCertificate)
    );
    // A responder whose own certificate has ended.
    let charged = authority.answer("charged", VALID.replace("1001", "2002").as_str(), " -ndays 90")?;
    assert!(authority.subject()?.verify(&charged, now).is_ok());
    assert_eq!(
        authority.subject()?.verify(&charged, now + 31 * DAY),
        Err(OcspError::Signature)
    );
    Ok(())
}
