//! How large a value may get in one call of a built-in function. The engine looks at its clock between calls, not
//! inside of one, so the calls themselves have to be short.

use regorus::Value;

/// Most bytes of the result of one call, roughly.
pub(super) const MOST: usize = 1024 * 1024;

/// Bytes an element of a collection takes, roughly.
const ELEMENT: usize = 32;

type Cost = fn(&[Value]) -> usize;

/// Functions whose results can be larger than what they are given, and how large.
pub(super) const BOUNDED: &[(&str, Cost)] = &[
    ("array.concat", elements),
    ("base64.decode", texts),
    ("base64.encode", doubled),
    ("base64url.decode", texts),
    ("base64url.encode", doubled),
    ("base64url.encode_no_pad", doubled),
    ("bits.lsh", shift),
    ("concat", joined),
    ("format_int", doubled),
    ("glob.match", doubled),
    ("hex.encode", doubled),
    ("indexof_n", exploded),
    ("json.marshal", marshalled),
    ("json.marshal_with_options", marshalled),
    ("json.patch", patched),
    ("json.unmarshal", exploded),
    ("net.cidr_expand", network),
    ("numbers.range", range),
    ("numbers.range_step", range),
    ("regex.find_all_string_submatch_n", matches),
    ("regex.find_n", matches),
    ("regex.match", texts),
    ("regex.replace", replaced_by_pattern),
    ("regex.split", exploded),
    ("regex.template_match", texts),
    ("replace", replaced),
    ("split", exploded),
    ("sprintf", formatted),
    ("strings.replace_n", replaced_many),
    ("to_number", number),
    ("urlquery.decode_object", exploded),
    ("urlquery.encode", tripled),
    ("urlquery.encode_object", tripled),
    ("yaml.is_valid", unfolded),
    ("yaml.marshal", marshalled),
    ("yaml.unmarshal", unfolded),
];

/// Bytes of a value when it is written out; counting stops at a little more than [`MOST`].
pub(super) fn written(value: &Value) -> usize {
    let mut open = vec![value];
    let mut bytes = 0_usize;
    while let Some(value) = open.pop() {
        bytes += match value {
            Value::String(text) => text.len() + 2,
            Value::Number(number) => number
                .as_u64()
                .map_or_else(|| number.format_decimal().len(), |_| 20),
            _ => 6,
        };
        if bytes > MOST {
            return bytes;
        }
        match value {
            Value::Array(items) => open.extend(items.iter()),
            Value::Set(items) => open.extend(items.iter()),
            Value::Object(fields) => {
                for (key, value) in fields.iter() {
                    open.push(key);
                    open.push(value);
                }
            }
            _ => {}
        }
        // A value may contain another many times over; what waits counts, too.
        if open.len().saturating_mul(ELEMENT) > 16 * MOST {
            return usize::MAX;
        }
    }
    bytes
}

fn texts(arguments: &[Value]) -> usize {
    arguments.iter().map(written).fold(0, usize::saturating_add)
}

fn doubled(arguments: &[Value]) -> usize {
    texts(arguments).saturating_mul(2)
}

fn tripled(arguments: &[Value]) -> usize {
    texts(arguments).saturating_mul(3)
}

fn exploded(arguments: &[Value]) -> usize {
    texts(arguments).saturating_mul(4)
}

/// A YAML text with aliases may say the same thing many times; the reader stops at a hundred times its length.
fn unfolded(arguments: &[Value]) -> usize {
    let Some(Value::String(text)) = arguments.first() else {
        return 0;
    };
    let times = if text.contains('&') && text.contains('*') {
        100
    } else {
        1
    };
    exploded(arguments).saturating_mul(times)
}

/// Each `copy` may double what there is.
fn patched(arguments: &[Value]) -> usize {
    let copies = match arguments.get(1) {
        Some(Value::Array(steps)) => steps.iter().filter(|step| copies(step)).count(),
        _ => 0,
    };
    let factor = u32::try_from(copies)
        .ok()
        .and_then(|copies| 2_usize.checked_pow(copies));
    doubled(arguments).saturating_mul(factor.unwrap_or(usize::MAX))
}

fn copies(step: &Value) -> bool {
    let Value::Object(step) = step else { return false };
    step.iter()
        .any(|(key, value)| *key == Value::from("op") && *value == Value::from("copy"))
}

