//! Claims: from records to JSON, and from JSON to the text of a header.

use std::collections::HashMap;

use pomerium_api::json;
use pomerium_policy::Claims;
use serde_json::Value;

/// The claims of a record as JSON lists.
pub fn json_claims(claims: &HashMap<String, prost_types::ListValue>) -> Claims {
    let list = |(name, list): (&String, _)| (name.clone(), json::from_list(list));
    claims.iter().map(list).collect()
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
}
