//! The body of a request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pomerium_web::body::BoxError;

use super::code;
use super::head::{self, Limits, Refused};
use super::reader::{Event, Fault, Reader};

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the client has reset the request")]
    Gone,
    #[error("the body is not as long as its Content-Length says")]
    Length,
    #[error("the trailers are malformed")]
    Trailers,
    #[error("the client broke the protocol")]
    Protocol,
}

/// Reads the body of one request.
pub(super) struct Body {
    reader: Reader,
    connection: quinn::Connection,
    limits: Limits,
    /// What is left of the announced length.
    left: Option<u64>,
    trailers: bool,
    done: bool,
}

impl Body {
    /// `length` is what the head announces.
    pub(super) fn new(
        reader: Reader,
        connection: quinn::Connection,
        limits: Limits,
        length: Option<u64>,
    ) -> Self {
        Self {
            reader,
            connection,
            limits,
            left: length,
            trailers: false,
            done: false,
        }
    }

    fn broken(&mut self, why: Broken) -> Broken {
        self.done = true;
        self.reader.stop(code::MESSAGE_ERROR);
        why
    }

    fn fault(&mut self, fault: Fault) -> Broken {
        self.done = true;
        match fault {
            Fault::Gone => return Broken::Gone,
            Fault::Connection(code) => self.connection.close(code, b""),
            Fault::Stream(code) => self.reader.stop(code),
            Fault::TooLarge => self.reader.stop(code::EXCESSIVE_LOAD),
        }
        Broken::Protocol
    }

    fn data(&mut self, piece: Bytes) -> Result<Frame<Bytes>, Broken> {
        if self.trailers {
            return Err(self.fault(Fault::Connection(code::FRAME_UNEXPECTED)));
        }
        if let Some(left) = &mut self.left {
            match left.checked_sub(piece.len() as u64) {
                Some(rest) => *left = rest,
                None => return Err(self.broken(Broken::Length)),
            }
        }
        Ok(Frame::data(piece))
    }

    fn section(&mut self, block: Bytes) -> Result<Frame<Bytes>, Broken> {
        if std::mem::replace(&mut self.trailers, true) {
            return Err(self.fault(Fault::Connection(code::FRAME_UNEXPECTED)));
        }
        match head::read_trailers(block, self.limits) {
            Ok(trailers) => Ok(Frame::trailers(trailers)),
            Err(Refused::Undecodable) => Err(self.fault(Fault::Connection(code::QPACK_DECOMPRESSION_FAILED))),
            Err(_) => Err(self.broken(Broken::Trailers)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.reader.poll_event(cx)) {
            Ok(Event::Data(piece)) => self.data(piece),
            Ok(Event::Section(block)) => self.section(block),
            Ok(Event::End) if self.left.is_some_and(|left| left > 0) => Err(self.broken(Broken::Length)),
            Ok(Event::End) => {
                self.done = true;
                return Poll::Ready(None);
            }
            Err(fault) => Err(self.fault(fault)),
        };
        Poll::Ready(Some(frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
