//! The pieces of a log line that every request writes, without the formatting machinery, which costs more
//! than what it formats.
//!
//! Here: what goes into a byte buffer as it is. Not here: which fields a line has, and how what clients
//! send is escaped.

use std::io::Write;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Whether `text` can stand in a JSON string as it is: printable ASCII without `"` and `\`.
pub fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        return text.iter().all(|byte| plain_byte(*byte));
    };
    // The last eight overlap the ones before; looking twice is cheaper than looking one by one.
    text.as_chunks::<8>().0.iter().all(|eight| plain_eight(*eight)) && plain_eight(*last)
}

/// Whether a character has no place in a log as it is, although JSON lets it stand: it ends lines, moves cursors, turns the
/// reading direction or hides. All of these are in the first plane.
pub fn is_mark(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// [`plain_byte`] for eight at a time: the high bit of a byte of `bad` says that a byte is not plain (or
/// that one before it is not).
fn plain_eight(eight: [u8; 8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(eight);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let bad = word | below(word, 0x20) | is(b'"') | is(b'\\') | is(0x7f);
    bad & HIGH == 0
}

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a number below 1 000 000 with six digits: what stands behind the point of milliseconds.
pub fn six_digits(out: &mut Vec<u8>, mut value: u32) {
    let mut digits = [b'0'; 6];
    for place in digits.iter_mut().rev() {
        *place = digit(u64::from(value % 10));
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

fn digit(value: u64) -> u8 {
    #[allow(clippy::cast_possible_truncation, reason = "one digit")]
    let value = value as u8;
    b'0' + value
}

/// Appends an address as it prints.
pub fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(out, octet.into());
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(ip) => {
            let _ = write!(out, "{ip}");
        }
    }
}

/// Appends a moment as it prints.
pub fn time(out: &mut Vec<u8>, at: Timestamp) {
    // Writing to a Vec cannot fail.
    let _ = DateTimePrinter::new().print_timestamp(&at, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_prints_as_its_display() {
        for value in [0, 1, 9, 10, 255, 1_000_000, u64::MAX] {
            assert_eq!(written(|out| number(out, value)), value.to_string());
        }
        for value in [0, 7, 123_456, 999_999] {
            assert_eq!(written(|out| six_digits(out, value)), format!("{value:06}"));
        }
        for text in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "2001:db8::1", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(written(|out| ip(out, address)), text);
        }
        for text in ["2026-08-01T10:00:00Z", "2026-08-01T10:00:00.120000003Z"] {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(written(|out| time(out, at)), at.to_string());
        }
    }

    #[test]
    fn only_printable_ascii_is_plain() {
        let plain: Vec<u8> = (0..=255_u8).filter(|byte| is_plain(&[*byte])).collect();
        let expected: Vec<u8> = (b' '..=b'~').filter(|byte| !b"\"\\".contains(byte)).collect();
        assert_eq!(plain, expected);
        assert!(is_plain(b""));
    }

    #[test]
    fn one_bad_byte_is_found_wherever_it_stands() {
        for len in 1..30 {
            let text: Vec<u8> = (0..len).map(|at| b'!' + 2 + at).collect();
            assert!(is_plain(&text), "{len}");
            for at in 0..text.len() {
                for byte in 0..=255_u8 {
                    let mut text = text.clone();
                    text[at] = byte;
                    assert_eq!(is_plain(&text), plain_byte(byte), "{byte} at {at} of {len}");
                }
            }
        }
    }
}
