//! A certificate authority for one machine: the demo and first tries.
//!
//! It can only vouch for `localhost`, names under it and loopback addresses: the certificate says so (name
//! constraints), so that trusting it opens nothing else, even should its key be stolen.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{CidrSubnet, GeneralSubtree, Issuer, KeyPair, NameConstraints};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

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
        if let Some(stranger) = hosts.iter().find(|host| !is_local(host)) {
            return Err(AuthorityError::NotLocal(stranger.clone()));
        }
        let period = Period {
            from: now_unix - DAY,
            until: (now_unix + LEAF_LIFE).min(self.not_after),
        };
        Ok(make::issue(
            &self.issuer,
            hosts,
            period,
            "the local authority's certificate",
        )?)
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

/// Writes beside and renames, so that a crash leaves the old file or the new one. A private file is never
/// readable by others, not even for a moment.
fn write_whole(path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if private { 0o600 } else { 0o644 });
    #[cfg(not(unix))]
    let _ = private;
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(unix)]
fn create_private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

#[cfg(not(unix))]
fn create_private_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Takes the rights of others away, should somebody have given them.
#[cfg(unix)]
fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    }
}

#[cfg(not(unix))]
fn restrict(_: &Path) -> io::Result<()> {
    Ok(())
}
