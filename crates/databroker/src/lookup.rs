//! Which records a query can find, by the networks they stand for and by declared fields (spec databroker.md 6.3, 6.4), so that
//! not every record has to be looked at. Made for a type when it is first asked about, and carried forward by the change
//! log with each question: what is not asked about costs nothing, and what a store holds has one truth only.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::StreamExt;
use ipnet::IpNet;
use parking_lot::Mutex;
use pomerium_api::databroker::{Error, Filter, Query, Record, Versions};
use tokio::sync::Mutex as AsyncMutex;

use crate::query::{self, Fields, INDEX};
use crate::store::{Key, Standing, Store};

/// How many changes are read in one go.
const CHUNK: usize = 64;
/// More candidates than this are not read one by one.
const MOST: usize = 1000;
/// More types than this are not kept in mind.
const MOST_TYPES: usize = 1000;

/// Records to be looked at.
pub(crate) struct Candidates {
    /// Where the store stood before they were looked for: who follows it from there misses none.
    pub(crate) versions: Versions,
    pub(crate) keys: BTreeSet<Key>,
}

/// What is known of each type that was asked about.
#[derive(Default)]
pub(crate) struct Lookup(Mutex<HashMap<String, Arc<AsyncMutex<OfType>>>>);

impl Lookup {
    /// All records that match and perhaps some that do not; `None` when every one has to be looked at.
    pub(crate) async fn candidates(
        &self,
        store: &impl Store,
        query: &Query,
    ) -> Result<Option<Candidates>, Error> {
        let fields = match store.finds_any_field() {
            true => Fields::of(store, &query.record_type).await?,
            false => Fields::default(),
        };
        if !query::is_narrowed(&query.filter, &fields) {
            return Ok(None);
        }
        let counters = store.counters().await?;
        if counters.standing != Standing::Own {
            return Ok(None);
        }
        let types = match query.record_type.as_str() {
            "" => store.types().await?,
            record_type => vec![record_type.to_owned()],
        };
        let mut all = BTreeSet::new();
        for record_type in types {
            let of_type = self.of_type(&record_type);
            let mut of_type = of_type.lock().await;
            match of_type.catch_up(store, &record_type).await {
                // Cleared meanwhile, or a change cannot be read.
                Err(Error::Resync | Error::Damaged(_)) => return Ok(None),
                caught_up => caught_up?,
            }
            // Across types, nothing is declared.
            let declared = !query.record_type.is_empty();
            let Some(ids) = of_type.find(&query.filter, declared) else {
                return Ok(None);
            };
            all.extend(ids.into_iter().map(|id| (record_type.clone(), id)));
        }
        let found = Candidates {
            versions: counters.versions(),
            keys: all,
        };
        Ok(Some(found).filter(|found| found.keys.len() <= MOST))
    }

    fn of_type(&self, record_type: &str) -> Arc<AsyncMutex<OfType>> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(record_type) {
            return Arc::clone(known);
        }
        if all.len() >= MOST_TYPES {
            all.clear();
        }
        Arc::clone(all.entry(record_type.to_owned()).or_default())
    }
}

/// What a record is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Mark {
    Network(IpNet),
    /// A declared field and what it says.
    Field(String, String),
}

/// The records of a type.
#[derive(Default)]
struct OfType {
    /// `None` when nothing was read yet.
    at: Option<Versions>,
    fields: Fields,
    ids: HashMap<Mark, BTreeSet<String>>,
    marks: HashMap<String, Vec<Mark>>,
}

impl OfType {
    async fn catch_up(&mut self, store: &impl Store, record_type: &str) -> Result<(), Error> {
        let fields = Fields::of(store, record_type).await?;
        if self.fields != fields {
            self.at = None;
            self.fields = fields;
        }
        if let Some(at) = self.at {
            if at == store.counters().await?.versions() {
                return Ok(());
            }
            match self.follow(store, record_type, at).await {
                Err(Error::Resync | Error::Damaged(_) | Error::Invalid(_)) => {}
                done => return done,
            }
        }
        self.begin(store, record_type).await
    }

