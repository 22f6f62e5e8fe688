//! Matchers: the operators of texts, lists, certificates and networks (spec policy.md 3).

use serde_json::Value;
use smallvec::smallvec;

use super::{strings_of, unknown_operator, wrong_type};
use crate::compile::CompileError;
use crate::criteria::certificate::{self, CertificateMatcher};
use crate::criteria::list::{ListMatcher, ListTest};
use crate::criteria::network::{self, Networks};
use crate::criteria::text::{TextMatcher, TextTest};
use crate::ppl::Criterion;

const TEXT_OPERATORS: &[&str] = &[
    "is",
    "not",
    "starts_with",
    "ends_with",
    "contains",
    "in",
    "not_in",
];
const LIST_OPERATORS: &[&str] = &["has", "is", "exclude"];
const CERTIFICATE_KEYS: &[&str] = &["fingerprint", "spki_hash", "san_email", "san_dns", "san_uri"];

/// Whether the left side is known to be a text before any request is seen; then `is` with anything else is
/// an error rather than a condition that never holds (spec policy.md 3.4).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Left {
    Static,
    Dynamic,
}

pub(super) fn text(criterion: &Criterion, left: Left) -> Result<TextMatcher, CompileError> {
    let Value::Object(operators) = &criterion.data else {
        return text_test(criterion, left, "is", &criterion.data).map(TextMatcher::from);
    };
    operators
        .iter()
        .map(|(operator, right)| text_test(criterion, left, operator, right))
        .collect()
}

fn text_test(
    criterion: &Criterion,
    left: Left,
    operator: &str,
    right: &Value,
) -> Result<TextTest, CompileError> {
    let string = || match right {
        Value::String(text) => Ok(Box::from(text.as_str())),
        other => Err(wrong_type(criterion, operator, "a string", other)),
    };
    // Elements of other types are left out: no text ever equals them.
    let strings = || match right {
        Value::Array(items) => Ok(items.iter().filter_map(Value::as_str).map(Box::from).collect()),
        other => Err(wrong_type(criterion, operator, "a list", other)),
    };
    Ok(match operator {
        "is" if left == Left::Static => TextTest::Is(Some(string()?)),
        "is" => TextTest::Is(right.as_str().map(Box::from)),
        "not" => TextTest::Not(right.as_str().map(Box::from)),
        "starts_with" => TextTest::StartsWith(string()?),
        "ends_with" => TextTest::EndsWith(string()?),
        "contains" => TextTest::Contains(string()?),
        "in" => TextTest::In(strings()?),
        "not_in" => TextTest::NotIn(strings()?),
        other => return Err(unknown_operator(criterion, other, TEXT_OPERATORS)),
    })
}

pub(in crate::criteria) fn list(criterion: &Criterion) -> Result<ListMatcher, CompileError> {
    let Value::Object(operators) = &criterion.data else {
        return Ok(ListMatcher(smallvec![ListTest::Has(criterion.data.clone())]));
    };
    let test = |(operator, right): (&String, &Value)| match operator.as_str() {
        "has" => Ok(ListTest::Has(right.clone())),
        "is" => Ok(ListTest::Is(right.clone())),
        "exclude" => Ok(ListTest::Exclude(right.clone())),
        other => Err(unknown_operator(criterion, other, LIST_OPERATORS)),
    };
    operators
        .iter()
        .map(test)
        .collect::<Result<_, _>>()
        .map(ListMatcher)
}

pub(super) fn certificate(criterion: &Criterion) -> Result<CertificateMatcher, CompileError> {
    let Value::Object(keys) = &criterion.data else {
        return Err(wrong_type(
            criterion,
            "",
            "a map such as `fingerprint: …`",
            &criterion.data,
        ));
    };
    let mut matcher = CertificateMatcher::default();
    for (key, data) in keys {
        match key.as_str() {
            "fingerprint" => {
                let problem =
                    "a SHA-256 fingerprint is 64 lower-case hex digits, or 32 upper-case pairs joined by `:`";
                matcher.fingerprints = Some(pins(criterion, key, data, certificate::fingerprint, problem)?);
            }
            "spki_hash" => {
                let problem = "a key hash is base64 of 32 bytes (SHA-256 of the public key)";
                matcher.spki_hashes = Some(pins(criterion, key, data, certificate::spki_hash, problem)?);
            }
            "san_email" => matcher.emails = Some(names(criterion, key, data)?),
            "san_dns" => matcher.dns_names = Some(names(criterion, key, data)?),
            "san_uri" => matcher.uris = Some(names(criterion, key, data)?),
            other => return Err(unknown_operator(criterion, other, CERTIFICATE_KEYS)),
        }
    }
    Ok(matcher)
}

/// One value or a list of them, each in a form that can match.
fn pins(
    criterion: &Criterion,
    key: &str,
    data: &Value,
    read: fn(&str) -> Option<Box<str>>,
    problem: &'static str,
) -> Result<Box<[Box<str>]>, CompileError> {
    let one = |value: &Value| match value {
        Value::String(text) => read(text).ok_or_else(|| CompileError::BadPin {
            place: criterion.place.to_string(),
            text: text.clone(),
            problem,
        }),
        other => Err(wrong_type(criterion, key, "a string or a list of strings", other)),
    };
    match data {
        Value::Array(items) => items.iter().map(one).collect(),
        single => Ok(Box::new([one(single)?])),
    }
}

/// Conditions on the names of one kind. A certificate has several, so "none of these" would hold as soon as one name
/// is another: `not_in` is refused.
fn names(criterion: &Criterion, key: &str, data: &Value) -> Result<TextMatcher, CompileError> {
    let refused = |operator: &str| {
        const KNOWN: &[&str] = &["is", "not", "starts_with", "ends_with", "contains", "in"];
        unknown_operator(criterion, &format!("{key}.{operator}"), KNOWN)
    };
    let Value::Object(operators) = data else {
        return text_test(criterion, Left::Dynamic, "is", data).map(TextMatcher::from);
    };
    operators
        .iter()
        .map(|(operator, right)| match operator.as_str() {
            "not_in" => Err(refused(operator)),
            _ => text_test(criterion, Left::Dynamic, operator, right),
        })
        .collect()
}

pub(super) fn networks(criterion: &Criterion) -> Result<Networks, CompileError> {
    let one = |text: &str| {
        network::parse(text).map_err(|problem| CompileError::BadAddress {
            place: criterion.place.to_string(),
            text: text.to_owned(),
            problem,
        })
    };
    let expected = "an address or CIDR as a string, or a list of them";
    let texts = strings_of(criterion, "", expected, &criterion.data)?;
    texts.into_iter().map(one).collect::<Result<_, _>>().map(Networks)
}
