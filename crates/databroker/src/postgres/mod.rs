//! Records in PostgreSQL: one database for several databrokers.
//!
//! Every write takes the one row of `about`, so that versions are given out in the order of the commits and no reader ever
//! meets a gap. What a write means is said in `apply`, as for every store: `write` reads what it may touch,
//! lets it work on that, and writes what came of it. `connect` is how to reach the
//! server, `migrate` the layout, `listen` how writes of other databrokers become known.
//!
//! Record contents are sealed as in the file store; types, ids, versions and times are not.

mod connect;
#[cfg(test)]
mod encrypted;
mod listen;
mod migrate;
mod overlay;
mod read;
mod reseal;
#[cfg(test)]
#[path = "../../../testing/src/postgres.rs"]
mod running;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod troubles;
#[cfg(test)]
mod variables;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Options, Page, Query, Record, Versions};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;

pub use self::connect::ConnectError;
use self::connect::Target;
pub use self::migrate::MigrateError;
#[cfg(test)]
pub(crate) use self::tests::fresh as fresh_database;
use crate::query;
use crate::seal::Sealer;
use crate::store::{Changes, Counters, Inventory, Key, Records, Registered, Store, Write, Written};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a PostgreSQL store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection string cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The layout cannot be made or is not ours.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The server cannot be reached or refuses.
    #[error(
        "PostgreSQL at {place}: {problem}; check databroker_storage_connection_string and that the server is up"
    )]
    Server {
        /// Hosts, without credentials.
        place: String,
        /// What it says.
        problem: String,
    },
}

/// A [`Store`] in PostgreSQL.
pub struct PostgresStore {
    pool: Pool,
    /// One for each write that may be under way.
    turns: Semaphore,
    sealer: Arc<Sealer>,
    told: listen::Told,
    listener: AbortHandle,
}

impl PostgresStore {
    /// Opens the store at `connection` (a URI or keywords and values, as libpq reads them), and makes its tables if
    /// they are not there. The first of `keys` seals record contents, each of them opens.
    ///
    /// Must be called within a tokio runtime.
    pub async fn open(connection: &str, keys: &[[u8; 32]]) -> Result<Self, OpenError> {
        Self::open_with(connection, &BTreeMap::new(), keys).await
    }

    /// As [`Self::open`]. What the connection string leaves open comes from the variables of libpq in `environment` (`PGUSER`,
    /// `PGPASSWORD` …), and from its file of passwords.
    pub async fn open_with(
        connection: &str,
        environment: &BTreeMap<String, String>,
        keys: &[[u8; 32]],
    ) -> Result<Self, OpenError> {
        let target = Target::parse(connection, environment)?;
        let sealer = Arc::new(Sealer::new(keys));
        let pool = target.pool()?;
        let server = |problem: String| OpenError::Server {
            place: target.place().to_owned(),
            problem,
        };
        let mut first = pool.get().await.map_err(|error| server(said(&error)))?;
        migrate::run(&mut first, &sealer).await?;
        drop(first);
        let told = listen::Told::default();
        let turns = Semaphore::new(target.writers());
        let listener = tokio::spawn(listen::run(target, pool.clone(), told.clone()));
        Ok(Self {
            pool,
            turns,
            sealer,
            told,
            listener: listener.abort_handle(),
        })
    }

    async fn connection(&self) -> Result<Object, Error> {
        self.pool.get().await.map_err(|error| unavailable(&error))
    }

    async fn write_once(&self, write: &Write, now: Timestamp) -> Result<Written, Error> {
        let connection = self.connection().await?;
        let written = write::run(&connection, &self.sealer, write, now).await;
        match &written {
            Ok(_) => {
                self.told.changed.send_replace(());
                if matches!(write, Write::Report { .. }) {
                    self.told.services.send_replace(());
                }
            }
            Err(Error::Unavailable(why)) if why.ends_with(READ_ONLY) => drop(Object::take(connection)),
            Err(_) => {}
        }
        written
    }
}

/// The answer, or an error when the server has none in time. It cannot be waited for without end: a server may be
/// gone without a word.
fn in_time<'a, T: Send + 'a>(
    answer: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    async move {
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
            let text = format!("PostgreSQL did not answer within {} s", PATIENCE.as_secs());
            Err(Error::Unavailable(text))
        })
    }
    .boxed()
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.listener.abort();
        self.pool.close();
    }
}

/// What went wrong, with what the server says about it.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let error = cause(error);
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// What the server or the way to it says, without what the pool says about itself.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    match error.downcast_ref::<PoolError>() {
        Some(PoolError::Backend(inner)) => inner,
        _ => error,
    }
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Unavailable(format!("PostgreSQL: {}{}", said(error), advice(error)))
}

/// What to do about it, where that is known.
fn advice(error: &(dyn std::error::Error + 'static)) -> &'static str {
    match cause(error)
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::code)
    {
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => READ_ONLY,
        _ => "",
    }
}

/// The end of what is said about a server that takes no writes.
const READ_ONLY: &str = "; this server is read-only, as a replica is: name all servers in \
                         databroker_storage_connection_string, with target_session_attrs=read-write";

impl Store for PostgresStore {
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>> {
        in_time(async { read::counters(&**self.connection().await?).await })
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        in_time(async move { read::get(&self.connection().await?, &self.sealer, record_type, id).await })
    }

    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>> {
        query::scan(self, query).boxed()
    }

    /// As the original over PostgreSQL.
    fn finds_any_field(&self) -> bool {
        true
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        in_time(async { read::types(&self.connection().await?).await })
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        in_time(async move { read::options(&**self.connection().await?, record_type).await })
    }

    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        in_time(async { read::all_options(&**self.connection().await?).await })
    }

    fn services(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Registered>, Error>> {
        in_time(async move { read::services(&**self.connection().await?, now).await })
    }

    fn watch_services(&self) -> watch::Receiver<()> {
        self.told.services.subscribe()
    }

    fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>> {
        async move {
            let versions = self.counters().await?.versions();
            let records = read::latest(
                self.pool.clone(),
                Arc::clone(&self.sealer),
                record_type.to_owned(),
            );
            Ok((versions, records))
        }
        .boxed()
    }

    fn changes<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Changes, Error>> {
        in_time(async move {
            let mut connection = self.connection().await?;
            read::changes(&mut connection, &self.sealer, record_type, from, limit).await
        })
    }

    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
        in_time(async move {
            let _turn = self.turns.acquire().await.map_err(|error| unavailable(&error))?;
            match self.write_once(&write, now).await {
                // The pool may lead to a server that is a replica by now. Nothing was written: once more, over a
                // connection that asks which server is not.
                Err(Error::Unavailable(why)) if why.ends_with(READ_ONLY) => {
                    self.pool.retain(|_, _| false);
                    self.write_once(&write, now).await
                }
                written => written,
            }
        })
    }

    fn watch(&self) -> watch::Receiver<()> {
        self.told.changed.subscribe()
    }

    fn unreadable(&self) -> BoxFuture<'_, Vec<Key>> {
        self.sealer.unreadable(self).boxed()
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Inventory, Error>> {
        read::inspect(&self.pool, &self.sealer).boxed()
    }
}
