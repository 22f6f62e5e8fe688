//! What every store must do under the server (spec databroker.md 18). Each store's tests name the suite
//! with [`conformance!`]; a new store gets all of it by one line.
//!
//! The list of that section, and where each line of it is tested:
//!
//! | line | test |
//! |---|---|
//! | A1 | `unknown_record_is_not_found` |
//! | A2, A14 | `put_assigns_versions_and_times` |
//! | A3 | `a_stream_that_ends_tells_everything_so_far`, `deleting_what_is_not_there_changes_nothing` |
//! | A4 | `the_last_three_of_ten_are_kept`, `the_oldest_make_room`, `a_capacity_set_late_is_reached_in_portions` |
//! | A5 | `one_holds_a_lease` |
//! | A6 | `latest_gives_each_record_once_in_order` |
//! | A7 | `sync_goes_on_with_what_comes`, `slow_readers_miss_nothing`, `latest_and_sync_leave_no_gap` |
//! | A8 | `types_are_those_with_records` |
//! | A9 | `a_patch_changes_what_it_names` |
//! | A10 | `patches_lose_no_update`, `replace_loses_no_update` |
//! | A11 | `odd_records_are_kept` |
//! | A12 | `reads_and_writes_run_side_by_side` |
//! | A13 | `types_are_told_while_records_come` |
//! | A15 | `options_are_kept_and_forgotten` |
//! | A16 | `records_expire`, `many_records_expire`, `capacity_and_time_go_together` |
//! | A17 | `closing_ends_the_streams`, `dropping_the_server_ends_the_streams` |
//! | B1, B3, B4 | `declared_fields_can_be_filtered` |
//! | B2, B5, B6 | `an_index_follows_its_records` |
//! | C | `filters_find_what_they_name`, `each_address_finds_its_network`, `filters_go_across_types`, `list_pages_literally` |
//! | D | `an_empty_database_has_a_name`, `old_changes_are_forgotten`, `a_thousand_changes_are_told_until_they_are_old` |
//! | E | `clear_starts_a_new_database` (a checkpoint follows the database: `grpc::standby_tests`) |
//! | F | with the registry |
//! | G | `a_thousand_changes_are_told_until_they_are_old` |
//! | H | `postgres::troubles::writes_of_several_databrokers_do_not_lock_each_other_out`; record contents are bytes here, so that unknown types need nothing (`odd_records_are_kept`), and filters are those of every store |
//! | I | `grpc::tests`: this suite over the network, and tokens |
//! | J | `cluster::tests`, `grpc::standby_tests` |
//! | K, L | with the configuration service, and in `pomerium-api` |
#![allow(
    clippy::cognitive_complexity,
    reason = "each test is one story of many steps, told in order"
)]

mod following;
mod keeping;
pub(crate) mod queries;
mod records;
mod registry;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, future};
use jiff::Timestamp;
use pomerium_api::clock::ManualClock;
use pomerium_api::databroker::{
    Databroker, Error, Filter, Latest, LeaseRequest, Options, Query, Record, RecordStream, Service, Versions,
};
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage, from_record, to_record};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Any, Struct};

pub(crate) use self::following::*;
pub(crate) use self::keeping::*;
pub(crate) use self::queries::*;
pub(crate) use self::records::*;
pub(crate) use self::registry::*;
pub(crate) use self::walk::*;
use crate::{RETENTION, Server, Store};

pub(crate) const CATS: &str = "example.com/cat";
pub(crate) const DOGS: &str = "example.com/dog";

/// The server under test, the way to it, and the clock it goes by.
pub(crate) struct Subject<S> {
    pub(crate) server: Arc<Server<S>>,
    pub(crate) broker: Arc<dyn Databroker>,
    pub(crate) clock: ManualClock,
}

impl<S: Store> Subject<S> {
    pub(crate) fn new(store: S) -> Self {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH + RETENTION * 10);
        let server = Arc::new(Server::new(store, Arc::new(clock.clone())));
        Self {
            broker: Arc::clone(&server) as Arc<dyn Databroker>,
            server,
            clock,
        }
    }

    async fn put(&self, record: Record) -> Record {
        self.broker.put(vec![record]).await.unwrap().records.remove(0)
    }

    async fn sync_from(&self, record_type: &str, version: u64) -> RecordStream<Record> {
        let server_version = self.broker.versions().await.unwrap().server_version;
        let from = Versions {
            server_version,
            latest_record_version: version,
        };
        self.broker.sync(record_type, from).await.unwrap()
    }

    async fn resync(&self, from: Versions) -> bool {
        matches!(self.broker.sync("", from).await, Err(Error::Resync))
    }
}

