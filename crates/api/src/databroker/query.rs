//! What records can be asked for (spec databroker.md 3.2 and 6): a filter, a text, a page.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::Error;
use crate::pb::databroker as pb;

/// How deep filters may be nested.
const DEEPEST: usize = 32;

/// A question for live records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// Record type; empty means every type.
    pub record_type: String,
    /// What the records have to be like.
    pub filter: Filter,
    /// A text that some string of the record contains, in any case; empty means any record.
    pub text: String,
    /// How many matches to leave out.
    pub offset: u64,
    /// How many records to return at most; 0 returns none, with the count.
    pub limit: u64,
}

impl Query {
    /// Any records of a type, a page of them.
    pub fn page(record_type: impl Into<String>, offset: u64, limit: u64) -> Self {
        Self {
            record_type: record_type.into(),
            offset,
            limit,
            ..Self::default()
        }
    }
}

impl From<Query> for pb::QueryRequest {
    fn from(query: Query) -> Self {
        Self {
            r#type: query.record_type,
            query: query.text,
            offset: i64::try_from(query.offset).unwrap_or(i64::MAX),
            limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
            filter: Some(query.filter.to_struct()),
            minimum_record_version_hint: None,
        }
    }
}

/// Errors with [`Error::Invalid`] or [`Error::Unsupported`] for filters as [`Filter::from_struct`] does, and for negative numbers.
impl TryFrom<pb::QueryRequest> for Query {
    type Error = Error;

    fn try_from(request: pb::QueryRequest) -> Result<Self, Error> {
        let filter = request.filter.as_ref().map(Filter::from_struct).transpose()?;
        Ok(Self {
            record_type: request.r#type,
            filter: filter.unwrap_or_default(),
            text: request.query,
            offset: number(request.offset, "offset")?,
            limit: number(request.limit, "limit")?,
        })
    }
}

fn number(number: i64, what: &str) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Invalid(format!("the {what} is negative")))
}

/// A condition on a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them; without any, every record.
    And(Vec<Filter>),
    /// Any of them.
    Or(Vec<Filter>),
    /// The contrary.
    Not(Box<Filter>),
    /// A field, by its dotted name, has a value. Values are compared as text.
    Equals {
        /// `id`, `type`, `$index`, or a field of the record's data.
        field: String,
        /// The text.
        value: String,
    },
}

impl Default for Filter {
    fn default() -> Self {
        Self::And(Vec::new())
    }
}

impl Filter {
    /// The condition that a record's `id` is this one.
    pub fn id(id: impl Into<String>) -> Self {
        Self::equals("id", id)
    }

    /// A condition on one field.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Equals {
            field: field.into(),
            value: value.into(),
        }
    }

    /// Reads the form on the wire (spec databroker.md 6.1).
    ///
    /// Errors with [`Error::Invalid`] when it has no meaning, [`Error::Unsupported`] for an operator that no
    /// databroker carries out.
    pub fn from_struct(filter: &Struct) -> Result<Self, Error> {
        fields(filter, &mut Vec::new(), DEEPEST)
    }

    /// The form on the wire.
    pub fn to_struct(&self) -> Struct {
        match self {
            Self::And(all) if all.is_empty() => Struct::default(),
            Self::And(all) => one("$and", list(all)),
            Self::Or(any) => one("$or", list(any)),
            Self::Not(inner) => one("$not", Kind::StructValue(inner.to_struct())),
            Self::Equals { field, value } => one(field, Kind::StringValue(value.clone())),
        }
    }
}

fn one(name: &str, kind: Kind) -> Struct {
    let value = Value { kind: Some(kind) };
    Struct {
        fields: [(name.to_owned(), value)].into(),
    }
}

fn list(filters: &[Filter]) -> Kind {
    let value = |filter: &Filter| Value {
        kind: Some(Kind::StructValue(filter.to_struct())),
    };
    Kind::ListValue(ListValue {
        values: filters.iter().map(value).collect(),
    })
}

/// All keys of one level hold, in the order of their names.
fn fields(filter: &Struct, path: &mut Vec<String>, depth: usize) -> Result<Filter, Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(invalid("it is nested too deep"));
    };
    let mut all = Vec::with_capacity(filter.fields.len());
    for (key, value) in &filter.fields {
        let kind = value.kind.as_ref().unwrap_or(&Kind::NullValue(0));
        all.push(match key.as_str() {
            "$and" => Filter::And(several(key, kind, path, depth)?),
            "$or" => Filter::Or(several(key, kind, path, depth)?),
            "$not" => Filter::Not(Box::new(condition(kind, path, depth)?)),
            "=" | "==" | "$eq" | "$equals" | "$is" => condition(kind, path, depth)?,
            "!=" | "$doesNotEqual" | ">" | ">=" | "<" | "<=" | "$after" | "$before" | "$onOrAfter"
            | "$onOrBefore" | "$contains" | "$doesNotContain" | "$startsWith" | "$endsWith" | "$isAnyOf"
            | "$isEmpty" | "$isNotEmpty" => {
                return Err(Error::Unsupported(format!("operator not supported: {key}")));
            }
            _ => {
                path.push(key.clone());
                let inner = condition(kind, path, depth)?;
                path.pop();
                inner
            }
        });
    }
    Ok(match all.len() {
        1 => all.remove(0),
        _ => Filter::And(all),
    })
}

