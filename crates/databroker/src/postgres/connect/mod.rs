//! Where the server is and how to speak to it: `text` reads connection strings as libpq does, `environment` fills in what they
//! leave open, `keys` says what is whose; `tls` is TLS with its modes; here is the pool.

mod environment;
mod keys;
mod text;
mod tls;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Pool, RecyclingMethod, Runtime,
};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::environment::Environment;

/// Connections of one process, unless `pool_max_conns` says otherwise.
const CONNECTIONS: usize = 8;
/// How long to wait for a connection.
const WAIT: Duration = Duration::from_secs(5);
/// How long a connection in the pool may take to show that it still works.
const STILL_THERE: Duration = Duration::from_secs(1);
/// A connection that was unused for so long must show that. One that the server has closed is known without asking.
const UNSURE_AFTER: Duration = Duration::from_secs(1);
/// How long a server may be silent before a connection counts as lost.
const SILENCE: Duration = Duration::from_secs(15);
/// What every connection is told first. A statement of ours that takes longer waits for something that does not come;
/// locks are held by a write for milliseconds. Writes are ordered by a lock, for which they must see what was committed
/// while they waited. What a connection string says of these settings does not count.
const MANNERS: &str = "SET statement_timeout = '8s'; SET lock_timeout = '5s'; \
                       SET idle_in_transaction_session_timeout = '30s'; \
                       SET default_transaction_isolation = 'read committed'";

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
        known: String,
    },
    /// A key that would have to be ignored, though safety may hang on it.
    #[error("the connection string of PostgreSQL: {key}: {instead}")]
    Refused {
        /// The key.
        key: &'static str,
        /// Why, and what to do.
        instead: &'static str,
    },
    /// Several servers with one password each.
    #[error(
        "{} has different passwords for the hosts of the connection string of PostgreSQL; all of them must take the same one", .0.display()
    )]
    Passwords(PathBuf),
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

/// A server, understood.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    tls: MakeRustlsConnect,
    connections: usize,
    place: String,
}

impl Target {
    pub(super) fn parse(connection: &str, environment: &Environment) -> Result<Self, ConnectError> {
        let mut pairs = text::read(connection)?;
        environment::complete(&mut pairs, environment)?;
        let (pairs, extra) = keys::sort(pairs)?;
        let mut config = Config::from_str(&text::written(&pairs))
            .map_err(|error| ConnectError::Unreadable(super::said(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ConnectError::Unreadable("it names no host".to_owned()));
        }
        let trust = tls::mode(&mut config, &extra)?;
        if config.get_application_name().is_none() {
            config.application_name(extra.application.as_deref().unwrap_or("pomerium"));
        }
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
                    known: "2 to 1000".to_owned(),
                })?,
        };
        Ok(Self {
            tls: MakeRustlsConnect::new(tls::client(trust, &extra)?),
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
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        Pool::builder(manager)
            .max_size(self.connections)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client: &mut ClientWrapper, _| {
                Box::pin(async move { client.batch_execute(MANNERS).await.map_err(HookError::Backend) })
            }))
            .pre_recycle(Hook::async_fn(|client, metrics| {
                Box::pin(still_there(client, metrics))
            }))
            .build()
            .map_err(|error| ConnectError::Unreadable(error.to_string()))
    }

    /// A connection of its own, with what it is told from outside a question.
    pub(super) async fn connect(&self) -> Result<(Client, Connection<Socket, Tls>), tokio_postgres::Error> {
        self.config.connect(self.tls.clone()).await
    }
}

/// Errors when the connection of the pool is of no use any more.
async fn still_there(client: &mut ClientWrapper, metrics: &Metrics) -> Result<(), HookError> {
    if metrics.last_used() < UNSURE_AFTER {
        return Ok(());
    }
    match tokio::time::timeout(STILL_THERE, client.simple_query("")).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(HookError::Backend(error)),
        Err(_) => Err(HookError::message("the server does not answer")),
    }
}

/// What a connection with TLS speaks over.
type Tls = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

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

#[cfg(test)]
mod tests {
    use super::*;

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
            ("user=x password=hunter2", "names no host"),
            ("host=db password=hunter2 sslcrl=/x", "sslcrl"),
        ] {
            let error = Target::parse(connection, &Environment::new())
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let target =
            Target::parse("postgres://u:hunter2@db.example.com:5433/x", &Environment::new()).unwrap();
        assert_eq!(target.place(), "db.example.com:5433");
    }
}
