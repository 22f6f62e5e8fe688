//! Records beyond those of the person, such as external data (spec policy.md 21).

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::Value;
use smallvec::SmallVec;

use super::list::ListTest;
use super::read;
use super::text::TextTest;
use crate::compile::CompileError;
use crate::input::Input;
use crate::ppl::Criterion;
use crate::reason::Reason;
use crate::value::{compare, equal};

const KEYS: &[&str] = &[
    "type",
    "field",
    "by",
    "exists",
    "is",
    "not",
    "starts_with",
    "ends_with",
    "contains",
    "in",
    "not_in",
    "has",
    "exclude",
    "<",
    "<=",
    "=",
    ">",
    ">=",
];

/// How the record of a request is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    UserId,
    UserEmail,
    Address,
    Fingerprint,
    /// By address if records of the type have networks, else by user id.
    Index,
}

impl By {
    const NAMES: [(&'static str, By); 4] = [
        ("user.id", By::UserId),
        ("user.email", By::UserEmail),
        ("request.ip", By::Address),
        ("request.client_certificate.fingerprint", By::Fingerprint),
    ];
}

/// Compiled conditions on a record; every one must hold.
#[derive(Debug)]
pub(crate) struct RecordMatcher {
    kind: Box<str>,
    field: Option<Box<str>>,
    by: By,
    tests: SmallVec<[FieldTest; 1]>,
}

/// One condition. A field that is not there meets none but `exists: false`.
#[derive(Debug)]
enum FieldTest {
    Exists(bool),
    /// Equal; of a list: its only element is.
    Is(Value),
    /// The contrary.
    Not(Value),
    In(Box<[Value]>),
    NotIn(Box<[Value]>),
    Text(TextTest),
    /// A value that is no list is a list of one.
    List(ListTest),
    Order(&'static [Ordering], Value),
}

impl RecordMatcher {
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        read::no_sub_path(criterion)?;
        let keys = read::map(criterion, "a map such as `{type: geoip, field: country, is: FR}`")?;
        let named = |key: &str| match keys.get(key) {
            None => Ok(None),
            Some(data) => match read::string(criterion, key, data)? {
                "" => Err(read::bad_value(
                    criterion,
                    key,
                    "",
                    "give a name, not an empty text",
                )),
                name => Ok(Some(name)),
            },
        };
        let kind =
            named("type")?.ok_or_else(|| read::incomplete(criterion, "`type`, the type of the record"))?;
        let field = named("field")?;
        let mut tests = SmallVec::new();
        for (key, data) in keys {
            if matches!(key.as_str(), "type" | "field" | "by") {
                continue;
            }
            if field.is_none() && key != "exists" && KEYS.contains(&key.as_str()) {
                return Err(read::incomplete(
                    criterion,
                    "`field`, the part of the record that is compared",
                ));
            }
            tests.push(field_test(criterion, key, data)?);
        }
        if tests.is_empty() {
            return Err(read::incomplete(
                criterion,
                "a condition such as `is: VALUE` or `exists: true`",
            ));
        }
        Ok(Self {
            kind: kind.into(),
            field: field.map(Box::from),
            by: by(criterion, named("by")?)?,
            tests,
        })
    }

    /// Without somebody behind the request, nothing can be looked up by who it is.
    pub(super) fn run(&self, input: &Input<'_>) -> (bool, Reason) {
        if self.by_person(input) && input.subject.is_none() {
            return (false, Reason::UserUnauthenticated);
        }
        let record = self.find(input);
        let value = record.as_deref().and_then(|record| self.value(record));
        if self.tests.iter().all(|test| test.holds(value)) {
            (true, Reason::RecordOk)
        } else {
            (false, Reason::RecordUnauthorized)
        }
    }

    /// What the conditions are about; null when it is not there.
    pub(super) fn found(&self, input: &Input<'_>) -> Value {
        let record = self.find(input);
        let value = record.as_deref().and_then(|record| self.value(record));
        value.cloned().unwrap_or(Value::Null)
    }

    /// The type of the record.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether it may be looked up by who somebody is.
    pub(super) fn needs_identity(&self) -> bool {
        matches!(self.by, By::UserId | By::UserEmail | By::Index)
    }

    pub(super) fn needs_certificate(&self) -> bool {
        self.by == By::Fingerprint
    }

    fn by_person(&self, input: &Input<'_>) -> bool {
        match self.by {
            By::UserId | By::UserEmail => true,
            By::Address | By::Fingerprint => false,
            By::Index => !input.records.has_networks(&self.kind),
        }
    }

