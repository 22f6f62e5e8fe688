//! Where the server is and how to speak to it: connection strings as libpq reads them, TLS with its modes, the pool.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use pomerium_crypto::tls::{AnyCertificate, AnyHost};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections of one process, unless `pool_max_conns` says otherwise.
const CONNECTIONS: usize = 8;
/// How long to wait for a connection.
const WAIT: Duration = Duration::from_secs(5);
/// How long a connection in the pool may take to show that it still works.
const STILL_THERE: Duration = Duration::from_secs(1);
/// How long a server may be silent before a connection counts as lost.
const SILENCE: Duration = Duration::from_secs(15);
/// What every connection is told first. A statement of ours that takes longer waits for something that does not come;
/// locks are held by a write for milliseconds.
const MANNERS: &str = "SET statement_timeout = '8s'; SET lock_timeout = '5s'; \
                       SET idle_in_transaction_session_timeout = '30s'";

/// Why a connection string cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It cannot be read. The text is not repeated: it may hold a password.
    #[error(
        "the connection string of PostgreSQL cannot be read: {0}; write a postgres:// URI or keyword=value pairs"
    )]
    Unreadable(String),
    /// A value of a key has no meaning.
    #[error("the connection string of PostgreSQL: {key} cannot be `{value}`; it is one of {known}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        known: &'static str,
    },
    /// A certificate or key file cannot be used.
    #[error("the connection string of PostgreSQL: {key} {}: {problem}", path.display())]
    File {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The TLS settings do not go together.
    #[error("the connection string of PostgreSQL: TLS: {0}")]
    Tls(String),
}

/// How the server's certificate is looked at (libpq `sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Not at all: `prefer`, `require`.
    Any,
    /// It comes from a trusted authority: `verify-ca`.
    Authority,
    /// It is also for this host: `verify-full`.
    Host,
}

/// A server, understood.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    tls: MakeRustlsConnect,
    connections: usize,
    place: String,
}

/// What the driver does not know of a connection string.
#[derive(Default)]
struct Extra {
    mode: Option<String>,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    connections: Option<String>,
}

impl Extra {
    /// Takes a key out of the string if it is one the driver does not know.
    fn take(&mut self, key: &str, value: &str) -> bool {
        let value = value.to_owned();
        match key {
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root = Some(value.into()),
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            "pool_max_conns" => self.connections = Some(value),
            // Of the pool of the original, without a counterpart here.
            "pool_min_conns"
            | "pool_max_conn_lifetime"
            | "pool_max_conn_idle_time"
            | "pool_health_check_period"
            | "pool_max_conn_lifetime_jitter" => {}
            _ => return false,
        }
        true
    }
}

impl Target {
    pub(super) fn parse(connection: &str) -> Result<Self, ConnectError> {
        let mut extra = Extra::default();
        let rest = without(connection.trim(), &mut extra);
        let mut config =
            Config::from_str(&rest).map_err(|error| ConnectError::Unreadable(super::said(&error)))?;
        let trust = mode(&mut config, &extra)?;
        config.application_name("pomerium");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(WAIT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_keepalives_idle() > SILENCE {
            config.keepalives_idle(SILENCE);
        }
        let connections = match &extra.connections {
            None => CONNECTIONS,
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (2..=1000).contains(number))
                .ok_or_else(|| ConnectError::Value {
                    key: "pool_max_conns",
                    value: text.clone(),
                    known: "2 to 1000",
                })?,
        };
        Ok(Self {
            tls: MakeRustlsConnect::new(tls(trust, &extra)?),
            place: place(&config),
            config,
            connections,
        })
    }

    /// How many writes may be under way at a time: they wait for each other in the database, so that more of them would
    /// only keep connections from those who read.
    pub(super) fn writers(&self) -> usize {
        (self.connections / 2).max(1)
    }

    /// Hosts, without credentials.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn pool(&self) -> Result<Pool, ConnectError> {
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Verified,
        };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        Pool::builder(manager)
            .max_size(self.connections)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .recycle_timeout(Some(STILL_THERE))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client: &mut ClientWrapper, _| {
                Box::pin(async move { client.batch_execute(MANNERS).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|error| ConnectError::Unreadable(error.to_string()))
    }

    /// A connection of its own, with what it is told from outside a question.
    pub(super) async fn connect(&self) -> Result<(Client, Connection<Socket, Tls>), tokio_postgres::Error> {
        self.config.connect(self.tls.clone()).await
    }
}

/// What a connection with TLS speaks over.
type Tls = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// The string without the keys that are ours to understand.
fn without(connection: &str, extra: &mut Extra) -> String {
    if let Some((base, query)) = connection.split_once('?')
        && (connection.starts_with("postgres://") || connection.starts_with("postgresql://"))
    {
        let decode = |text: &str| percent(text);
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                !extra.take(&decode(key), &decode(value))
            })
            .collect();
        return match kept.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", kept.join("&")),
        };
    }
    if connection.starts_with("postgres://") || connection.starts_with("postgresql://") {
        return connection.to_owned();
    }
    pairs(connection)
        .into_iter()
        .filter(|(key, value, _)| !extra.take(key, value))
        .map(|(_, _, text)| text)
        .collect::<Vec<_>>()
        .join(" ")
}

