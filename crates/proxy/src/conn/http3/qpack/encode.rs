//! Writing a field section.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::{BufMut, BytesMut};
use http::StatusCode;

use super::table::STATIC;

type Entries = HashMap<&'static str, Vec<(usize, &'static [u8])>, foldhash::fast::RandomState>;

/// Indexes and values of the static table by name.
static ENTRIES: LazyLock<Entries> = LazyLock::new(|| {
    let mut entries = Entries::default();
    for (index, (name, value)) in STATIC.iter().enumerate() {
        entries.entry(name).or_default().push((index, value.as_bytes()));
    }
    entries
});

/// Writes the lines of one section.
pub(in super::super) struct Encoder<'a>(&'a mut BytesMut);

impl<'a> Encoder<'a> {
    /// Begins a section at the end of `out`.
    pub(in super::super) fn new(out: &'a mut BytesMut) -> Self {
        // No dynamic entries: required insert count and base are zero.
        out.put_u16(0);
        Self(out)
    }

    /// The status of a response.
    pub(in super::super) fn status(&mut self, status: StatusCode) {
        self.line(":status", status.as_str().as_bytes(), false);
    }

    /// One line. `sensitive` keeps it out of the tables of everybody who passes it on.
    pub(in super::super) fn line(&mut self, name: &str, value: &[u8], sensitive: bool) {
        let Some(entries) = ENTRIES.get(name) else {
            integer(self.0, if sensitive { 0x30 } else { 0x20 }, 3, name.len());
            self.0.put_slice(name.as_bytes());
            self.value(value);
            return;
        };
        match entries.iter().find(|(_, known)| *known == value) {
            Some((index, _)) if !sensitive => integer(self.0, 0xc0, 6, *index),
            _ => {
                let first = entries.first().map_or(0, |(index, _)| *index);
                integer(self.0, if sensitive { 0x70 } else { 0x50 }, 4, first);
                self.value(value);
            }
        }
    }

    fn value(&mut self, value: &[u8]) {
        integer(self.0, 0, 7, value.len());
        self.0.put_slice(value);
    }
}

/// An integer with a prefix of `bits` beside the bits in `above` (RFC 7541 section 5.1).
fn integer(out: &mut BytesMut, above: u8, bits: u32, value: usize) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        out.put_u8(above | value as u8);
        return;
    }
    out.put_u8(above | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(5000);
        let lines = [
            (":status", "200"),
            (":status", "299"),
            ("content-type", "text/html; charset=utf-8"),
            ("content-type", "text/html"),
            ("x-request-id", "0123"),
            ("x-long", long.as_str()),
            ("x-empty", ""),
        ];
        for sensitive in [false, true] {
            let mut block = BytesMut::new();
            let mut encoder = Encoder::new(&mut block);
            for (name, value) in lines {
                encoder.line(name, value.as_bytes(), sensitive);
            }
            let mut decoder = Decoder::new(block.freeze()).unwrap();
            for (name, value) in lines {
                let (read_name, read_value) = decoder.next().unwrap().unwrap();
                assert_eq!(read_name.as_bytes(), name.as_bytes());
                assert_eq!(read_value.into_bytes(), value.as_bytes());
            }
            assert_eq!(decoder.next(), Ok(None));
        }
    }

    #[test]
    fn known_values_are_one_or_two_bytes() {
        let mut block = BytesMut::new();
        let mut encoder = Encoder::new(&mut block);
        encoder.status(StatusCode::OK);
        encoder.line("x-frame-options", b"sameorigin", false);
        assert_eq!(&block[..], [0, 0, 0xd9, 0xff, 0x23]);
    }
}