    async fn begin(&mut self, store: &impl Store, record_type: &str) -> Result<(), Error> {
        (self.at, self.ids, self.marks) = Default::default();
        let (versions, mut records) = store.latest(record_type).await?;
        while let Some(record) = records.next().await {
            let record = record?;
            // To ask for the empty type is to ask for all of them.
            if record.r#type == record_type {
                self.insert(&record);
            }
        }
        self.follow(store, record_type, versions).await
    }

    /// Up to where the store stands now.
    async fn follow(&mut self, store: &impl Store, record_type: &str, mut at: Versions) -> Result<(), Error> {
        let until = store.counters().await?.latest;
        loop {
            let changes = store.changes(record_type, at, CHUNK).await?;
            for record in changes
                .records
                .iter()
                .filter(|record| record.r#type == record_type)
            {
                self.remove(&record.id);
                if record.deleted_at.is_none() {
                    self.insert(record);
                }
            }
            let before = at.latest_record_version;
            at.latest_record_version = changes.seen;
            self.at = Some(at);
            if changes.seen >= until || changes.seen == before {
                return Ok(());
            }
        }
    }

    fn insert(&mut self, record: &Record) {
        let marks = marks(record, &self.fields);
        if marks.is_empty() {
            return;
        }
        for mark in &marks {
            self.ids
                .entry(mark.clone())
                .or_default()
                .insert(record.id.clone());
        }
        self.marks.insert(record.id.clone(), marks);
    }

    fn remove(&mut self, id: &str) {
        for mark in self.marks.remove(id).unwrap_or_default() {
            if let Some(ids) = self.ids.get_mut(&mark) {
                ids.remove(id);
                if ids.is_empty() {
                    self.ids.remove(&mark);
                }
            }
        }
    }

    /// The ids of all records that the filter lets pass, and perhaps of others; `None` when that cannot be told.
    fn find(&self, filter: &Filter, declared: bool) -> Option<BTreeSet<String>> {
        match filter {
            Filter::And(all) => {
                let found = all.iter().filter_map(|filter| self.find(filter, declared));
                found.min_by_key(BTreeSet::len)
            }
            Filter::Or(any) => {
                let found: Option<Vec<_>> = any.iter().map(|filter| self.find(filter, declared)).collect();
                Some(found?.into_iter().flatten().collect())
            }
            Filter::Not(_) => None,
            Filter::Equals { field, value } => match field.as_str() {
                "id" => Some(BTreeSet::from([value.clone()])),
                "type" => None,
                INDEX => Some(
                    query::wanted(value)
                        .map(|wanted| self.around(wanted))
                        .unwrap_or_default(),
                ),
                // Nobody has looked what they say there.
                _ if self.fields.any && !(declared && self.fields.declares(field)) => None,
                _ if !declared || !self.fields.declares(field) => Some(BTreeSet::new()),
                _ => Some(
                    self.of(&Mark::Field(field.clone(), value.clone()))
                        .cloned()
                        .collect(),
                ),
            },
        }
    }

    /// The records of every network that holds `wanted`.
    fn around(&self, wanted: IpNet) -> BTreeSet<String> {
        let networks = (0..=wanted.prefix_len()).filter_map(|length| IpNet::new(wanted.addr(), length).ok());
        networks
            .flat_map(|network| self.of(&Mark::Network(network.trunc())))
            .cloned()
            .collect()
    }

    fn of<'s>(&'s self, mark: &Mark) -> impl Iterator<Item = &'s String> + use<'s> {
        self.ids.get(mark).into_iter().flatten()
    }
}

