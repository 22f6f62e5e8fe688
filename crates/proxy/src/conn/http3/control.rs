//! The streams on which the client speaks about the connection (RFC 9114 section 6.2).
//!
//! There is little to hear: we push nothing and keep no dynamic table. What we do is to hold the client to
//! the rules, and to read past what we do not know.

use quinn::{RecvStream, VarInt};

use super::link::Link;
use super::{code, varint};

/// Stream types.
const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;
/// Frame types of a control stream.
const SETTINGS: u64 = 0x4;
const CANCEL_PUSH: u64 = 0x3;
const GOAWAY: u64 = 0x7;
const MAX_PUSH_ID: u64 = 0xd;
/// DATA, HEADERS, PUSH_PROMISE, and what HTTP/2 had: not on a control stream.
const FORBIDDEN: [u64; 7] = [0x0, 0x1, 0x2, 0x5, 0x6, 0x8, 0x9];
/// Settings that HTTP/2 had (RFC 9114 section 7.2.4.1).
const RESERVED_SETTINGS: [u64; 4] = [0x2, 0x3, 0x4, 0x5];
/// The largest frame of a control stream that is looked into.
const MAX_FRAME: u64 = 16 * 1024;

/// Why reading stops: the connection ends with this code; `None` when the stream or the connection is gone.
type Ended = Option<VarInt>;

/// Takes the streams of a connection until it is gone.
pub(super) async fn accept(link: std::sync::Arc<Link>) {
    let mut seen = [false; 4];
    while let Ok(stream) = link.quic.accept_uni().await {
        let mut stream = Bytewise::new(stream);
        // A stream that does not say what it is holds nobody up.
        let Ok(kind) = tokio::time::timeout(link.patience, stream.integer()).await else {
            stream.stop();
            continue;
        };
        let Ok(Some(kind)) = kind else { continue };
        match kind {
            CONTROL | ENCODER | DECODER => {
                if std::mem::replace(&mut seen[kind as usize], true) {
                    link.quic.close(code::STREAM_CREATION_ERROR, b"");
                    return;
                }
                tokio::spawn(watch(link.clone(), stream, kind));
            }
            PUSH => {
                link.quic.close(code::STREAM_CREATION_ERROR, b"");
                return;
            }
            _ => stream.stop(),
        }
    }
}

/// Reads one of the three streams; their end is the end of the connection.
async fn watch(link: std::sync::Arc<Link>, mut stream: Bytewise, kind: u64) {
    let ended = match kind {
        CONTROL => control(&mut stream).await,
        ENCODER => encoder(&mut stream).await,
        _ => decoder(&mut stream).await,
    };
    let code = match ended {
        Ok(()) => code::CLOSED_CRITICAL_STREAM,
        Err(Some(code)) => code,
        Err(None) => return,
    };
    link.quic.close(code, b"");
}

async fn control(stream: &mut Bytewise) -> Result<(), Ended> {
    let mut first = true;
    let mut lowest = u64::MAX;
    while let Some(kind) = stream.integer().await? {
        let length = stream.integer().await?.ok_or(code::FRAME_ERROR)?;
        match kind {
            SETTINGS if first => settings(stream, length).await?,
            SETTINGS => return Err(Some(code::FRAME_UNEXPECTED)),
            _ if first => return Err(Some(code::MISSING_SETTINGS)),
            kind if FORBIDDEN.contains(&kind) => return Err(Some(code::FRAME_UNEXPECTED)),
            GOAWAY => {
                let id = single(stream, length).await?;
                if id > lowest {
                    return Err(Some(code::ID_ERROR));
                }
                lowest = id;
            }
            CANCEL_PUSH => {
                // We promise nothing, so there is nothing to cancel.
                single(stream, length).await?;
                return Err(Some(code::ID_ERROR));
            }
            MAX_PUSH_ID => drop(single(stream, length).await?),
            _ => stream.skip(length).await?,
        }
        first = false;
    }
    Ok(())
}

