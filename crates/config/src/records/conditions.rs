//! The conditions of a `VersionedConfig` (spec databroker.md 11).

use serde_json::Value;

use super::Fault;

/// The release of the original whose configuration this program reads: what conditions on the version of the product
/// are held against.
pub const RELEASE: &str = "0.32.5";

/// Whether all of them hold. Errors when one cannot be read.
pub(super) fn hold(conditions: Option<&Value>) -> Result<bool, Fault> {
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    for (index, condition) in conditions.enumerate() {
        if !holds(condition, index)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(condition: &Value, index: usize) -> Result<bool, Fault> {
    let bound = |name: &str| {
        let text = condition.get(name).and_then(Value::as_str);
        let read = |text: &str| {
            let field = format!("conditions[{index}].{name}");
            version(text).ok_or_else(|| Fault::of(field, format!("{text:?} is no version such as 0.31.0")))
        };
        text.filter(|text| !text.is_empty()).map(read).transpose()
    };
    let (at_least, less_than) = (bound("at_least")?, bound("less_than")?);
    // No other component has a version here: it is missing.
    let feature = condition
        .get("feature")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(current) = version(RELEASE).filter(|_| feature.is_empty()) else {
        return Ok(at_least.is_none());
    };
    Ok(at_least.is_none_or(|bound| current >= bound) && less_than.is_none_or(|bound| current < bound))
}

/// `v0.31.2-rc.1+build`, of which what follows the numbers does not count. Missing numbers are zero.
fn version(text: &str) -> Option<[u64; 3]> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let mut version = [0; 3];
    let mut parts = numbers.split('.');
    for place in &mut version {
        match parts.next() {
            Some(part) => *place = part.parse().ok()?,
            None => break,
        }
    }
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds() {
        for (conditions, expected) in [
            (json!([]), true),
            (json!([{}]), true),
            (json!([{"at_least": "v0.32.5"}]), true),
            (json!([{"at_least": "0.32.5-rc.9"}]), true),
            (json!([{"at_least": "0.32.6"}]), false),
            (json!([{"less_than": "0.32.5"}]), false),
            (json!([{"less_than": "1"}]), true),
            (json!([{"at_least": "0.9", "less_than": "0.33"}]), true),
            (json!([{"at_least": "0.9"}, {"at_least": "9"}]), false),
            (json!([{"feature": "envoy", "at_least": "1.0"}]), false),
            (json!([{"feature": "envoy", "less_than": "1.0"}]), true),
        ] {
            assert_eq!(hold(Some(&conditions)), Ok(expected), "{conditions}");
        }
        assert_eq!(hold(None), Ok(true));
        for bad in ["next", "1.2.3.4", "1..2", "-1"] {
            let fault = hold(Some(&json!([{}, {"less_than": bad}]))).unwrap_err();
            assert_eq!(fault.field, "conditions[1].less_than", "{bad}");
        }
    }
}
