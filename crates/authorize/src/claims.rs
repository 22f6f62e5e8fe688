//! Claims: from records to JSON, and from JSON to the text of a header.

use std::collections::HashMap;

use pomerium_policy::Claims;
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

/// Deepest nesting of a claim that is read; deeper parts become null.
const DEEPEST: usize = 32;

/// The claims of a record as JSON lists.
pub fn json_claims(claims: &HashMap<String, prost_types::ListValue>) -> Claims {
    let list = |list: &prost_types::ListValue| {
        list.values
            .iter()
            .map(|value| json_value(value, DEEPEST))
            .collect()
    };
    claims
        .iter()
        .map(|(name, values)| (name.clone(), list(values)))
        .collect()
}

fn json_value(value: &prost_types::Value, depth: usize) -> Value {
    match &value.kind {
        _ if depth == 0 => Value::Null,
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(number)) => json_number(*number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => list
            .values
            .iter()
            .map(|value| json_value(value, depth - 1))
            .collect(),
        Some(Kind::StructValue(fields)) => {
            let entry =
                |(name, value): (&String, &prost_types::Value)| (name.clone(), json_value(value, depth - 1));
            Value::Object(fields.fields.iter().map(entry).collect::<Map<_, _>>())
        }
    }
}

/// Records hold every number as a float; a whole one is shown without `.0`. What is not finite is null.
#[allow(
    clippy::cast_possible_truncation,
    reason = "only whole floats that are exact as i64 are cast"
)]
fn json_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// Claims of the session overlaid by those of the user: policies believe the user record.
pub(crate) fn user_over_session(session: &Claims, user: &Claims) -> Claims {
    let mut merged = session.clone();
    merged.extend(user.iter().map(|(name, values)| (name.clone(), values.clone())));
    merged
}

/// The values of a claim for assertion and headers, which believe the session first.
pub(crate) fn session_over_user<'a>(
    session: &'a Claims,
    user: &'a Claims,
    name: &str,
) -> Option<&'a [Value]> {
    session.get(name).or_else(|| user.get(name)).map(Vec::as_slice)
}

/// The values as text, joined with `,`. Null, lists and objects are left out.
pub(crate) fn joined(values: &[Value]) -> String {
    values.iter().filter_map(stringify).collect::<Vec<_>>().join(",")
}

/// One claim value as text (spec policy.md 11.1): strings as they are, numbers in the shortest form with an
/// exponent from a million upward and below 0.0001. None for null, lists and objects.
pub fn stringify(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => number.as_f64().map(shortest),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn shortest(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let Ok(exponent) = exponent.parse::<i32>() else {
        return scientific;
    };
    if number == 0.0 || (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        stringify(value).unwrap()
    }

    #[test]
    fn numbers_are_printed_in_the_shortest_form() {
        for (number, expected) in [
            (json!(0), "0"),
            (json!(1), "1"),
            (json!(-2.5), "-2.5"),
            (json!(123_456), "123456"),
            (json!(123_456.5), "123456.5"),
            (json!(999_999), "999999"),
            (json!(1_000_000), "1e+06"),
            (json!(1_234_567), "1.234567e+06"),
            (json!(1_700_000_000), "1.7e+09"),
            (json!(0.0001), "0.0001"),
            (json!(0.00001), "1e-05"),
            (json!(1e21), "1e+21"),
            (json!(1e100), "1e+100"),
        ] {
            assert_eq!(text(&number), expected);
        }
    }

    #[test]
    fn other_values() {
        assert_eq!(text(&json!("a,b")), "a,b");
        assert_eq!(text(&json!(true)), "true");
        assert_eq!(
            joined(&[json!("a"), json!(null), json!([1]), json!({"a": 1}), json!(2)]),
            "a,2"
        );
    }

    #[test]
    fn records_become_json() {
        let value = |kind| prost_types::Value { kind: Some(kind) };
        let fields = [("n".to_owned(), value(Kind::NumberValue(0.5)))].into();
        let list = prost_types::ListValue {
            values: vec![
                value(Kind::NumberValue(3.0)),
                value(Kind::NumberValue(f64::NAN)),
                value(Kind::StructValue(prost_types::Struct { fields })),
                prost_types::Value { kind: None },
            ],
        };
        let claims = json_claims(&[("c".to_owned(), list)].into());
        assert_eq!(
            serde_json::to_string(&claims["c"]).unwrap(),
            r#"[3,null,{"n":0.5},null]"#
        );
    }

    #[test]
    fn deep_claims_end_somewhere() {
        let mut value = prost_types::Value {
            kind: Some(Kind::BoolValue(true)),
        };
        for _ in 0..200 {
            value = prost_types::Value {
                kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![value] })),
            };
        }
        assert!(!json_value(&value, DEEPEST).to_string().contains("true"));
    }
}
