//! The primitives of the wire format.

/// What is longer is not read at all; a certificate with hundreds of names stays far below.
pub(super) const MOST: usize = 64 * 1024;

/// Reads from the front of a text. `None` is the end, or a length that goes beyond it.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// `None` when there is more than [`MOST`].
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() <= MOST).then_some(Self(bytes))
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// A positive whole number in its shortest form, without the sign byte.
    pub(super) fn positive(&mut self) -> Option<&'a [u8]> {
        match self.string()? {
            [] => None,
            [0, rest @ ..] => rest.first().is_some_and(|byte| byte & 0x80 != 0).then_some(rest),
            bytes if bytes[0] & 0x80 == 0 => Some(bytes),
            _ => None,
        }
    }
}