/// The settings of the client: none of them changes what we do, but they have to be settings.
async fn settings(stream: &mut Bytewise, length: u64) -> Result<(), Ended> {
    if length > MAX_FRAME {
        return Err(Some(code::EXCESSIVE_LOAD));
    }
    let end = stream.read + length;
    let mut known = Vec::new();
    while stream.read < end {
        let id = stream.integer().await?.ok_or(code::FRAME_ERROR)?;
        let _value = stream.integer().await?.ok_or(code::FRAME_ERROR)?;
        if RESERVED_SETTINGS.contains(&id) || known.contains(&id) {
            return Err(Some(code::SETTINGS_ERROR));
        }
        // Enough for every setting there is; repeated unknown ones beyond harm nobody.
        if known.len() < 32 {
            known.push(id);
        }
    }
    if stream.read > end {
        return Err(Some(code::FRAME_ERROR));
    }
    Ok(())
}

/// A frame that holds one integer.
async fn single(stream: &mut Bytewise, length: u64) -> Result<u64, Ended> {
    let end = stream.read + length;
    let value = stream.integer().await?.ok_or(code::FRAME_ERROR)?;
    if stream.read == end {
        Ok(value)
    } else {
        Err(Some(code::FRAME_ERROR))
    }
}

/// With a table of no capacity there is one instruction left: to say so again (RFC 9204 section 4.3.1).
async fn encoder(stream: &mut Bytewise) -> Result<(), Ended> {
    while let Some(byte) = stream.byte().await? {
        if byte != 0x20 {
            return Err(Some(code::QPACK_ENCODER_STREAM_ERROR));
        }
    }
    Ok(())
}

/// The client tells which of our sections it has read: without a table it makes no difference.
async fn decoder(stream: &mut Bytewise) -> Result<(), Ended> {
    while stream.byte().await?.is_some() {
        stream.held.clear();
    }
    Ok(())
}

/// Reads a stream byte by byte, out of the pieces the transport has.
struct Bytewise {
    stream: RecvStream,
    held: bytes::Bytes,
    /// Bytes read so far.
    read: u64,
}

impl Bytewise {
    fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            held: bytes::Bytes::new(),
            read: 0,
        }
    }

    fn stop(&mut self) {
        let _ = self.stream.stop(code::STREAM_CREATION_ERROR);
    }

    async fn fill(&mut self) -> Result<bool, Ended> {
        while self.held.is_empty() {
            match self.stream.read_chunk(4096, true).await {
                Ok(Some(chunk)) => self.held = chunk.bytes,
                Ok(None) => return Ok(false),
                // A reset is an end as well.
                Err(quinn::ReadError::Reset(_)) => return Ok(false),
                Err(_) => return Err(None),
            }
        }
        Ok(true)
    }

    async fn byte(&mut self) -> Result<Option<u8>, Ended> {
        if !self.fill().await? {
            return Ok(None);
        }
        self.read += 1;
        Ok(self.held.split_to(1).first().copied())
    }

    /// The next integer; `None` when the stream ends before it.
    async fn integer(&mut self) -> Result<Option<u64>, Ended> {
        let mut bytes = [0; 8];
        let Some(first) = self.byte().await? else {
            return Ok(None);
        };
        bytes[0] = first;
        let length = 1_usize << (first >> 6);
        for byte in &mut bytes[1..length] {
            *byte = self.byte().await?.ok_or(code::FRAME_ERROR)?;
        }
        Ok(varint::read(&bytes[..length]).map(|(value, _)| value))
    }

    async fn skip(&mut self, mut length: u64) -> Result<(), Ended> {
        while length > 0 {
            if !self.fill().await? {
                return Err(Some(code::FRAME_ERROR));
            }
            let here = usize::try_from(length).unwrap_or(usize::MAX).min(self.held.len());
            drop(self.held.split_to(here));
            self.read += here as u64;
            length -= here as u64;
        }
        Ok(())
    }
}
