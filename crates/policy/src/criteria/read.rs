//! From what people wrote to a compiled criterion, with the load-time checks of spec policy.md 3 and 4.

use serde_json::Value;
use smallvec::smallvec;

use super::certificate::{self, CertificateMatcher};
use super::list::{ListMatcher, ListTest};
use super::network::{self, Networks};
use super::text::{TextMatcher, TextTest};
use super::{BUILT, NOT_BUILT, Test, nearest_name};
use crate::compile::CompileError;
use crate::ppl::{Criterion, Operator};
use crate::suggest::nearest;
use crate::value::kind;

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

impl Test {
    /// Compiles one criterion.
    pub(crate) fn read(criterion: &Criterion) -> Result<Test, CompileError> {
        Ok(match criterion.name.as_str() {
            "accept" => Test::Accept,
            "reject" => Test::Reject,
            "authenticated_user" => Test::AuthenticatedUser,
            "user" => Test::User(text(criterion, Left::Static)?),
            "email" => Test::Email(text(criterion, Left::Dynamic)?),
            "domain" => Test::Domain(text(criterion, Left::Static)?),
            "claim" => Test::Claim(criterion.sub_path.clone(), list(criterion)?),
            "http_method" => Test::HttpMethod(text(criterion, Left::Dynamic)?),
            "http_path" => Test::HttpPath(text(criterion, Left::Dynamic)?),
            "source_ip" => Test::SourceIp(networks(criterion)?),
            "cors_preflight" => Test::CorsPreflight,
            "client_certificate" => Test::ClientCertificate(Box::new(certificate(criterion)?)),
            "invalid_client_certificate" => Test::InvalidClientCertificate,
            other => return Err(not_known(criterion, other)),
        })
    }
}

fn not_known(criterion: &Criterion, name: &str) -> CompileError {
    if let Some(known) = NOT_BUILT.into_iter().find(|known| *known == name) {
        return CompileError::NotBuilt {
            place: criterion.place.to_string(),
            criterion: known,
        };
    }
    CompileError::UnknownCriterion {
        place: criterion.place.to_string(),
        name: criterion.key(),
        hint: name_hint(name),
    }
}

fn name_hint(name: &str) -> String {
    if Operator::ALL.iter().any(|operator| operator.as_str() == name) {
        return "operators do not nest; use several groups, which are alternatives, or several rules".into();
    }
    match name {
        "pomerium_routes" => "Pomerium's own paths need no rule; leave it out".into(),
        "allowed_users" => {
            "`allowed_users` is a key of the route; in a policy write `user` or `email`".into()
        }
        "allowed_domains" => "`allowed_domains` is a key of the route; in a policy write `domain`".into(),
        "allowed_groups" | "group" => "group membership is judged by `groups` or by `claim/groups`".into(),
        "allowed_idp_claims" | "claims" => "write `claim/NAME: VALUE`".into(),
        _ => match nearest_name(name) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the criteria are {}", BUILT.join(", ")),
        },
    }
}

/// Whether the left side is known to be a text before any request is seen; then `is` with anything else is
/// an error rather than a condition that never holds (spec policy.md 3.4).
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Static,
    Dynamic,
}

fn wrong_type(criterion: &Criterion, operator: &str, expected: &'static str, found: &Value) -> CompileError {
    CompileError::WrongType {
        place: criterion.place.to_string(),
        subject: if operator.is_empty() {
            criterion.key()
        } else {
            format!("{}: {operator}", criterion.key())
        },
        expected,
        found: kind(found),
    }
}

fn unknown_operator(criterion: &Criterion, operator: &str, known: &'static [&'static str]) -> CompileError {
    let hint = match (operator, nearest(operator, known.iter().copied())) {
        ("regex" | "matches" | "match", _) => {
            format!(
                "there is no pattern matching; the operators are {}",
                known.join(", ")
            )
        }
        (_, Some(near)) => format!("did you mean `{near}`?"),
        _ => format!("the operators are {}", known.join(", ")),
    };
    CompileError::UnknownOperator {
        place: criterion.place.to_string(),
        criterion: criterion.key(),
        operator: operator.to_owned(),
        hint,
    }
}

