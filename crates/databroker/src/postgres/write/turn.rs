//! A transaction whose statements are sent one behind another, without waiting for the answers in between. The server
//! carries them out in order, and none after one that failed.

use deadpool_postgres::ClientWrapper;
use futures_util::future::{BoxFuture, FutureExt, TryFutureExt, ready};
use pomerium_api::databroker::Error;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error as ServerError, Statement};

use crate::postgres::unavailable;

/// Begins a transaction.
pub(super) const BEGIN: &str = "BEGIN";
/// Ends one. After a statement that failed it ends without effect, and the server calls that no error: the answers to all
/// statements before it must be looked at.
pub(super) const COMMIT: &str = "COMMIT";

/// A transaction that is to be begun; it is rolled back unless it [has ended](Self::ended).
pub(super) struct Turn<'c> {
    client: &'c ClientWrapper,
    open: bool,
}

impl<'c> Turn<'c> {
    pub(super) fn new(client: &'c ClientWrapper) -> Self {
        Self { client, open: true }
    }

    /// It is committed.
    pub(super) fn ended(mut self) {
        self.open = false;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.open {
            // Sent when it is asked for first. Whoever has the connection next comes behind it.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

/// A value of a statement.
pub(super) type Value<'v> = Box<dyn ToSql + Sync + Send + 'v>;

/// Statements that were sent.
pub(super) struct Sent<'c> {
    client: &'c ClientWrapper,
    answers: Vec<BoxFuture<'c, Result<(), ServerError>>>,
}

impl<'c> Sent<'c> {
    pub(super) fn new(client: &'c ClientWrapper) -> Self {
        Self {
            client,
            answers: Vec::new(),
        }
    }

    /// Sends a statement, once the server has prepared it.
    pub(super) async fn execute(&mut self, statement: &str, values: Vec<Value<'c>>) -> Result<(), Error> {
        let client = self.client;
        let statement = prepared(client, statement).await?;
        self.send(async move {
            let values: Vec<_> = values
                .iter()
                .map(|value| &**value as &(dyn ToSql + Sync))
                .collect();
            client.execute(&statement, &values).await
        });
        Ok(())
    }

    /// Sends statements without values.
    pub(super) fn say(&mut self, statements: &'c str) {
        self.send(self.client.batch_execute(statements));
    }

    /// The driver sends a statement when it is asked for the first time.
    fn send<T: 'c>(&mut self, statement: impl Future<Output = Result<T, ServerError>> + Send + 'c) {
        let mut statement = statement.map_ok(drop).boxed();
        let answer = (&mut statement).now_or_never();
        self.answers.push(match answer {
            Some(answer) => ready(answer).boxed(),
            None => statement,
        });
    }

    /// Waits for all answers. Errors with the first that is an error.
    pub(super) async fn answers(self) -> Result<(), Error> {
        for answer in self.answers {
            answer.await.map_err(|error| unavailable(&error))?;
        }
        Ok(())
    }
}

/// A statement that the server knows; it is asked to learn it once for each connection.
pub(super) async fn prepared(client: &ClientWrapper, statement: &str) -> Result<Statement, Error> {
    let statement = client.prepare_cached(statement).await;
    statement.map_err(|error| unavailable(&error))
}
