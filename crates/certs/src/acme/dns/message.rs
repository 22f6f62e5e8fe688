//! The bytes around a signature of a DNS message.

use hickory_proto::op::{Header, Query};
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// A signature, and where it begins.
pub(super) struct Signature {
    pub start: usize,
    /// Of the key.
    pub name: Name,
    pub tsig: TSIG,
}

/// The signature of a message. It is the last record, or there is none (RFC 8945 section 5.1).
pub(super) fn signature(bytes: &[u8]) -> Option<Signature> {
    let mut decoder = BinDecoder::new(bytes);
    let counts = Header::read(&mut decoder).ok()?.counts;
    for _ in 0..counts.queries {
        Query::read(&mut decoder).ok()?;
    }
    let additionals = usize::from(counts.additionals).checked_sub(1)?;
    let before = usize::from(counts.answers) + usize::from(counts.authorities) + additionals;
    for _ in 0..before {
        let record = Record::<RData>::read(&mut decoder).ok()?;
        if record.record_type() == RecordType::TSIG {
            return None;
        }
    }
    let start = bytes.len() - decoder.len();
    let record = Record::<RData>::read(&mut decoder).ok()?;
    match record.data {
        RData::TSIG(tsig) if decoder.is_empty() => Some(Signature {
            start,
            name: record.name,
            tsig,
        }),
        _ => None,
    }
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
