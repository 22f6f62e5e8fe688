//! The Huffman code of header strings (RFC 7541 appendix B), decoding only.
//!
//! The code is canonical: codes of one length follow each other in the order of the bytes. So the lengths
//! are the whole code, and a code is found by its length and its distance from the first of that length.

use std::sync::LazyLock;

/// A string that is not a Huffman code word sequence with proper padding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Most bytes of a header are ASCII letters and digits: their codes have at most this many bits.
const FAST: u32 = 8;

/// The length in bits of the code of each byte (RFC 7541 appendix B); the last is the end of the string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

struct Code {
    /// By the next [`FAST`] bits: byte and length of the code they begin with; length 0 for longer codes.
    fast: [(u8, u8); 1 << FAST],
    /// Per length: the first code above those of this length, left-aligned in 32 bits.
    limit: [u64; 31],
    /// Per length: what to add to a code of this length to get its place in `bytes`.
    offset: [i64; 31],
    /// Bytes in the order of their codes.
    bytes: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(Code::build);

impl Code {
    fn build() -> Self {
        let mut bytes: Vec<u16> = (0..257).collect();
        bytes.sort_by_key(|byte| (LENGTHS[usize::from(*byte)], *byte));
        let mut code = Self {
            fast: [(0, 0); 1 << FAST],
            limit: [0; 31],
            offset: [0; 31],
            bytes,
        };
        let (mut next, mut place) = (0_u64, 0_usize);
        for length in 1..=30_u32 {
            let first = next;
            code.offset[length as usize] =
                i64::try_from(place).unwrap_or(0) - i64::try_from(first).unwrap_or(0);
            while let Some(byte) = code.bytes.get(place) {
                if u32::from(LENGTHS[usize::from(*byte)]) != length {
                    break;
                }
                if length <= FAST {
                    let from = (next << (FAST - length)) as usize;
                    let entry = (*byte as u8, length as u8);
                    code.fast[from..from + (1 << (FAST - length))].fill(entry);
                }
                next += 1;
                place += 1;
            }
            code.limit[length as usize] = next << (32 - length);
            next <<= 1;
        }
        code
    }

    /// The first code word in the upper bits of `window`: its byte and length.
    fn slow(&self, window: u32) -> Option<(u16, u32)> {
        for length in FAST + 1..=30 {
            if u64::from(window) < self.limit[length as usize] {
                let word = i64::from(window >> (32 - length));
                let place = usize::try_from(word + self.offset[length as usize]).ok()?;
                return Some((*self.bytes.get(place)?, length));
            }
        }
        None
    }
}

/// Appends the decoded string to `out`. Every code word is at least five bits, so that `out` grows by at
/// most 8/5 of the input.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let code = &*CODE;
    out.reserve(input.len() * 8 / 5);
    let (mut bits, mut held) = (0_u64, 0_u32);
    let mut input = input.iter();
    loop {
        while held <= 56 {
            let Some(byte) = input.next() else { break };
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        let (byte, length) = code.fast[(bits >> (64 - FAST)) as usize];
        let (byte, length) = if length > 0 {
            (u16::from(byte), u32::from(length))
        } else {
            code.slow((bits >> 32) as u32).ok_or(Malformed)?
        };
        if length > held || byte == 256 {
            // The padding: fewer than eight bits, all ones (RFC 7541 section 5.2).
            let ones = bits >> (64 - held) == (1 << held) - 1;
            return if held < 8 && ones { Ok(()) } else { Err(Malformed) };
        }
        out.push(byte as u8);
        bits <<= length;
        held -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7541 C.4.1, C.4.2, C.6.1.
        let host = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&host).unwrap(), b"www.example.com");
        assert_eq!(
            decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(),
            b"no-cache"
        );
        assert_eq!(decoded(&[0x64, 0x02]).unwrap(), b"302");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn every_byte_comes_back() {
        let code = &*CODE;
        for byte in 0..=255_u16 {
            let place = code.bytes.iter().position(|at| *at == byte).unwrap();
            let length = u32::from(LENGTHS[usize::from(byte)]);
            let word = u64::try_from(i64::try_from(place).unwrap() - code.offset[length as usize]).unwrap();
            let padded = (word << (64 - length)) | ((1_u64 << (64 - length)) - 1);
            let bytes = padded.to_be_bytes();
            let used = length.div_ceil(8) as usize;
            assert_eq!(decoded(&bytes[..used]).unwrap(), [byte as u8], "{byte}");
        }
    }

    #[test]
    fn bad_padding_and_the_end_of_the_string_are_refused() {
        assert_eq!(decoded(&[0xff]), Err(Malformed));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Malformed));
        // "0" is 00000, padded with zeros.
        assert_eq!(decoded(&[0b0000_0000]), Err(Malformed));
        assert_eq!(decoded(&[0b0000_0111]).unwrap(), b"0");
    }
}
