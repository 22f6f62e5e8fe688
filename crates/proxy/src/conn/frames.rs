//! Where heads begin and end in what an HTTP/2 client sends, for the clock of its connection: the library says nothing
//! before a head is there whole, and a head that does not end keeps everything behind it waiting.
//!
//! Nothing is checked here; what breaks the protocol is the library's business.

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Follows the frames of one connection. The preface counts as a head.
#[derive(Debug)]
pub(super) struct Frames {
    frame_head: [u8; FRAME_HEAD],
    filled: usize,
    /// Bytes of the frame under way that are still to come.
    left: usize,
    /// A head is under way.
    inside: bool,
    /// With the frame under way the head ends.
    last: bool,
}

/// What some bytes did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heads {
    /// A head came to its end.
    pub(super) ended: bool,
    /// A head is under way.
    pub(super) inside: bool,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            frame_head: [0; FRAME_HEAD],
            filled: 0,
            left: PREFACE,
            inside: true,
            last: true,
        }
    }

    /// Takes in what came.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Heads {
        let mut ended = false;
        while !bytes.is_empty() {
            bytes = match self.left {
                0 => self.begin(bytes),
                _ => {
                    let here = self.left.min(bytes.len());
                    self.left -= here;
                    &bytes[here..]
                }
            };
            if self.left == 0 && self.filled == 0 && std::mem::take(&mut self.last) {
                self.inside = false;
                ended = true;
            }
        }
        Heads {
            ended,
            inside: self.inside,
        }
    }

    /// Takes in a piece of the nine bytes that a frame begins with; returns what is behind it.
    fn begin<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let here = (FRAME_HEAD - self.filled).min(bytes.len());
        let (piece, rest) = bytes.split_at(here);
        self.frame_head[self.filled..self.filled + here].copy_from_slice(piece);
        self.filled += here;
        if self.filled == FRAME_HEAD {
            let [a, b, c, kind, flags, ..] = self.frame_head;
            self.filled = 0;
            self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            if matches!(kind, HEADERS | CONTINUATION) {
                self.inside = true;
                self.last = flags & END_HEADERS != 0;
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const WHOLE: &[u8] = &[0, 0, 2, HEADERS, END_HEADERS, 0, 0, 0, 1, 1, 2];
    const BEGUN: &[u8] = &[0, 0, 1, HEADERS, 0, 0, 0, 0, 1, 1];
    const MORE: &[u8] = &[0, 0, 1, CONTINUATION, 0, 0, 0, 0, 1, 2];
    const REST: &[u8] = &[0, 0, 0, CONTINUATION, END_HEADERS, 0, 0, 0, 1];
    const DATA: &[u8] = &[0, 0, 3, 0, END_HEADERS, 0, 0, 0, 1, 1, 2, 3];

    const INSIDE: Heads = Heads {
        ended: false,
        inside: true,
    };
    const ENDED: Heads = Heads {
        ended: true,
        inside: false,
    };
    const NOTHING: Heads = Heads {
        ended: false,
        inside: false,
    };

    #[test]
    fn a_head_is_under_way_from_its_first_frame_to_its_last() {
        let mut frames = Frames::new();
        let steps = [
            (&TEXT[..10], INSIDE),
            (&TEXT[10..], ENDED),
            (SETTINGS, NOTHING),
            (&WHOLE[..10], INSIDE),
            (&WHOLE[10..], ENDED),
            (DATA, NOTHING),
            (BEGUN, INSIDE),
            (MORE, INSIDE),
            (REST, ENDED),
            (&DATA[..10], NOTHING),
            (&DATA[10..], NOTHING),
        ];
        for (number, (bytes, heads)) in steps.into_iter().enumerate() {
            assert_eq!(frames.follow(bytes), heads, "step {number}");
        }
    }

    #[test]
    fn many_frames_at_once_and_one_byte_at_a_time_come_to_the_same() {
        let all = [TEXT, SETTINGS, BEGUN, MORE, REST, DATA, WHOLE, BEGUN].concat();
        let both = Heads {
            ended: true,
            inside: true,
        };
        assert_eq!(Frames::new().follow(&all), both);
        let mut frames = Frames::new();
        let ended = all.iter().filter(|byte| frames.follow(&[**byte]).ended).count();
        assert_eq!((ended, frames.inside), (3, true));
    }
}
