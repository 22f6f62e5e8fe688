//! The store in PostgreSQL beside plain statements that put the same rows into the same tables: in turns, each batch
//! one transaction that is flushed to the disk.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use pomerium_api::clock::{Clock as _, SystemClock};
use pomerium_api::databroker::{Databroker, Record};
use pomerium_databroker::{PostgresStore, Server};
use pomerium_testing::Postgres;
use pomerium_tests::records;
use prost::Message;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Statement};

use super::sample::{Sample, mix};
use super::verdict;

/// Records of a batch.
const BATCH: usize = 100;
/// Batches of each kind, at most.
const BATCHES: usize = 300;
const INSERT_RECORDS: &str = "INSERT INTO inserted.records (type, id, version, modified_at, value)
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bytea[])";
const INSERT_CHANGES: &str = "INSERT INTO inserted.changes (version, type, modified_at, value)
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::bytea[])";
/// What sealing adds to a value, in bytes.
const SEAL: usize = 24 + 16;

/// Measures and returns the lines.
pub async fn run(sample: &Sample, records: usize) -> Result<String> {
    let batches = BATCHES.min(records / BATCH).max(1);
    // The servers of tests do without the disk.
    let server = Postgres::start_with(&["fsync=on"])?;
    let connection = server.connection("postgres");
    let store = PostgresStore::open(&connection, &[records::at_rest()?]).await?;
    let broker = Server::new(store, Arc::new(SystemClock));
    let (mut client, driver) = tokio_postgres::connect(&connection, NoTls).await?;
    let driver = tokio::spawn(driver);
    for schema in ["inserted", "copied"] {
        let tables = ["records", "changes"]
            .map(|table| format!("CREATE TABLE {schema}.{table} (LIKE pomerium_rs.{table} INCLUDING ALL);"));
        client
            .batch_execute(&format!("CREATE SCHEMA {schema}; {}", tables.concat()))
            .await?;
    }
    let statements = [
        client.prepare(INSERT_RECORDS).await?,
        client.prepare(INSERT_CHANGES).await?,
    ];
    let [mut ours, mut inserted, mut copied] = [0.0; 3];
    for batch in 0..batches {
        let sessions: Vec<_> = (0..BATCH).map(|at| sample.session(batch * BATCH + at)).collect();
        let rows = Rows::of(&sessions, batch);
        inserted += rows.insert(&mut client, &statements).await?;
        copied += rows.copy(&mut client).await?;
        let begin = Instant::now();
        broker.put(sessions).await?;
        ours += begin.elapsed().as_secs_f64();
    }
    drop(client);
    driver.await??;
    let mut text = String::new();
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let rate = (BATCH * batches) as f64 / ours;
    let (insert, copy) = (ours / inserted, ours / copied);
    let _ = writeln!(
        text,
        "- PostgreSQL, puts in batches of {BATCH}: {rate:.0} records/s, {insert:.2} × the time of the same rows by \
         multi-insert, {copy:.2} × by COPY; goal at most 1.5 ×: {}",
        verdict(insert.min(copy) <= 1.5)
    );
    Ok(text)
}

/// A batch as rows.
struct Rows {
    types: Vec<String>,
    ids: Vec<String>,
    versions: Vec<i64>,
    times: Vec<SystemTime>,
    values: Vec<Vec<u8>>,
}

impl Rows {
    /// With values of the length of sealed ones, which no server can compress either.
    fn of(records: &[Record], batch: usize) -> Self {
        let first = i64::try_from(batch * BATCH).unwrap_or_default();
        let value = |record: &Record| -> Vec<u8> {
            let length = record.encoded_len() + SEAL;
            (0..length).map(|at| mix(at as u64).to_le_bytes()[0]).collect()
        };
        Self {
            types: records.iter().map(|record| record.r#type.clone()).collect(),
            ids: records.iter().map(|record| record.id.clone()).collect(),
            versions: (first..).take(records.len()).collect(),
            times: vec![SystemTime::from(SystemClock.now()); records.len()],
            values: records.iter().map(value).collect(),
        }
    }

    /// Seconds.
    async fn insert(&self, client: &mut Client, [records, changes]: &[Statement; 2]) -> Result<f64> {
        let begin = Instant::now();
        let transaction = client.transaction().await?;
        let values: [&(dyn ToSql + Sync); 5] =
            [&self.types, &self.ids, &self.versions, &self.times, &self.values];
        transaction.execute(records, &values).await?;
        let values: [&(dyn ToSql + Sync); 4] = [&self.versions, &self.types, &self.times, &self.values];
        transaction.execute(changes, &values).await?;
        transaction.commit().await?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// Seconds.
    async fn copy(&self, client: &mut Client) -> Result<f64> {
        let begin = Instant::now();
        let transaction = client.transaction().await?;
        let sink = transaction
            .copy_in("COPY copied.records (type, id, version, modified_at, value) FROM STDIN BINARY")
            .await?;
        let columns = [Type::TEXT, Type::TEXT, Type::INT8, Type::TIMESTAMPTZ, Type::BYTEA];
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &columns));
        for at in 0..self.ids.len() {
            writer
                .as_mut()
                .write(&[
                    &self.types[at],
                    &self.ids[at],
                    &self.versions[at],
                    &self.times[at],
                    &self.values[at],
                ])
                .await?;
        }
        writer.finish().await?;
        let sink = transaction
            .copy_in("COPY copied.changes (version, type, modified_at, value) FROM STDIN BINARY")
            .await?;
        let columns = [Type::INT8, Type::TEXT, Type::TIMESTAMPTZ, Type::BYTEA];
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &columns));
        for at in 0..self.ids.len() {
            writer
                .as_mut()
                .write(&[
                    &self.versions[at],
                    &self.types[at],
                    &self.times[at],
                    &self.values[at],
                ])
                .await?;
        }
        writer.finish().await?;
        transaction.commit().await?;
        Ok(begin.elapsed().as_secs_f64())
    }
}