/// `%2F` as `/`; anything odd stays as it is.
fn percent(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        if let Some(value) = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            out.push(value);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `key = 'value'` pairs: key, value, and the text as it stands.
fn pairs(connection: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut rest = connection;
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, length) = value(after);
        let key = key.trim().to_owned();
        found.push((key.clone(), value, format!("{key}={}", &after[..length])));
        rest = after[length..].trim_start();
    }
    if !rest.trim().is_empty() {
        found.push((rest.trim().to_owned(), String::new(), rest.trim().to_owned()));
    }
    found
}

/// A value, quoted or not, and how many bytes of the text it takes.
fn value(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, next)| next)),
            '\'' if quoted => return (value, at + 1),
            _ if !quoted && letter.is_whitespace() => return (value, at),
            _ => value.push(letter),
        }
    }
    (value, text.len())
}

fn mode(config: &mut Config, extra: &Extra) -> Result<Trust, ConnectError> {
    let (mode, trust) = match extra.mode.as_deref() {
        Some("disable") => (SslMode::Disable, Trust::Any),
        None | Some("prefer" | "allow") => (SslMode::Prefer, Trust::Any),
        Some("require") if extra.root.is_some() => (SslMode::Require, Trust::Authority),
        Some("require") => (SslMode::Require, Trust::Any),
        Some("verify-ca") => (SslMode::Require, Trust::Authority),
        Some("verify-full") => (SslMode::Require, Trust::Host),
        Some(other) => {
            return Err(ConnectError::Value {
                key: "sslmode",
                value: other.to_owned(),
                known: "disable, allow, prefer, require, verify-ca, verify-full",
            });
        }
    };
    config.ssl_mode(mode);
    Ok(trust)
}

fn place(config: &Config) -> String {
    use tokio_postgres::config::Host;
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<String> = hosts.collect();
    let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
    match ports.is_empty() {
        true => hosts.join(","),
        false => format!("{}:{}", hosts.join(","), ports.join(",")),
    }
}

fn tls(trust: Trust, extra: &Extra) -> Result<ClientConfig, ConnectError> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        // As libpq does below `verify-ca`.
        Trust::Any => Arc::new(AnyCertificate(provider)),
        Trust::Authority => Arc::new(AnyHost {
            roots: roots(extra)?,
            provider,
        }),
        Trust::Host => WebPkiServerVerifier::builder_with_provider(roots(extra)?.into(), provider)
            .build()
            .map_err(|error| ConnectError::Tls(error.to_string()))?,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match (&extra.certificate, &extra.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates("sslcert", certificate)?;
            let file = |problem: String| ConnectError::File {
                key: "sslkey",
                path: key.clone(),
                problem,
            };
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file(error.to_string()))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| file(error.to_string()))
        }
        _ => Err(ConnectError::Tls("sslcert and sslkey go together".into())),
    }
}

fn certificates(key: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let file = |problem: String| ConnectError::File {
        key,
        path: path.clone(),
        problem,
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| file(error.to_string()))?
        .collect();
    let read = read.map_err(|error| file(error.to_string()))?;
    match read.is_empty() {
        true => Err(file("there is no certificate in it".into())),
        false => Ok(read),
    }
}

/// The authorities of `sslrootcert`, else those of the system.
fn roots(extra: &Extra) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    match &extra.root {
        Some(path) => {
            for certificate in certificates("sslrootcert", path)? {
                roots.add(certificate).map_err(|error| ConnectError::File {
                    key: "sslrootcert",
                    path: path.clone(),
                    problem: error.to_string(),
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(ConnectError::Tls(
            "there is no authority to verify the server by; set sslrootcert".into(),
        ));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(connection: &str) -> (String, Extra) {
        let mut extra = Extra::default();
        (without(connection, &mut extra), extra)
    }

    #[test]
    fn both_styles_are_read_and_what_the_driver_does_not_know_is_taken_out() {
        let (rest, extra) = split(
            "postgres://u:p@db.example.com:5432/x?sslmode=verify-full&sslrootcert=%2Fca.pem&pool_max_conns=3&a=b",
        );
        assert_eq!(rest, "postgres://u:p@db.example.com:5432/x?a=b");
        assert_eq!(extra.mode.as_deref(), Some("verify-full"));
        assert_eq!(extra.root, Some("/ca.pem".into()));
        assert_eq!(extra.connections.as_deref(), Some("3"));
        let (rest, extra) = split("host=/run/pg user = 'a b' password='it\\'s' sslmode=require dbname=x");
        assert_eq!(rest, "host=/run/pg user='a b' password='it\\'s' dbname=x");
        assert_eq!(extra.mode.as_deref(), Some("require"));
        assert_eq!(split("postgresql://h/x?sslmode=disable").0, "postgresql://h/x");
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        for (connection, part) in [
            (
                "postgres://u:hunter2@db.example.com/x?sslmode=never",
                "sslmode cannot be `never`",
            ),
            ("host=db password=hunter2 port=x", "cannot be read"),
            (
                "host=db password=hunter2 sslmode=verify-ca sslrootcert=/nowhere.pem",
                "/nowhere.pem",
            ),
            ("host=db password=hunter2 pool_max_conns=1", "2 to 1000"),
            ("host=db password=hunter2 sslcert=/x.pem", "go together"),
        ] {
            let error = Target::parse(connection).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let target = Target::parse("postgres://u:hunter2@db.example.com:5433/x").unwrap();
        assert_eq!(target.place(), "db.example.com:5433");
    }
}
