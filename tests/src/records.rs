//! Configuration records, written straight into the store of a program that does not run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::clock::SystemClock;
use pomerium_api::config_records;
use pomerium_api::databroker::{Databroker, Query, Record};
use pomerium_api::records::{RecordMessage, from_record, to_record};
use pomerium_crypto::{encoding, kdf};
use pomerium_databroker::{AT_REST, FileStore, Server};
use serde_json::Value;

/// The shared secret of every environment of the tests.
const SHARED_SECRET: &str = "dGVzdHMgb25seTogdGhlIHNoYXJlZCBzZWNyZXQgISE=";

/// Writes `records` into the store of `data`, the data folder of a program.
///
/// # Errors
/// The store cannot be written, for instance because the program runs.
pub async fn write(data: &Path, records: Vec<Record>) -> Result<()> {
    let server = open(data)?;
    server.put(records).await?;
    server.close();
    Ok(())
}

/// Changes every record of a type in the store of `data`; returns how many there are.
///
/// # Errors
/// The store cannot be written, for instance because the program runs.
pub async fn edit<M: RecordMessage>(data: &Path, change: impl Fn(&mut M)) -> Result<usize> {
    let server = open(data)?;
    let mut changed = Vec::new();
    for record in server.query(Query::page(M::TYPE, 0, 1_000)).await?.records {
        let mut message: M = from_record(&record)?;
        change(&mut message);
        changed.push(to_record(&message));
    }
    let count = changed.len();
    server.put(changed).await?;
    server.close();
    Ok(count)
}

/// The store of `data` as the program opens it.
///
/// # Errors
/// The store cannot be opened, for instance because the program runs.
pub fn open(data: &Path) -> Result<Server<FileStore>> {
    let folder = data.join("databroker");
    std::fs::create_dir_all(&folder)?;
    let store = FileStore::open(&folder, &[at_rest()?])?;
    Ok(Server::new(store, Arc::new(SystemClock)))
}

/// What records of the environments of the tests are sealed with.
///
/// # Errors
/// Never in practice.
pub fn at_rest() -> Result<[u8; 32]> {
    Ok(kdf::derive(&shared_secret()?, AT_REST))
}

/// The shared secret of the environments of the tests.
///
/// # Errors
/// Never in practice.
pub fn shared_secret() -> Result<[u8; 32]> {
    encoding::base64_decode(SHARED_SECRET)?
        .try_into()
        .ok()
        .context("the shared secret has 32 bytes")
}

/// A record of the message `kind` (`Route`, `Policy`, …) with the fields of `message`.
///
/// # Errors
/// There is no such message or field.
pub fn record(kind: &str, id: &str, message: &Value) -> Result<Record> {
    Ok(config_records::from_json(kind, id, message)?)
}

/// Routes of a routing case, written as in a file, as one record each.
pub fn seed(data: PathBuf, routes: Vec<Value>) -> BoxFuture<'static, Result<()>> {
    async move {
        let records = routes.into_iter().enumerate().map(|(index, mut route)| {
            if let Some(to) = route.get_mut("to").filter(|to| to.is_string()) {
                *to = Value::Array(vec![to.take()]);
            }
            record("Route", &format!("record-{index:04}"), &route)
        });
        write(&data, records.collect::<Result<_>>()?).await
    }
    .boxed()
}
