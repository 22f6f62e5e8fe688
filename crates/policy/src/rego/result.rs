//! What a script says about one action (spec policy.md 7).

use std::cmp::Ordering;
use std::sync::Arc;

use regorus::Value;

use crate::program::Verdict;
use crate::reason::Reason;

/// Most reasons of one action in words of the script, and the most bytes of each.
const MOST: usize = 64;
const LONGEST: usize = 512;

/// A boolean, or a list or set of one to three: the boolean, reasons, data. Anything else is *no*, without reasons;
/// a single text in the place of the reasons is ignored, as in the original.
///
/// Errors when there are more reasons than a log line should hold.
pub(super) fn verdict(value: &Value) -> Result<Verdict, String> {
    let items: Vec<&Value> = match value {
        Value::Bool(value) => {
            return Ok(Verdict {
                value: *value,
                ..Verdict::default()
            });
        }
        Value::Array(items) => items.iter().collect(),
        Value::Set(items) => sorted(items.iter()),
        _ => return Ok(Verdict::default()),
    };
    if items.is_empty() || items.len() > 3 {
        return Ok(Verdict::default());
    }
    let mut verdict = Verdict {
        value: matches!(items[0], Value::Bool(true)),
        ..Verdict::default()
    };
    match items.get(1) {
        Some(Value::Array(reasons)) => add(&mut verdict, reasons.iter())?,
        Some(Value::Set(reasons)) => add(&mut verdict, reasons.iter())?,
        _ => {}
    }
    let device = items.get(2).and_then(|data| match data {
        Value::Object(data) => data.get(&Value::from("device_type")),
        _ => None,
    });
    verdict.device_type = device
        .and_then(|kind| kind.as_string().ok())
        .map(|kind| Arc::from(&**kind));
    Ok(verdict)
}

/// Names of the policy language are its reasons, and do what they do there.
fn add<'a>(verdict: &mut Verdict, reasons: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    let mut other: Vec<Box<str>> = Vec::new();
    for reason in reasons {
        let Value::String(text) = reason else { continue };
        match Reason::named(text) {
            Some(reason) => verdict.reasons = verdict.reasons.union(reason.into()),
            None if text.len() > LONGEST => return Err(format!("a reason is longer than {LONGEST} bytes")),
            None => other.push(Box::from(&**text)),
        }
        if other.len() > MOST {
            return Err(format!("there are more than {MOST} reasons"));
        }
    }
    other.sort_unstable();
    other.dedup();
    verdict.other = (!other.is_empty()).then(|| Arc::from(other));
    Ok(())
}

/// In the order of the language, in which an object stands before a set; in the engine's it stands behind it.
fn sorted<'a>(items: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut items: Vec<&Value> = items.collect();
    let rank = |value: &Value| match value {
        Value::Object(_) => 1,
        Value::Set(_) => 2,
        _ => 0,
    };
    items.sort_by(|one, other| match rank(one).cmp(&rank(other)) {
        Ordering::Equal => one.cmp(other),
        order => order,
    });
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (bool, Vec<String>) {
        let verdict = verdict(&Value::from_json_str(json).unwrap()).unwrap();
        (
            verdict.value,
            verdict.names().into_iter().map(str::to_owned).collect(),
        )
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn results_are_read_as_in_the_original() {
        assert_eq!(read("true"), (true, vec![]));
        assert_eq!(read("false"), (false, vec![]));
        assert_eq!(read("[true]"), (true, vec![]));
        assert_eq!(
            read(r#"[true, ["b", "a", "email-ok"]]"#),
            (true, names(&["a", "b", "email-ok"]))
        );
        assert_eq!(
            read(r#"[false, ["user-unauthenticated"], {"device_type": "any"}]"#),
            (false, names(&["user-unauthenticated"]))
        );
        assert_eq!(read(r#"[true, "a text"]"#), (true, vec![]));
        for no in [
            "1",
            "null",
            "\"true\"",
            "[]",
            "[1]",
            "{}",
            r#"["true", 1]"#,
            "[true, [], {}, 1]",
        ] {
            assert_eq!(read(no), (false, vec![]), "{no}");
        }
    }

    #[test]
    fn sets_count_as_lists() {
        let reasons = Value::from(std::collections::BTreeSet::from([Value::from("why")]));
        let set = Value::from(std::collections::BTreeSet::from([Value::Bool(true), reasons]));
        let verdict = verdict(&set).unwrap();
        assert_eq!((verdict.value, verdict.names()), (true, vec!["why"]));
    }

    #[test]
    fn the_data_names_the_device() {
        let value = Value::from_json_str(r#"[false, [], {"device_type": "enclave_only"}]"#).unwrap();
        assert_eq!(
            verdict(&value).unwrap().device_type.as_deref(),
            Some("enclave_only")
        );
    }

    #[test]
    fn floods_of_reasons_are_no_result() {
        let many: Vec<Value> = (0..100)
            .map(|number| Value::from(format!("reason {number}")))
            .collect();
        let value = Value::from(vec![Value::Bool(true), Value::from(many)]);
        assert!(verdict(&value).unwrap_err().contains("more than 64"));
        let long = Value::from(vec![
            Value::Bool(true),
            Value::from(vec![Value::from("x".repeat(600))]),
        ]);
        assert!(verdict(&long).unwrap_err().contains("longer than"));
    }
}
