//! Messages of protocol buffers, field by field, as bytes: read without building anything, written into one buffer.
//! Which fields there are is said by `question` and `response` (and by `proto/ext_authz.proto`).

/// A message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Of a fixed size; nobody here asks for one.
    Fixed,
}

impl<'a> Value<'a> {
    /// Text, bytes or message; any other sort contradicts the definition.
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Fixed => Err(Malformed),
        }
    }

    /// A text, which has to be UTF-8.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

/// The fields of a message, one after the other.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The number of the next field and its value; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups are gone from the language, and nobody sends them.
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            0 => Err(Malformed),
            field => Ok(Some((field, value))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Seven bits in each byte, the lowest first.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(Malformed);
            }
            number |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(number);
            }
        }
        Err(Malformed)
    }
}

/// Text, bytes or message that is here whole. Nothing is written for nothing, which is what a field that is not there
/// means.
pub(super) fn put(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_always(out, field, bytes);
    }
}

/// An element of a list, which is there even when it is empty.
pub(super) fn put_always(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A number that is not negative.
pub(super) fn put_number(out: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        out.push(field << 3);
        put_varint(out, number);
    }
}

/// A message that is written by `fields`.
pub(super) fn put_message(out: &mut Vec<u8>, field: u8, fields: impl FnOnce(&mut Vec<u8>)) {
    out.push(field << 3 | 2);
    let start = out.len() + 1;
    out.push(0);
    fields(out);
    let length = out.len() - start;
    // Nearly all are short; for a longer one what was written makes room.
    if let Ok(byte @ 0..0x80) = u8::try_from(length) {
        out[start - 1] = byte;
        return;
    }
    let end = out.len();
    put_varint(out, length as u64);
    let more = out.len() - end;
    out[start - 1..].rotate_right(more);
    // The place that was kept is behind the length now.
    out.remove(start - 1 + more);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        let (mut reader, mut found) = (Reader::new(message), Vec::new());
        while let Some(field) = reader.next()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 300, 20_000] {
            let long = vec![b'x'; length];
            let mut out = Vec::new();
            put_message(&mut out, 3, |out| {
                put_number(out, 1, 300);
                put_number(out, 2, 0);
                put_message(out, 4, |out| put_always(out, 5, &long));
            });
            put(&mut out, 7, b"end");
            put(&mut out, 8, b"");
            let whole = fields(&out).unwrap();
            assert_eq!(whole[1..], [(7, Value::Bytes(b"end"))]);
            let inner = fields(whole[0].1.bytes().unwrap()).unwrap();
            assert_eq!(inner[0], (1, Value::Number(300)));
            let innermost = fields(inner[1].1.bytes().unwrap()).unwrap();
            assert_eq!(innermost, [(5, Value::Bytes(&long))]);
        }
    }

    #[test]
    fn what_is_no_message_is_not_read() {
        for bad in [
            &b"\x0a"[..],
            b"\x0a\x02a",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x0a\xff\xff\xff\xff\x0f",
            b"\x02\x00",
            b"\x0b",
            b"\x09\0\0\0",
            b"\x80\x80\x80\x80\x80\x01\x00",
        ] {
            assert_eq!(fields(bad), Err(Malformed), "{}", bad.escape_ascii());
        }
        assert_eq!(
            fields(b"\x09\0\0\0\0\0\0\0\0\x15\0\0\0\0"),
            Ok(vec![(1, Value::Fixed), (2, Value::Fixed)])
        );
    }
}
