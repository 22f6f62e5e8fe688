//! Answering queries by looking at records (spec databroker.md 3.2, 6): at every one of the type, or at those that
//! [`Lookup`](crate::lookup::Lookup) names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::StreamExt;
use ipnet::IpNet;
use pomerium_api::databroker::{Error, Filter, Page, Query, Record, Versions};
use pomerium_api::described;
use prost_types::value::Kind;
use prost_types::{Any, Struct, Value};

use crate::limits;
use crate::lookup::Candidates;
use crate::store::Store;

/// Fields that need no declaration.
const ALWAYS: [&str; 3] = ["id", "type", INDEX];
/// The pseudo field of the networks a record stands for.
pub(crate) const INDEX: &str = "$index";

/// The matching records of `store`, after a look at every one of the type.
pub(crate) async fn scan(store: &impl Store, query: &Query) -> Result<Page, Error> {
    let (versions, mut records) = store.latest(&query.record_type).await?;
    let judge = Judge::new(store, query).await?;
    let mut found = Vec::new();
    while let Some(record) = records.next().await {
        found.extend(Some(record?).filter(|record| judge.matches(record)));
    }
    Ok(judge.page(found, versions))
}

/// The matching records among these.
pub(crate) async fn among(
    store: &impl Store,
    query: &Query,
    Candidates { versions, keys }: Candidates,
) -> Result<Page, Error> {
    let judge = Judge::new(store, query).await?;
    let mut found = Vec::new();
    // Somebody may ask for an id that no record can have.
    let possible = keys
        .into_iter()
        .filter(|(record_type, id)| limits::key(record_type, id).is_ok());
    for (record_type, id) in possible {
        let record = match store.get(&record_type, &id).await {
            // Left out, as by a look at every record.
            Err(Error::Damaged(_)) => continue,
            record => record?,
        };
        found.extend(record.filter(|record| judge.matches(record)));
    }
    Ok(judge.page(found, versions))
}

/// Whether the filter names something that few records have, and that is known without looking at them.
pub(crate) fn is_narrowed(filter: &Filter, fields: &Fields) -> bool {
    match filter {
        Filter::And(all) => all.iter().any(|filter| is_narrowed(filter, fields)),
        Filter::Or(any) => any.iter().all(|filter| is_narrowed(filter, fields)),
        Filter::Not(_) => false,
        Filter::Equals { field, .. } => match field.as_str() {
            "type" => false,
            "id" | INDEX => true,
            _ => !fields.any || fields.declares(field),
        },
    }
}

/// The fields that the records of a type are found by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Those that were declared.
    pub(crate) declared: Vec<String>,
    /// Whether those that were not are looked for as well.
    pub(crate) any: bool,
}

impl Fields {
    /// Those of a type; across types, nothing is declared.
    pub(crate) async fn of(store: &impl Store, record_type: &str) -> Result<Self, Error> {
        let options = match record_type {
            "" => None,
            record_type => store.options(record_type).await?,
        };
        Ok(Self {
            declared: options
                .map(|options| options.indexable_fields)
                .unwrap_or_default(),
            any: store.finds_any_field(),
        })
    }

    pub(crate) fn declares(&self, field: &str) -> bool {
        self.declared.iter().any(|declared| declared == field)
    }

    /// What a record can be found by, of the fields that were declared.
    pub(crate) fn said(&self, record: &Record) -> Vec<(String, String)> {
        let mut said = declared_fields(record, &self.declared);
        if self.any {
            let found = self.declared.iter().filter_map(|field| {
                let text = described::text_at(record.data.as_ref()?, field)?;
                Some((field.clone(), text))
            });
            said.extend(found);
        }
        said
    }

    /// Whether a record is found by this field and value.
    fn equals(&self, field: &str, value: &str, record: &Record) -> bool {
        let is_said = self.declares(field)
            && declared_fields(record, &self.declared)
                .iter()
                .any(|(name, said)| name == field && said == value);
        let is_there = || {
            let data = record.data.as_ref();
            data.and_then(|data| described::text_at(data, field)).as_deref() == Some(value)
        };
        is_said || self.any && is_there()
    }
}

/// A query made ready.
struct Judge<'q> {
    query: &'q Query,
    text: String,
    fields: Fields,
}

impl<'q> Judge<'q> {
    async fn new(store: &impl Store, query: &'q Query) -> Result<Self, Error> {
        Ok(Self {
            query,
            text: query.text.to_lowercase(),
            fields: Fields::of(store, &query.record_type).await?,
        })
    }

    fn matches(&self, record: &Record) -> bool {
        let has_text = || {
            let data = record.data.as_ref();
            self.text.is_empty() || data.is_some_and(|data| described::contains_text(data, &self.text))
        };
        let around = |value: &str| network(record).is_some_and(|network| holds_address(network, value));
        self.holds(&self.query.filter, record, &around) && has_text()
    }

