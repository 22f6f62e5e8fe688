//! What an unquoted YAML word means, by the rules of the YAML reader that deployed files were written for
//! (spec config.md 3, policy.md 1): only `true`/`false` are booleans, `010` is octal, a date is text.

use super::super::node::Value;

/// Resolves a plain scalar.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Text(text.to_owned());
    }
    if let Some(time) = timestamp(text) {
        return Value::Text(time);
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return Value::Int(number);
    }
    match plain.parse::<f64>() {
        Ok(number) if is_float(&plain) => Value::Float(number),
        _ => Value::Text(text.to_owned()),
    }
}

/// An integer in base 10 or with `0x`, `0o`, `0b` or a leading `0` (octal); 64 bits, signed or unsigned.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = radix(digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let number = if negative { -number } else { number };
    (number >= i128::from(i64::MIN)).then_some(number)
}

fn radix(digits: &str) -> (u32, &str) {
    let bytes = digits.as_bytes();
    match (bytes.first(), bytes.get(1).map(u8::to_ascii_lowercase)) {
        (Some(b'0'), Some(b'x')) => (16, &digits[2..]),
        (Some(b'0'), Some(b'o')) => (8, &digits[2..]),
        (Some(b'0'), Some(b'b')) => (2, &digits[2..]),
        (Some(b'0'), Some(_)) => (8, &digits[1..]),
        _ => (10, digits),
    }
}

/// Digits, one dot, an exponent; no `inf`, no `nan`.
fn is_float(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
}

/// A date or time as RFC 3339 text: `2020-01-02`, `2020-1-2T3:4:5Z`, `2020-1-2 3:4:5`.
fn timestamp(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return None;
    }
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((&text[at + 1..], bytes[at] != b' '))),
        None => (text, None),
    };
    let date = civil_date(date)?;
    let Some((rest, zoned)) = rest else {
        return Some(format!("{date}T00:00:00Z"));
    };
    let (time, zone) = if zoned { split_zone(rest)? } else { (rest, "Z") };
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = time.split(':').map(|part| small_number(part, 59));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!(
        "{date}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}{zone}"
    ))
}

fn civil_date(text: &str) -> Option<jiff::civil::Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let month = i8::try_from(small_number(month, 12)?).ok()?;
    let day = i8::try_from(small_number(day, 31)?).ok()?;
    jiff::civil::Date::new(year.parse().ok()?, month, day).ok()
}

fn split_zone(text: &str) -> Option<(&str, &str)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, "Z"));
    }
    let at = text.rfind(['+', '-'])?;
    let zone = &text[at..];
    let shape = zone.len() == 6 && zone.as_bytes()[3] == b':';
    shape.then_some((&text[..at], zone))
}

fn small_number(text: &str, max: u8) -> Option<u8> {
    if text.is_empty() || text.len() > 2 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&number| number <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn words_of_old_yaml_stay_text() {
        for word in ["yes", "no", "on", "off", "y", "n", "Yes", "NO"] {
            assert_eq!(resolve(word), text(word));
        }
        assert_eq!(resolve("True"), Value::Bool(true));
    }

    #[test]
    fn numbers() {
        for (word, number) in [
            ("010", 8),
            ("0o17", 15),
            ("0x1f", 31),
            ("0b101", 5),
            ("1_000", 1000),
            ("-12", -12),
            ("+7", 7),
            ("18446744073709551615", 18_446_744_073_709_551_615),
        ] {
            assert_eq!(resolve(word), Value::Int(number), "{word}");
        }
        assert_eq!(resolve("1.5"), Value::Float(1.5));
        assert_eq!(resolve("1e3"), Value::Float(1000.0));
        assert_eq!(resolve("08"), Value::Float(8.0));
        assert_eq!(resolve("1.2.3.4"), text("1.2.3.4"));
        assert_eq!(resolve("10.0.0.0/8"), text("10.0.0.0/8"));
        assert_eq!(resolve("-"), text("-"));
    }

    #[test]
    fn dates_become_rfc_3339_text() {
        assert_eq!(resolve("2020-01-02"), text("2020-01-02T00:00:00Z"));
        assert_eq!(resolve("2020-1-2 3:4:5"), text("2020-01-02T03:04:05Z"));
        assert_eq!(
            resolve("2020-01-02T03:04:05.50+02:00"),
            text("2020-01-02T03:04:05.5+02:00")
        );
        assert_eq!(resolve("2020-13-02"), text("2020-13-02"));
    }
}
