//! Where the frames of HTTP/2 begin and end in a stream of bytes (RFC 9113 section 4.1). Only their heads are read.

/// What a client begins with (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PING: u8 = 6;
/// Length, type, flags, stream.
const HEAD: usize = 9;

/// The place in one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD],
    /// So much of the head is here.
    filled: usize,
    /// So much of the payload is to come.
    left: usize,
}

impl Frames {
    /// Goes on by `bytes`; tells type and flags of each frame whose head is complete with them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let room = self.head.get_mut(self.filled..).unwrap_or_default();
            let taken = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            room.iter_mut().zip(now).for_each(|(place, byte)| *place = *byte);
            self.filled += taken;
            bytes = later;
            if self.filled == HEAD {
                let [high, middle, low, kind, flags, ..] = self.head;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.filled = 0;
                each(kind, flags);
            }
        }
    }

    /// Whether the last frame has ended and the next has not begun.
    pub(super) fn between(&self) -> bool {
        self.filled == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let stream = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\x01\0\0\0\0........\0\x01\0\0\x01\0\0\0\x01";
        let stream = [&stream[..], &[6; 256], b"\0\0\0\x01\x05\0\0\0\x03"].concat();
        for size in [1, 2, 8, 9, 10, 17, 1000] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.feed(piece, |kind, flags| seen.push((kind, flags)));
            }
            assert_eq!(seen, [(4, 0), (PING, 1), (DATA, 1), (HEADERS, 5)], "{size}");
            assert!(frames.between());
        }
        let mut frames = Frames::default();
        frames.feed(b"\0\0\x01", |_, _| ());
        assert!(!frames.between());
        frames.feed(b"\0\0\0\0\0\0", |_, _| ());
        assert!(!frames.between());
    }
}