fn several(key: &str, kind: &Kind, path: &mut Vec<String>, depth: usize) -> Result<Vec<Filter>, Error> {
    let Kind::ListValue(list) = kind else {
        return Err(invalid(&format!("{key} needs a list")));
    };
    list.values
        .iter()
        .map(|value| condition(value.kind.as_ref().unwrap_or(&Kind::NullValue(0)), path, depth))
        .collect()
}

fn condition(kind: &Kind, path: &mut Vec<String>, depth: usize) -> Result<Filter, Error> {
    let text = match kind {
        Kind::StructValue(inner) => return fields(inner, path, depth),
        Kind::ListValue(list) => {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(invalid("it is nested too deep"));
            };
            let values = list.values.iter();
            return values
                .map(|value| condition(value.kind.as_ref().unwrap_or(&Kind::NullValue(0)), path, depth))
                .collect::<Result<_, _>>()
                .map(Filter::Or);
        }
        Kind::NullValue(_) => String::new(),
        Kind::BoolValue(value) => value.to_string(),
        Kind::NumberValue(number) => number.to_string(),
        Kind::StringValue(text) => text.clone(),
    };
    if path.is_empty() {
        return Err(invalid("a value stands where a field name should"));
    }
    Ok(Filter::equals(path.join("."), text))
}

fn invalid(what: &str) -> Error {
    Error::Invalid(format!("invalid query filter: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> Result<Filter, Error> {
        fn value(json: serde_json::Value) -> Value {
            let kind = match json {
                serde_json::Value::Null => Kind::NullValue(0),
                serde_json::Value::Bool(value) => Kind::BoolValue(value),
                serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
                serde_json::Value::String(text) => Kind::StringValue(text),
                serde_json::Value::Array(values) => Kind::ListValue(ListValue {
                    values: values.into_iter().map(value).collect(),
                }),
                serde_json::Value::Object(fields) => Kind::StructValue(Struct {
                    fields: fields.into_iter().map(|(key, json)| (key, value(json))).collect(),
                }),
            };
            Value { kind: Some(kind) }
        }
        match value(json).kind {
            Some(Kind::StructValue(filter)) => Filter::from_struct(&filter),
            _ => panic!("a filter is a map"),
        }
    }

    #[test]
    fn every_form_of_the_specification() {
        use serde_json::json;
        let is = Filter::equals;
        assert_eq!(read(json!({})).unwrap(), Filter::And(vec![]));
        assert_eq!(read(json!({"id": "1"})).unwrap(), is("id", "1"));
        assert_eq!(read(json!({"a": {"b": true}})).unwrap(), is("a.b", "true"));
        assert_eq!(read(json!({"a.b": 3})).unwrap(), is("a.b", "3"));
        assert_eq!(
            read(json!({"b": 1, "a": ["x", null]})).unwrap(),
            Filter::And(vec![Filter::Or(vec![is("a", "x"), is("a", "")]), is("b", "1")])
        );
        assert_eq!(
            read(json!({"$or": [{"id": "x"}, {"$index": "192.0.2.1"}]})).unwrap(),
            Filter::Or(vec![is("id", "x"), is("$index", "192.0.2.1")])
        );
        assert_eq!(
            read(json!({"id": {"$not": {"$eq": "x"}}})).unwrap(),
            Filter::Not(Box::new(is("id", "x")))
        );
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        use serde_json::json;
        assert!(matches!(
            read(json!({"$or": {"id": "x"}})),
            Err(Error::Invalid(_))
        ));
        assert!(matches!(read(json!({"$and": ["x"]})), Err(Error::Invalid(_))));
        assert!(matches!(
            read(json!({"id": {"$contains": "x"}})),
            Err(Error::Unsupported(_))
        ));
        let mut deep = json!("x");
        for _ in 0..100 {
            deep = json!({ "a": deep });
        }
        assert!(matches!(read(deep), Err(Error::Invalid(_))));
    }

    #[test]
    fn the_form_on_the_wire_comes_back() {
        let filter = Filter::And(vec![
            Filter::Or(vec![Filter::id("x"), Filter::equals("$index", "192.0.2.1")]),
            Filter::Not(Box::new(Filter::equals("user_id", "u1"))),
        ]);
        assert_eq!(Filter::from_struct(&filter.to_struct()).unwrap(), filter);
    }
}