    /// Whether a record passes, where `stands_for` tells if it stands for an address that is asked for.
    fn holds(&self, filter: &Filter, record: &Record, stands_for: &dyn Fn(&str) -> bool) -> bool {
        match filter {
            Filter::And(all) => all.iter().all(|filter| self.holds(filter, record, stands_for)),
            Filter::Or(any) => any.iter().any(|filter| self.holds(filter, record, stands_for)),
            Filter::Not(inner) => !self.holds(inner, record, stands_for),
            Filter::Equals { field, value } if field == INDEX => stands_for(value),
            Filter::Equals { field, value } => self.equals(field, value, record),
        }
    }

    fn equals(&self, field: &str, value: &str, record: &Record) -> bool {
        match field {
            "id" => record.id == value,
            "type" => record.r#type == value,
            _ => self.fields.equals(field, value, record),
        }
    }

    /// The page that was asked for of those that match.
    fn page(&self, mut found: Vec<Record>, versions: Versions) -> Page {
        self.keep_most_specific(&mut found);
        let total = found.len() as u64;
        let [offset, limit] =
            [self.query.offset, self.query.limit].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        Page {
            records: found.into_iter().skip(offset).take(limit).collect(),
            total,
            versions,
        }
    }

    /// Of records that match by their network alone, those with the longest prefix stay, for each address that is asked for.
    fn keep_most_specific(&self, found: &mut Vec<Record>) {
        let filter = &self.query.filter;
        let mut longest = BTreeMap::new();
        addresses(filter, &mut longest);
        if longest.is_empty() {
            return;
        }
        let by_network = |record: &Record| !self.holds(filter, record, &|_| false);
        for network in found
            .iter()
            .filter(|record| by_network(record))
            .filter_map(network)
        {
            for (value, length) in &mut longest {
                if holds_address(network, value) {
                    *length = (*length).max(network.prefix_len());
                }
            }
        }
        found.retain(|record| {
            let is_longest = |value: &str| {
                network(record).is_some_and(|network| {
                    holds_address(network, value) && longest.get(value) == Some(&network.prefix_len())
                })
            };
            !by_network(record) || self.holds(filter, record, &is_longest)
        });
    }
}

/// The addresses that a filter asks for, each with the shortest prefix there is.
fn addresses<'f>(filter: &'f Filter, into: &mut BTreeMap<&'f str, u8>) {
    match filter {
        Filter::And(several) | Filter::Or(several) => {
            several.iter().for_each(|filter| addresses(filter, into));
        }
        Filter::Not(inner) => addresses(inner, into),
        Filter::Equals { field, value } if field == INDEX => {
            into.insert(value, 0);
        }
        Filter::Equals { .. } => {}
    }
}

/// Whether a network holds what is asked for.
fn holds_address(network: IpNet, value: &str) -> bool {
    wanted(value).is_some_and(|wanted| network.contains(&wanted))
}

/// What a record says in the declared fields; one that is no text is left out.
fn declared_fields(record: &Record, declared: &[String]) -> Vec<(String, String)> {
    let mut declared = declared
        .iter()
        .filter(|field| !ALWAYS.contains(&field.as_str()))
        .peekable();
    if declared.peek().is_none() {
        return Vec::new();
    }
    let Some(message) = record.data.as_ref().and_then(described::decode) else {
        return Vec::new();
    };
    declared
        .filter_map(|field| Some((field.clone(), described::text_field(&message, field)?)))
        .collect()
}

/// The network asked for: an address, or a prefix.
pub(crate) fn wanted(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>()
        .map(|address| IpNet::from(address.to_canonical()))
        .or_else(|_| text.parse::<IpNet>())
        .ok()
}

/// The network a record stands for: `{"$index": {"cidr": …}}` in its data.
pub(crate) fn network(record: &Record) -> Option<IpNet> {
    let fields = structure(record.data.as_ref()?, 4)?;
    let Some(Kind::StructValue(index)) = fields.fields.get(INDEX)?.kind.as_ref() else {
        return None;
    };
    match index.fields.get("cidr")?.kind.as_ref()? {
        Kind::StringValue(cidr) => cidr.parse::<IpNet>().ok().map(|network| network.trunc()),
        _ => None,
    }
}

/// The map in a record's data, where it is one, in whatever wrapping.
fn structure(any: &Any, depth: usize) -> Option<Struct> {
    use prost::Message;
    let depth = depth.checked_sub(1)?;
    match any.type_url.rsplit('/').next()? {
        "google.protobuf.Struct" => Struct::decode(any.value.as_slice()).ok(),
        "google.protobuf.Value" => match Value::decode(any.value.as_slice()).ok()?.kind? {
            Kind::StructValue(inner) => Some(inner),
            _ => None,
        },
        "google.protobuf.Any" => structure(&Any::decode(any.value.as_slice()).ok()?, depth),
        _ => None,
    }
}