fn marshalled(arguments: &[Value]) -> usize {
    arguments.first().map_or(0, written).saturating_mul(2)
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

fn length(value: Option<&Value>) -> usize {
    match value {
        Some(Value::String(text)) => text.len(),
        _ => 0,
    }
}

fn elements(arguments: &[Value]) -> usize {
    arguments
        .iter()
        .map(count)
        .fold(0, usize::saturating_add)
        .saturating_mul(ELEMENT)
}

fn joined(arguments: &[Value]) -> usize {
    let [delimiter, items] = arguments else { return 0 };
    let gaps = count(items).saturating_mul(length(Some(delimiter)));
    written(items).saturating_add(gaps)
}

fn whole(value: Option<&Value>) -> Option<i128> {
    value.and_then(|value| value.as_i128().ok())
}

/// A span that is no number of 128 bits is beyond every limit.
fn distance(from: Option<&Value>, to: Option<&Value>) -> usize {
    if ![from, to]
        .iter()
        .all(|value| matches!(value, Some(Value::Number(_))))
    {
        return 0;
    }
    let span = whole(from)
        .zip(whole(to))
        .and_then(|(from, to)| to.checked_sub(from));
    span.and_then(|span| usize::try_from(span.unsigned_abs()).ok())
        .unwrap_or(usize::MAX)
}

fn range(arguments: &[Value]) -> usize {
    let step = arguments.get(2).map_or(Some(1), |step| whole(Some(step)));
    let step = step
        .and_then(|step| usize::try_from(step).ok())
        .unwrap_or(1)
        .max(1);
    (distance(arguments.first(), arguments.get(1)) / step).saturating_mul(ELEMENT)
}

fn shift(arguments: &[Value]) -> usize {
    let by = distance(Some(&Value::from(0_u64)), arguments.get(1)) / 8;
    texts(arguments)
        .saturating_add(by)
        .saturating_mul(if by > 1024 { 1024 } else { 1 })
}

fn network(arguments: &[Value]) -> usize {
    let Some(Value::String(text)) = arguments.first() else {
        return 0;
    };
    let Ok(network) = text.parse::<ipnet::IpNet>() else {
        return 0;
    };
    let bits = u32::from(network.max_prefix_len() - network.prefix_len());
    1_usize
        .checked_shl(bits)
        .unwrap_or(usize::MAX)
        .saturating_mul(2 * ELEMENT)
}

fn groups(pattern: Option<&Value>) -> usize {
    match pattern {
        Some(Value::String(pattern)) => pattern.bytes().filter(|byte| *byte == b'(').count() + 1,
        _ => 1,
    }
}

/// Every position may match, with all groups.
fn matches(arguments: &[Value]) -> usize {
    let positions = length(arguments.get(1)) + 1;
    positions
        .saturating_mul(groups(arguments.first()))
        .saturating_mul(ELEMENT / 2)
}

fn replaced_by_pattern(arguments: &[Value]) -> usize {
    let [Value::String(text), Value::String(_), Value::String(by)] = arguments else {
        return 0;
    };
    let references = by.bytes().filter(|byte| *byte == b'$').count();
    let each = by.len().saturating_add(references.saturating_mul(text.len()));
    (text.len() + 1).saturating_mul(each).saturating_add(text.len())
}

fn grown(text: usize, old: &str, new: &str) -> usize {
    let places = text.checked_div(old.len()).unwrap_or(text + 1);
    text.saturating_add(places.saturating_mul(new.len()))
}

fn replaced(arguments: &[Value]) -> usize {
    let [Value::String(text), Value::String(old), Value::String(new)] = arguments else {
        return 0;
    };
    grown(text.len(), old, new)
}

fn replaced_many(arguments: &[Value]) -> usize {
    let [Value::Object(pairs), Value::String(text)] = arguments else {
        return 0;
    };
    pairs.iter().fold(text.len(), |length, pair| match pair {
        (Value::String(old), Value::String(new)) => grown(length, old, new),
        _ => length,
    })
}

/// Widths are numbers in the format.
fn formatted(arguments: &[Value]) -> usize {
    let Some(Value::String(format)) = arguments.first() else {
        return 0;
    };
    let digits = format
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|digits| !digits.is_empty());
    let widths = digits.map(|digits| digits.parse().unwrap_or(usize::MAX));
    widths.fold(texts(arguments).saturating_mul(2), usize::saturating_add)
}

/// Text that stands for a number of very many digits, such as `1e999999999`.
fn number(arguments: &[Value]) -> usize {
    let Some(Value::String(text)) = arguments.first() else {
        return 0;
    };
    let exponent = text
        .split_once(['e', 'E'])
        .map(|(_, exponent)| exponent.trim_start_matches('+'));
    let exponent = match exponent {
        None => 0,
        Some(exponent) if exponent.starts_with('-') => 0,
        Some(exponent) => exponent.parse().unwrap_or(usize::MAX),
    };
    text.len().saturating_add(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(name: &str, arguments: &str) -> usize {
        let (_, cost) = BOUNDED.iter().find(|(bounded, _)| *bounded == name).unwrap();
        let arguments = Value::from_json_str(arguments).unwrap();
        let arguments: Vec<Value> = arguments.as_array().unwrap().iter().cloned().collect();
        cost(&arguments)
    }

    #[test]
    fn costs_are_those_of_the_results() {
        assert_eq!(cost("numbers.range", "[1, 11]"), 10 * ELEMENT);
        assert_eq!(cost("numbers.range_step", "[0, 100, 10]"), 10 * ELEMENT);
        assert!(cost("numbers.range", "[1, 1000000000]") > MOST);
        assert!(cost("numbers.range", "[-1e30, 1e300]") > MOST);
        assert!(cost("bits.lsh", "[1, 4000000000]") > MOST);
        assert!(cost("bits.lsh", "[1, 70]") < MOST);
        assert!(cost("sprintf", r#"["%999999999d", [1]]"#) > MOST);
        assert!(cost("sprintf", r#"["%5d", [1]]"#) < MOST);
        assert!(cost("replace", r#"["aaaa", "", "bb"]"#) >= 10);
        assert!(cost("net.cidr_expand", r#"["10.0.0.0/8"]"#) > MOST);
        assert!(cost("net.cidr_expand", r#"["10.0.0.0/28"]"#) < MOST);
        assert!(cost("to_number", r#"["1e999999999"]"#) > MOST);
        assert_eq!(cost("concat", r#"[",", ["ab", "cd"]]"#), 6 + 8 + 2);
    }

    #[test]
    fn what_contains_itself_many_times_is_large() {
        let mut value = Value::from("x");
        for _ in 0..64 {
            value = Value::from(vec![value.clone(), value]);
        }
        assert!(written(&value) > MOST);
    }
}
