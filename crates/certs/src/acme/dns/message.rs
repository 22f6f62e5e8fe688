//! The bytes around a signature of a DNS message.

use hickory_proto::op::{Header, Message, Query};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// Where the signature begins, and the signature. It is the last record, or there is none.
pub(super) fn signature(bytes: &[u8]) -> Option<(usize, Box<Record<TSIG>>)> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    let (counts, code) = (header.counts, header.metadata.op_code);
    for _ in 0..counts.queries {
        Query::read(&mut decoder).ok()?;
    }
    let records = usize::from(counts.answers) + usize::from(counts.authorities);
    Message::read_records(&mut decoder, records, false, code).ok()?;
    let before = usize::from(counts.additionals).checked_sub(1)?;
    let (_, _, early) = Message::read_records(&mut decoder, before, true, code).ok()?;
    if early.is_some() {
        return None;
    }
    let start = bytes.len() - decoder.len();
    let (_, _, signature) = Message::read_records(&mut decoder, 1, true, code).ok()?;
    Some((start, signature?))
}

/// The message as it was before the signature was added: `unsigned` is all in front of it.
pub(super) fn without_last(unsigned: &[u8], original_id: u16) -> Vec<u8> {
    let mut message = unsigned.to_vec();
    if let [id_high, id_low, _, _, _, _, _, _, _, _, high, low, ..] = message.as_mut_slice() {
        let additionals = u16::from_be_bytes([*high, *low]).saturating_sub(1);
        [*high, *low] = additionals.to_be_bytes();
        [*id_high, *id_low] = original_id.to_be_bytes();
    }
    message
}