pub(crate) fn record(record_type: &str, id: &str, data: &str) -> Record {
    Record {
        r#type: record_type.into(),
        id: id.into(),
        data: Some(Any {
            type_url: record_type.into(),
            value: data.as_bytes().to_vec(),
        }),
        ..Record::default()
    }
}

pub(crate) fn deletion(record_type: &str, id: &str) -> Record {
    let deleted_at = Some(prost_types::Timestamp::default());
    Record {
        r#type: record_type.into(),
        id: id.into(),
        deleted_at,
        ..Record::default()
    }
}

/// A page of a type.
pub(crate) fn of(record_type: &str, offset: u64, limit: u64) -> Query {
    Query {
        record_type: record_type.into(),
        offset,
        limit,
        ..Query::default()
    }
}

pub(crate) async fn all_latest(server: &dyn Databroker, record_type: &str) -> (Vec<Record>, Versions) {
    let (mut records, mut versions) = (Vec::new(), Vec::new());
    let mut stream = server.sync_latest(record_type).await.unwrap();
    while let Some(item) = stream.next().await {
        match item.unwrap() {
            Latest::Record(record) => {
                assert!(versions.is_empty(), "a record came after the versions");
                records.push(record);
            }
            Latest::Versions(at) => versions.push(at),
        }
    }
    assert_eq!(versions.len(), 1);
    (records, versions.remove(0))
}

fn data(record: &Record) -> &str {
    std::str::from_utf8(&record.data.as_ref().unwrap().value).unwrap()
}

pub(crate) fn session(id: &str, user_id: &str) -> Record {
    to_record(&Session {
        id: id.into(),
        user_id: user_id.into(),
        ..Session::default()
    })
}

pub(crate) async fn lease<S: Store>(subject: &Subject<S>, id: Option<&str>) -> Option<String> {
    let request = LeaseRequest {
        name: "job".into(),
        ttl: Duration::from_secs(30),
        id: id.map(str::to_owned),
    };
    subject.broker.lease(request).await.unwrap()
}

/// Runs the whole suite over the store that `$make` gives, with a guard kept while it is in use; with `subject:`, over a
/// [`Subject`] with its guard.
macro_rules! conformance {
    (subject: $subject:expr) => {
        $crate::conformance::conformance! { $subject =>
            unknown_record_is_not_found
            put_assigns_versions_and_times
            odd_records_are_kept
            names_that_not_every_store_keeps_are_refused
            a_put_is_all_or_nothing
            a_patch_makes_no_record_too_large
            a_deletion_leaves_a_tombstone
            deleting_what_is_not_there_changes_nothing
            latest_gives_each_record_once_in_order
            list_pages_literally
            sync_goes_on_with_what_comes
            sync_of_one_type_skips_the_others
            every_change_of_one_record_is_told
            slow_readers_miss_nothing
            latest_and_sync_leave_no_gap
            replace_needs_the_version_read
            replace_loses_no_update
            one_of_many_creates_a_record
            a_place_in_the_log_must_be_known
            only_history_is_forgotten
            clear_starts_a_new_database
            one_holds_a_lease
            a_lease_may_last_for_ever
            services_outlive_a_clear
            services_are_known_while_they_report
            watchers_are_told_of_services
            a_patch_changes_what_it_names
            patches_lose_no_update
            options_are_kept_and_forgotten
            the_oldest_make_room
            records_expire
            many_records_expire
            a_capacity_set_late_is_reached_in_portions
            types_are_those_with_records
            filters_find_what_they_name
            each_address_finds_its_network
            declared_fields_can_be_filtered
            declared_fields_do_not_depend_on_each_other
            declared_fields_lead_into_maps
            leases_that_ended_long_ago_are_free
            texts_can_be_looked_for
            reads_and_writes_run_side_by_side
            a_stream_that_ends_tells_everything_so_far
            the_last_three_of_ten_are_kept
            types_are_told_while_records_come
            capacity_and_time_go_together
            an_index_follows_its_records
            filters_go_across_types
            an_empty_database_has_a_name
            large_records_come_in_portions
            a_thousand_changes_are_told_until_they_are_old
        }
    };
    ($subject:expr => $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (subject, _guard) = $subject;
                $crate::conformance::$name(subject).await;
            }
        )*
    };
    ($make:expr) => {
        $crate::conformance::conformance! { subject: {
            let (store, guard) = $make;
            ($crate::conformance::Subject::new(store), guard)
        } }
        // These need streams that nothing is read from ahead.
        $crate::conformance::conformance! { {
            let (store, guard) = $make;
            ($crate::conformance::Subject::new(store), guard)
        } =>
            old_changes_are_forgotten
            closing_ends_the_streams
            dropping_the_server_ends_the_streams
        }
    };
}
pub(crate) use conformance;
