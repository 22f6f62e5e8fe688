//! Header compression without a dynamic table (RFC 9204): we allow the client none and use none ourselves.
//!
//! That costs some bytes per request and saves the state that both sides would have to keep in step: there
//! is nothing to fill, to block on or to blow up. What remains is a static table and string literals.

mod decode;
mod encode;
mod huffman;
mod table;

pub(super) use decode::{Decoder, Failed, Name, Value};
pub(super) use encode::Encoder;
