//! Records in PostgreSQL: one database for several databrokers.
//!
//! Every write takes the one row of `about`, so that versions are given out in the order of the commits and no reader ever
//! meets a gap. What a write means is said in `apply`, as for every store: `write` reads what it may touch,
//! lets it work on that, and writes what came of it in a few statements. `connect` is how to reach the
//! server, `migrate` the layout, `listen` how writes of other databrokers become known.
//!
//! Record contents are sealed as in the file store; types, ids, versions and times are not.

mod connect;
mod listen;
mod migrate;
mod overlay;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use deadpool_postgres::{Object, Pool};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Options, Page, Query, Record, Versions};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use self::connect::ConnectError;
use self::connect::Target;
pub use self::migrate::MigrateError;
use crate::query;
use crate::seal::Sealer;
use crate::store::{Changes, Counters, Records, Store, Write, Written};

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
    sealer: Arc<Sealer>,
    changed: watch::Sender<()>,
    listener: AbortHandle,
}

impl PostgresStore {
    /// Opens the store at `connection` (a URI or keywords and values, as libpq reads them), and makes its tables if
    /// they are not there. The first of `keys` seals record contents, each of them opens.
    ///
    /// Must be called within a tokio runtime.
    pub async fn open(connection: &str, keys: &[[u8; 32]]) -> Result<Self, OpenError> {
        let target = Target::parse(connection)?;
        let sealer = Arc::new(Sealer::new(keys));
        let pool = target.pool()?;
        let server = |problem: String| OpenError::Server {
            place: target.place().to_owned(),
            problem,
        };
        let mut first = pool.get().await.map_err(|error| server(said(&error)))?;
        migrate::run(&mut first, &sealer).await?;
        drop(first);
        let changed = watch::Sender::new(());
        let listener = tokio::spawn(listen::run(target, pool.clone(), changed.clone()));
        Ok(Self {
            pool,
            sealer,
            changed,
            listener: listener.abort_handle(),
        })
    }

    async fn connection(&self) -> Result<Object, Error> {
        self.pool.get().await.map_err(|error| unavailable(&error))
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.listener.abort();
        self.pool.close();
    }
}

/// What went wrong, with what the server says about it.
fn said(error: &dyn std::error::Error) -> String {
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

fn unavailable(error: &dyn std::error::Error) -> Error {
    Error::Unavailable(format!("PostgreSQL: {}", said(error)))
}

impl Store for PostgresStore {
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>> {
        async { read::counters(&**self.connection().await?).await }.boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        async move { read::get(&self.connection().await?, &self.sealer, record_type, id).await }.boxed()
    }

    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>> {
        query::scan(self, query).boxed()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        async { read::types(&self.connection().await?).await }.boxed()
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        async move { read::options(&**self.connection().await?, record_type).await }.boxed()
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
        async move {
            let mut connection = self.connection().await?;
            read::changes(&mut connection, &self.sealer, record_type, from, limit).await
        }
        .boxed()
    }

    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
        async move {
            let mut connection = self.connection().await?;
            let written = write::run(&mut connection, &self.sealer, &write, now).await;
            if written.is_ok() {
                self.changed.send_replace(());
            }
            written
        }
        .boxed()
    }

    fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