fn text(criterion: &Criterion, left: Left) -> Result<TextMatcher, CompileError> {
    let Value::Object(operators) = &criterion.data else {
        return Ok(TextMatcher(smallvec![text_test(
            criterion,
            left,
            "is",
            &criterion.data
        )?]));
    };
    operators
        .iter()
        .map(|(operator, right)| text_test(criterion, left, operator, right))
        .collect::<Result<_, _>>()
        .map(TextMatcher)
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

fn list(criterion: &Criterion) -> Result<ListMatcher, CompileError> {
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

fn certificate(criterion: &Criterion) -> Result<CertificateMatcher, CompileError> {
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
        return Ok(TextMatcher(smallvec![text_test(
            criterion,
            Left::Dynamic,
            "is",
            data
        )?]));
    };
    operators
        .iter()
        .map(|(operator, right)| match operator.as_str() {
            "not_in" => Err(refused(operator)),
            _ => text_test(criterion, Left::Dynamic, operator, right),
        })
        .collect::<Result<_, _>>()
        .map(TextMatcher)
}

fn networks(criterion: &Criterion) -> Result<Networks, CompileError> {
    let one = |value: &Value| match value {
        Value::String(text) => network::parse(text).map_err(|problem| CompileError::BadAddress {
            place: criterion.place.to_string(),
            text: text.clone(),
            problem,
        }),
        other => Err(wrong_type(
            criterion,
            "",
            "an address or CIDR as a string, or a list of them",
            other,
        )),
    };
    match &criterion.data {
        Value::Array(items) => items.iter().map(one).collect::<Result<_, _>>().map(Networks),
        single => Ok(Networks(Box::new([one(single)?]))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ppl::Policy;

    fn error(name: &str, data: &Value) -> String {
        let policy = Policy::parse(&json!({"allow": {"or": [{ name: data }]}})).unwrap();
        Test::read(&policy.rules[0].groups[0].criteria[0])
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn names_that_are_not_known_come_with_a_hint() {
        assert_eq!(
            error("Email", &json!("x")),
            "policy.allow.or[0]: unknown criterion `Email`: did you mean `email`?"
        );
        assert!(error("allowed_groups", &json!("x")).ends_with("`groups` or by `claim/groups`"));
        assert!(error("pomerium_routes", &json!(true)).contains("need no rule"));
        assert!(error("or", &json!([])).contains("operators do not nest"));
        assert!(error("favourite_colour", &json!("red")).contains("the criteria are accept, "));
    }

    #[test]
    fn criteria_that_are_not_built_yet_say_so() {
        for name in NOT_BUILT {
            let text = error(name, &json!({}));
            assert!(text.contains(&format!("`{name}` is not built yet")), "{text}");
        }
    }

    #[test]
    fn wrong_data_is_refused_while_loading() {
        assert!(error("email", &json!({"regex": ".*"})).contains("no pattern matching"));
        assert!(error("email", &json!({"starts-with": "a"})).contains("did you mean `starts_with`?"));
        assert!(error("email", &json!({"in": "a"})).contains("`email: in` needs a list, not a string"));
        assert!(error("email", &json!({"not_in": {"a": 1}})).contains("needs a list"));
        assert!(error("email", &json!({"starts_with": 1})).contains("needs a string, not a number"));
        assert!(error("user", &json!(5)).contains("`user: is` needs a string, not a number"));
        assert!(error("domain", &json!({"is": null})).contains("needs a string, not null"));
        assert!(
            error("claim/role", &json!({"starts_with": "a"})).contains("the operators are has, is, exclude")
        );
        assert!(
            error("source_ip", &json!("10.0.0.0/33"))
                .contains("`10.0.0.0/33` is no network: prefix too long")
        );
        assert!(error("source_ip", &json!([1])).contains("needs an address or CIDR"));
        assert!(error("source_ip", &json!({})).contains("not a map"));
    }

    #[test]
    fn certificates_are_named_by_forms_that_can_match() {
        let of = |data: Value| error("client_certificate", &data);
        assert!(of(json!("40ec")).contains("needs a map"));
        assert!(of(json!({"subject": "x"})).contains("has no operator `subject`"));
        assert!(of(json!({"fingerprint": "40EC"})).contains("64 lower-case hex digits"));
        assert!(
            of(json!({"fingerprint": [1]})).contains("needs a string or a list of strings, not a number")
        );
        assert!(of(json!({"spki_hash": "AAAA"})).contains("base64 of 32 bytes"));
        assert!(of(json!({"san_dns": {"not_in": ["a"]}})).contains("`san_dns.not_in`"));
        assert!(of(json!({"san_dns": {"regex": "a"}})).contains("no pattern matching"));
    }
}