    fn find(&self, input: &Input<'_>) -> Option<Arc<Value>> {
        let by_id = |id: &str| {
            let id = Some(id).filter(|id| !id.is_empty())?;
            input.records.by_id(&self.kind, id)
        };
        match self.by {
            By::UserId => by_id(&input.subject?.user_id),
            By::UserEmail => by_id(&input.subject?.email),
            By::Fingerprint => by_id(&input.http.client_certificate.leaf?.fingerprint),
            By::Index if self.by_person(input) => by_id(&input.subject?.user_id),
            By::Address | By::Index => {
                let address = input.http.client_ip?.to_canonical();
                input.records.by_address(&self.kind, address)
            }
        }
    }

    /// The field, by its whole name or else by the parts between the dots. Null is as good as nothing.
    fn value<'r>(&self, record: &'r Value) -> Option<&'r Value> {
        let Some(field) = self.field.as_deref() else {
            return Some(record);
        };
        let walk = || field.split('.').try_fold(record, |value, part| value.get(part));
        record.get(field).or_else(walk).filter(|value| !value.is_null())
    }
}

fn by(criterion: &Criterion, name: Option<&str>) -> Result<By, CompileError> {
    let Some(name) = name else { return Ok(By::Index) };
    let known = By::NAMES.into_iter().find(|(known, _)| *known == name);
    known.map(|(_, by)| by).ok_or_else(|| {
        let names = By::NAMES.map(|(name, _)| format!("`{name}`")).join(", ");
        read::bad_value(
            criterion,
            "by",
            name,
            &format!("nothing to look up by: write one of {names}"),
        )
    })
}

fn field_test(criterion: &Criterion, operator: &str, right: &Value) -> Result<FieldTest, CompileError> {
    let text = || read::string(criterion, operator, right).map(Box::from);
    let list = || match right {
        Value::Array(items) => Ok(items.clone().into_boxed_slice()),
        other => Err(read::wrong_type(criterion, operator, "a list", other)),
    };
    let order = |orders: &'static [Ordering]| match right {
        Value::Number(_) | Value::String(_) => Ok(FieldTest::Order(orders, right.clone())),
        other => Err(read::wrong_type(
            criterion,
            operator,
            "a number or a string",
            other,
        )),
    };
    Ok(match operator {
        "exists" => match right {
            Value::Bool(wanted) => FieldTest::Exists(*wanted),
            other => return Err(read::wrong_type(criterion, operator, "true or false", other)),
        },
        "is" => FieldTest::Is(right.clone()),
        "not" => FieldTest::Not(right.clone()),
        "in" => FieldTest::In(list()?),
        "not_in" => FieldTest::NotIn(list()?),
        "starts_with" => FieldTest::Text(TextTest::StartsWith(text()?)),
        "ends_with" => FieldTest::Text(TextTest::EndsWith(text()?)),
        "contains" => FieldTest::Text(TextTest::Contains(text()?)),
        "has" => FieldTest::List(ListTest::Has(right.clone())),
        "exclude" => FieldTest::List(ListTest::Exclude(right.clone())),
        "<" => order(&[Ordering::Less])?,
        "<=" => order(&[Ordering::Less, Ordering::Equal])?,
        "=" => order(&[Ordering::Equal])?,
        ">" => order(&[Ordering::Greater])?,
        ">=" => order(&[Ordering::Greater, Ordering::Equal])?,
        other => return Err(read::unknown_key(criterion, other, KEYS)),
    })
}

impl FieldTest {
    fn holds(&self, value: Option<&Value>) -> bool {
        let Some(left) = value else {
            return matches!(self, FieldTest::Exists(false));
        };
        match self {
            FieldTest::Exists(wanted) => *wanted,
            FieldTest::Is(right) => is(left, right),
            FieldTest::Not(right) => !is(left, right),
            FieldTest::In(list) => list.iter().any(|right| equal(left, right)),
            FieldTest::NotIn(list) => !list.iter().any(|right| equal(left, right)),
            FieldTest::Text(test) => left.as_str().is_some_and(|left| test.matches(left)),
            FieldTest::List(test) => match left {
                Value::Array(list) => test.matches(list, equal),
                one => test.matches(std::slice::from_ref(one), equal),
            },
            FieldTest::Order(orders, right) => {
                compare(left, right).is_some_and(|order| orders.contains(&order))
            }
        }
    }
}

fn is(left: &Value, right: &Value) -> bool {
    match left {
        Value::Array(list) => matches!(list.as_slice(), [only] if equal(only, right)),
        left => equal(left, right),
    }
}
