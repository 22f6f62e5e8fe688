//! Reading a field section, one line after the other.

use std::sync::LazyLock;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use super::huffman;
use super::table::STATIC;

/// A section that cannot be decoded, or that refers to a dynamic table: the connection ends
/// (RFC 9204 section 2.2.3).
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Failed;

/// The name of a line.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Name {
    /// An entry of the static table.
    Static(usize),
    /// As it came, not checked.
    Literal(Bytes),
}

/// The value of a line.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Value {
    /// An entry of the static table.
    Static(usize),
    /// As it came, not checked.
    Literal(Bytes),
}

/// Header names of the static table; the pseudo headers have none.
static NAMES: LazyLock<Vec<Option<HeaderName>>> = LazyLock::new(|| {
    let name = |text: &str| HeaderName::from_lowercase(text.as_bytes()).ok();
    STATIC.iter().map(|(text, _)| name(text)).collect()
});

impl Name {
    /// The bytes of the name.
    pub(in super::super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Static(index) => STATIC[*index].0.as_bytes(),
            Self::Literal(bytes) => bytes,
        }
    }

    /// The name as a header name; `None` when it is none, upper case letters included.
    pub(in super::super) fn header(&self) -> Option<HeaderName> {
        match self {
            Self::Static(index) => NAMES[*index].clone(),
            Self::Literal(bytes) => HeaderName::from_lowercase(bytes).ok(),
        }
    }
}

impl Value {
    /// The bytes of the value; shared, not copied.
    pub(in super::super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Static(index) => Bytes::from_static(STATIC[index].1.as_bytes()),
            Self::Literal(bytes) => bytes,
        }
    }

    pub(in super::super) fn len(&self) -> usize {
        match self {
            Self::Static(index) => STATIC[*index].1.len(),
            Self::Literal(bytes) => bytes.len(),
        }
    }

    /// The value as a header value; `None` when it holds a character that none may.
    pub(in super::super) fn header(self) -> Option<HeaderValue> {
        match self {
            Self::Static(index) => Some(HeaderValue::from_static(STATIC[index].1)),
            Self::Literal(bytes) => {
                let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
                if blank(bytes.first()) || blank(bytes.last()) {
                    return None;
                }
                HeaderValue::from_maybe_shared(bytes).ok()
            }
        }
    }
}

/// Reads the lines of one section.
pub(in super::super) struct Decoder {
    block: Bytes,
    /// Holds the decoded strings: one allocation for all of them.
    decoded: Vec<u8>,
    shared: BytesMut,
}

impl Decoder {
    /// Begins with a whole section.
    pub(in super::super) fn new(mut block: Bytes) -> Result<Self, Failed> {
        let required = integer(&mut block, 8)?;
        let _base = integer(&mut block, 7)?;
        if required != 0 {
            return Err(Failed);
        }
        Ok(Self {
            block,
            decoded: Vec::new(),
            shared: BytesMut::new(),
        })
    }

    /// The next line; `None` at the end.
    pub(in super::super) fn next(&mut self) -> Result<Option<(Name, Value)>, Failed> {
        let Some(first) = self.block.first().copied() else {
            return Ok(None);
        };
        let line = match first {
            // Indexed, static.
            0xc0.. => {
                let index = entry(integer(&mut self.block, 6)?)?;
                (Name::Static(index), Value::Static(index))
            }
            // Literal with the name of a static entry.
            0x40..0x80 if first & 0x10 != 0 => {
                let index = entry(integer(&mut self.block, 4)?)?;
                (Name::Static(index), Value::Literal(self.string(7)?))
            }
            // Literal with a literal name.
            0x20..0x40 => {
                let name = self.string(3)?;
                (Name::Literal(name), Value::Literal(self.string(7)?))
            }
            // Everything else refers to the dynamic table.
            _ => return Err(Failed),
        };
        Ok(Some(line))
    }

    /// A string whose length has a prefix of `bits`; the bit above says whether it is Huffman-coded.
    fn string(&mut self, bits: u32) -> Result<Bytes, Failed> {
        let coded = self.block.first().is_some_and(|first| first & (1 << bits) != 0);
        let length = integer(&mut self.block, bits)?;
        if length > self.block.len() {
            return Err(Failed);
        }
        let raw = self.block.split_to(length);
        if !coded {
            return Ok(raw);
        }
        self.decoded.clear();
        huffman::decode(&raw, &mut self.decoded).map_err(|_| Failed)?;
        if self.shared.capacity() < self.decoded.len() {
            self.shared
                .reserve(self.decoded.len().max(2 * (self.block.len() + length)));
        }
        self.shared.extend_from_slice(&self.decoded);
        Ok(self.shared.split().freeze())
    }
}

fn entry(index: usize) -> Result<usize, Failed> {
    (index < STATIC.len()).then_some(index).ok_or(Failed)
}

/// An integer with a prefix of `bits` (RFC 7541 section 5.1), below 2^28: nothing here is that long.
fn integer(block: &mut Bytes, bits: u32) -> Result<usize, Failed> {
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(block.try_get_u8().map_err(|_| Failed)?) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = block.try_get_u8().map_err(|_| Failed)?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(block: &'static [u8]) -> Result<Vec<(String, String)>, Failed> {
        let mut decoder = Decoder::new(Bytes::from_static(block))?;
        let mut lines = Vec::new();
        while let Some((name, value)) = decoder.next()? {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            lines.push((text(name.as_bytes()), text(&value.into_bytes())));
        }
        Ok(lines)
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 9204 B.1: a literal with the name of a static entry.
        let block = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(
            lines(block).unwrap(),
            [(":path".to_owned(), "/index.html".to_owned())]
        );
    }

    #[test]
    fn every_form_of_a_line() {
        // :method GET, a Huffman-coded :authority, a literal name and value.
        let block = b"\x00\x00\xd1\x50\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x23abc\x02de";
        let read = lines(block).unwrap();
        let expected = [
            (":method", "GET"),
            (":authority", "www.example.com"),
            ("abc", "de"),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn what_needs_a_dynamic_table_or_is_cut_short_is_refused() {
        let bad: [&[u8]; 12] = [
            b"",
            b"\x00",
            b"\x01\x00",
            b"\x00\x00\x80",
            b"\x00\x00\x40\x00",
            b"\x00\x00\x10",
            b"\x00\x00\x00\x00",
            b"\x00\x00\xff\x24",
            b"\x00\x00\xff",
            b"\x00\x00\x51\x0b/index",
            b"\x00\x00\x51\x81\x00",
            b"\x00\x00\x51\x7f\xff\xff\xff\xff\xff\xff",
        ];
        for block in bad {
            assert_eq!(lines(block), Err(Failed), "{block:?}");
        }
    }

    #[test]
    fn values_that_no_header_may_have() {
        let bad = ["a\r\nb", "a\0", " a", "a\t"];
        for text in bad {
            assert!(
                Value::Literal(Bytes::from_static(text.as_bytes()))
                    .header()
                    .is_none(),
                "{text:?}"
            );
        }
        assert!(Name::Literal(Bytes::from_static(b"Abc")).header().is_none());
        assert!(Name::Literal(Bytes::from_static(b"a b")).header().is_none());
        assert!(Name::Literal(Bytes::from_static(b"")).header().is_none());
    }
}