fn marks(record: &Record, fields: &Fields) -> Vec<Mark> {
    let fields = fields
        .said(record)
        .into_iter()
        .map(|(field, value)| Mark::Field(field, value));
    query::network(record)
        .map(Mark::Network)
        .into_iter()
        .chain(fields)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pomerium_api::clock::ManualClock;
    use pomerium_api::databroker::{Databroker, Options};
    use pomerium_api::pb::session::Session;
    use pomerium_api::records::{RecordMessage, to_record};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::conformance::queries::network;
    use crate::conformance::{deletion, record};
    use crate::{MemoryStore, RETENTION, Server};

    const NETWORKS: [&str; 6] = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.1.2.3/32",
        "0.0.0.0/0",
        "2001:db8::/32",
    ];
    const ADDRESSES: [&str; 6] = [
        "10.1.2.3",
        "10.1.9.9",
        "192.0.2.1",
        "10.1.0.0/20",
        "2001:db8::1",
        "nonsense",
    ];
    const OTHER: &str = "example.com/Other";

    #[derive(Debug, Clone)]
    enum Step {
        Network(&'static str, u8, &'static str),
        Session(u8, u8),
        Plain(&'static str, u8),
        Delete(&'static str, u8),
        Declare(bool),
        Clear,
        Forget,
        Ask(bool, Filter),
    }

    fn types() -> impl Strategy<Value = &'static str> {
        select(vec![Session::TYPE, OTHER, ""])
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let simple = prop_oneof![
            (0..4_u8).prop_map(|id| Filter::equals("id", id.to_string())),
            types().prop_map(|name| Filter::equals("type", name)),
            select(ADDRESSES.to_vec()).prop_map(|address| Filter::equals(INDEX, address)),
            (0..3_u8).prop_map(|user| Filter::equals("user_id", user.to_string())),
        ];
        simple.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Filter::And),
                vec(inner.clone(), 0..3).prop_map(Filter::Or),
                inner.prop_map(|inner| Filter::Not(Box::new(inner))),
            ]
        })
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (types(), 0..4_u8, select(NETWORKS.to_vec())).prop_map(|(name, id, net)| Step::Network(name, id, net)),
            3 => (0..4_u8, 0..3_u8).prop_map(|(id, user)| Step::Session(id, user)),
            1 => (types(), 0..4_u8).prop_map(|(name, id)| Step::Plain(name, id)),
            2 => (types(), 0..4_u8).prop_map(|(name, id)| Step::Delete(name, id)),
            1 => any::<bool>().prop_map(Step::Declare),
            1 => Just(Step::Clear),
            1 => Just(Step::Forget),
            6 => (any::<bool>(), filters()).prop_map(|(typed, filter)| Step::Ask(typed, filter)),
        ]
    }

    async fn take(server: &Server<MemoryStore>, clock: &ManualClock, step: Step) {
        let put = |record| async move { server.put(vec![record]).await.map(drop).unwrap() };
        match step {
            Step::Network(name, id, net) => put(network(name, &id.to_string(), net)).await,
            Step::Session(id, user) => {
                put(to_record(&Session {
                    id: id.to_string(),
                    user_id: user.to_string(),
                    ..Session::default()
                }))
                .await;
            }
            Step::Plain(name, id) => put(record(name, &id.to_string(), "x")).await,
            Step::Delete(name, id) => put(deletion(name, &id.to_string())).await,
            Step::Declare(declared) => {
                let options = Options {
                    indexable_fields: Vec::from_iter(declared.then(|| "user_id".to_owned())),
                    ..Options::default()
                };
                server.set_options(Session::TYPE.into(), options).await.unwrap();
            }
            Step::Clear => drop(server.clear().await.unwrap()),
            Step::Forget => {
                clock.advance(RETENTION + Duration::from_secs(1));
                server.clean().await.unwrap();
            }
            Step::Ask(typed, filter) => {
                let query = Query {
                    record_type: if typed {
                        Session::TYPE.into()
                    } else {
                        String::new()
                    },
                    filter,
                    limit: 100,
                    ..Query::default()
                };
                let wanted = query::scan(server.store(), &query).await.unwrap();
                assert_eq!(server.query(query.clone()).await.unwrap(), wanted, "{query:?}");
            }
        }
    }

    proptest! {
        /// What is found is what a look at every record finds.
        #[test]
        fn nothing_is_missed(steps in vec(steps(), 1..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH + RETENTION * 10);
            let server = Server::new(MemoryStore::new(), Arc::new(clock.clone()));
            runtime.block_on(async {
                for step in steps {
                    take(&server, &clock, step).await;
                }
            });
        }
    }

    /// Only what may match is read.
    #[tokio::test]
    async fn candidates_are_few() {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let server = Server::new(MemoryStore::new(), Arc::new(clock));
        for number in 0..100 {
            let net = format!("10.0.{number}.0/24");
            server
                .put(vec![network(OTHER, &number.to_string(), &net)])
                .await
                .unwrap();
        }
        let lookup = Lookup::default();
        let query = |record_type: &str, filter| Query {
            record_type: record_type.into(),
            filter,
            ..Query::default()
        };
        let either = Filter::Or(vec![Filter::equals("id", "7"), Filter::equals(INDEX, "10.0.5.1")]);
        for name in [OTHER, ""] {
            let found = lookup
                .candidates(server.store(), &query(name, either.clone()))
                .await
                .unwrap();
            let found: Vec<String> = found.unwrap().keys.into_iter().map(|(_, id)| id).collect();
            assert_eq!(found, ["5", "7"]);
        }
        let all = lookup
            .candidates(server.store(), &query(OTHER, Filter::default()))
            .await
            .unwrap();
        assert!(all.is_none());
    }
}
