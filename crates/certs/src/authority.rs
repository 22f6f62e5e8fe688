//! A certificate authority for one machine: the demo and first tries.
//!
//! It can only vouch for `localhost`, names under it and loopback addresses: the certificate says so (name
//! constraints), so that trusting it opens nothing else, even should its key be stolen.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{CidrSubnet, GeneralSubtree, Issuer, KeyPair, NameConstraints};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::files::{create_private_directory, restrict, write_whole};
use crate::load::{LoadedCertificate, fingerprint};
use crate::make::{self, MakeError, Period, authority_params};

const COMMON_NAME: &str = "Pomerium local authority";
const DAY: i64 = 24 * 3600;
/// How long the authority lives, in seconds.
const AUTHORITY_LIFE: i64 = 10 * 365 * DAY;
/// How long a certificate lives, in seconds: browsers take 398 days at most.
const LEAF_LIFE: i64 = 397 * DAY;

/// Why there is no local authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The files are there but do not make sense.
    #[error(
        "{path} does not hold a usable certificate authority ({reason}): move the folder away to start afresh"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A host it must not vouch for.
    #[error("the local authority is only for localhost, names under it and loopback addresses, not for {0}")]
    NotLocal(String),
    /// Making a certificate failed.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// The authority, its key in a folder of its own.
pub struct LocalAuthority {
    directory: PathBuf,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: i64,
    issuer: Issuer<'static, KeyPair>,
}

impl LocalAuthority {
    /// Opens the authority in `directory`, or makes one there: `ca.crt`, and `ca.key` that only the owner
    /// can read. One that has ended at `now_unix` (seconds) is replaced.
    ///
    /// # Errors
    /// [`AuthorityError`] with the path and the way out.
    pub fn open_or_create(directory: &Path, now_unix: i64) -> Result<Self, AuthorityError> {
        create_private_directory(directory).map_err(|source| file_error(directory, source))?;
        match Self::open(directory)? {
            Some(authority) if authority.not_after > now_unix => Ok(authority),
            _ => Self::create(directory, now_unix),
        }
    }

    fn open(directory: &Path) -> Result<Option<Self>, AuthorityError> {
        let Some(key) = read_if_there(&key_path(directory))? else {
            return Ok(None);
        };
        let Some(pem) = read_if_there(&certificate_path(directory))? else {
            return Ok(None);
        };
        restrict(&key_path(directory)).map_err(|source| file_error(&key_path(directory), source))?;
        Self::from_pem(directory, &pem, &key).map(Some)
    }

    fn from_pem(directory: &Path, pem: &str, key: &str) -> Result<Self, AuthorityError> {
        let damaged = |reason: String| AuthorityError::Damaged {
            path: directory.to_owned(),
            reason,
        };
        let key = KeyPair::from_pem(key).map_err(|error| damaged(format!("ca.key: {error}")))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(format!("ca.crt: {error}")))?;
        let not_after = {
            let (_, parsed) = X509Certificate::from_der(&certificate)
                .map_err(|error| damaged(format!("ca.crt: {error}")))?;
            if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
                return Err(damaged("ca.key is not the key of ca.crt".into()));
            }
            parsed.validity().not_after.timestamp()
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| damaged(format!("ca.crt: {error}")))?;
        Ok(Self {
            directory: directory.to_owned(),
            certificate,
            pem: pem.to_owned(),
            not_after,
            issuer,
        })
    }

    fn create(directory: &Path, now_unix: i64) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(MakeError::from)?;
        let mut params = authority_params(
            COMMON_NAME,
            Period {
                from: now_unix - DAY,
                until: now_unix + AUTHORITY_LIFE,
            },
        )?;
        params.name_constraints = Some(local_names_only());
        let certificate = params.self_signed(&key).map_err(MakeError::from)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        // The key first: a certificate without its key would look like damage.
        for (path, text, private) in [
            (key_path(directory), key_pem.as_str(), true),
            (certificate_path(directory), &certificate.pem(), false),
        ] {
            write_whole(&path, text.as_bytes(), private).map_err(|source| file_error(&path, source))?;
        }
        Self::from_pem(directory, &certificate.pem(), &key_pem)
    }

    /// Issues a certificate with a name for each of `hosts` (browsers do not take a wildcard under
    /// `localhost`), good for 397 days from `now_unix` (seconds).
    ///
    /// # Errors
    /// [`AuthorityError::NotLocal`] for a host browsers would not accept from this authority.
    pub fn issue(&self, hosts: &[String], now_unix: i64) -> Result<LoadedCertificate, AuthorityError> {
        let period = self.leaf_period(hosts, now_unix)?;
        Ok(make::issue(
            &self.issuer,
            hosts,
            period,
            "the local authority's certificate",
        )?)
    }

    /// As [`Self::issue`], as PEM: the certificate and its key, to be kept in files.
    ///
    /// # Errors
    /// [`AuthorityError::NotLocal`] for a host browsers would not accept from this authority.
    pub fn issue_pem(
        &self,
        hosts: &[String],
        now_unix: i64,
    ) -> Result<(String, Zeroizing<String>), AuthorityError> {
        let period = self.leaf_period(hosts, now_unix)?;
        let usage = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
        Ok(make::issue_pem(&self.issuer, hosts, period, usage)?)
    }

    fn leaf_period(&self, hosts: &[String], now_unix: i64) -> Result<Period, AuthorityError> {
        if let Some(stranger) = hosts.iter().find(|host| !is_local(host)) {
            return Err(AuthorityError::NotLocal(stranger.clone()));
        }
        Ok(Period {
            from: now_unix - DAY,
            until: (now_unix + LEAF_LIFE).min(self.not_after),
        })
    }

    /// The authority's certificate, for a pool of trusted roots.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The same in DER.
    #[must_use]
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Where its certificate lies.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        certificate_path(&self.directory)
    }

    /// SHA-256 of its certificate in lower-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }
}

impl std::fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalAuthority")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn local_names_only() -> NameConstraints {
    let mut v6 = [0; 16];
    v6[15] = 1;
    NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".into()),
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(v6, 128)),
        ],
        excluded_subtrees: Vec::new(),
    }
}

fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            host == "localhost"
                || host
                    .strip_suffix(".localhost")
                    .is_some_and(|rest| !rest.is_empty())
        }
    }
}

fn key_path(directory: &Path) -> PathBuf {
    directory.join("ca.key")
}

fn certificate_path(directory: &Path) -> PathBuf {
    directory.join("ca.crt")
}

fn file_error(path: &Path, source: io::Error) -> AuthorityError {
    AuthorityError::File {
        path: path.to_owned(),
        source,
    }
}

fn read_if_there(path: &Path) -> Result<Option<Zeroizing<String>>, AuthorityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path, error)),
    }
}

#[cfg(test)]
impl LocalAuthority {
    /// What a thief of the key could make.
    pub(crate) fn issue_without_asking(&self, hosts: &[String], now_unix: i64) -> LoadedCertificate {
        let period = Period {
            from: now_unix - DAY,
            until: now_unix + DAY,
        };
        make::issue(&self.issuer, hosts, period, "forged").unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn the_second_opening_finds_the_first_authority() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        let first = LocalAuthority::open_or_create(&inner, NOW).unwrap();
        let second = LocalAuthority::open_or_create(&inner, NOW + DAY).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(fs::read_to_string(second.ca_path()).unwrap(), second.ca_pem());
        assert_eq!(
            second.ca_der(),
            &CertificateDer::from_pem_slice(first.ca_pem().as_bytes()).unwrap()
        );
        second.issue(&["localhost".into()], NOW).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("authority");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        LocalAuthority::open_or_create(&inner, NOW).unwrap();
        assert_eq!((mode(&inner), mode(&key_path(&inner))), (0o700, 0o600));
        fs::set_permissions(key_path(&inner), fs::Permissions::from_mode(0o644)).unwrap();
        LocalAuthority::open_or_create(&inner, NOW).unwrap();
        assert_eq!(mode(&key_path(&inner)), 0o600, "given rights are taken back");
    }

    #[test]
    fn an_ended_authority_is_replaced_and_a_lost_half_too() {
        let folder = tempfile::tempdir().unwrap();
        let open = |now| {
            LocalAuthority::open_or_create(folder.path(), now)
                .unwrap()
                .fingerprint()
        };
        let first = open(NOW);
        assert_eq!(open(NOW + AUTHORITY_LIFE - 1), first);
        let second = open(NOW + AUTHORITY_LIFE);
        assert_ne!(second, first);
        fs::remove_file(key_path(folder.path())).unwrap();
        assert_ne!(open(NOW), second);
    }

    #[test]
    fn damage_is_told_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        LocalAuthority::open_or_create(folder.path(), NOW).unwrap();
        let other = tempfile::tempdir().unwrap();
        LocalAuthority::open_or_create(other.path(), NOW).unwrap();
        let good = fs::read(key_path(folder.path())).unwrap();
        for bad in [b"not a key".to_vec(), fs::read(key_path(other.path())).unwrap()] {
            fs::write(key_path(folder.path()), &bad).unwrap();
            let error = LocalAuthority::open_or_create(folder.path(), NOW).unwrap_err();
            assert!(matches!(error, AuthorityError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("move the folder away"), "{error}");
            assert_eq!(fs::read(key_path(folder.path())).unwrap(), bad);
        }
        fs::write(key_path(folder.path()), good).unwrap();
        fs::write(certificate_path(folder.path()), "nothing").unwrap();
        assert!(LocalAuthority::open_or_create(folder.path(), NOW).is_err());
    }

    #[test]
    fn only_local_hosts_get_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(folder.path(), NOW).unwrap();
        let issue = |host: &str| authority.issue(&["localhost".into(), host.into()], NOW);
        for local in ["a.localhost", "a.b.localhost", "127.0.0.1", "127.1.2.3", "::1"] {
            let certificate = issue(local).unwrap();
            assert_eq!(certificate.names(), ["localhost", local]);
            assert_eq!(certificate.not_after(), NOW + 397 * DAY);
            assert_eq!(
                certificate.not_before(),
                NOW - DAY,
                "clocks may be a little apart"
            );
        }
        for other in [
            "example.com",
            "localhost.example.com",
            "xlocalhost",
            ".localhost",
            "10.0.0.1",
            "",
        ] {
            assert!(
                matches!(issue(other), Err(AuthorityError::NotLocal(host)) if host == other),
                "{other}"
            );
        }
    }

    #[test]
    fn no_certificate_outlives_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(folder.path(), NOW).unwrap();
        let late = authority
            .issue(&["localhost".into()], NOW + AUTHORITY_LIFE - DAY)
            .unwrap();
        assert_eq!(late.not_after(), NOW + AUTHORITY_LIFE);
    }
}
