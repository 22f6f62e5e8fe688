//! Signatures of DNS messages with a shared key (RFC 8945).

use aws_lc_rs::hmac;
use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, make_tsig_record, message_tbs};
use hickory_proto::serialize::binary::BinEncoder;

use super::message::{self, Signature};
use crate::acme::options::TsigKey;

/// How far the clocks may differ, in seconds.
const FUDGE: u16 = 300;

/// A key, ready for use.
pub(super) struct Signer {
    name: Name,
    algorithm: TsigAlgorithm,
    key: hmac::Key,
}

impl Signer {
    pub(super) fn new(key: &TsigKey) -> Result<Self, String> {
        let (algorithm, hash) = match key.algorithm.as_str() {
            "hmac-sha256" => (TsigAlgorithm::HmacSha256, hmac::HMAC_SHA256),
            "hmac-sha384" => (TsigAlgorithm::HmacSha384, hmac::HMAC_SHA384),
            "hmac-sha512" => (TsigAlgorithm::HmacSha512, hmac::HMAC_SHA512),
            other => return Err(format!("the algorithm {other} is not known")),
        };
        let name = Name::from_ascii(&key.name).map_err(|_| format!("{} is no name of a key", key.name))?;
        Ok(Self {
            name: absolute(name).to_lowercase(),
            algorithm,
            key: hmac::Key::new(hash, &key.secret),
        })
    }

    /// Signs a request; returns its MAC, which the answer's signature covers.
    pub(super) fn sign(&self, message: &mut Message, now_unix: u64) -> Result<Vec<u8>, String> {
        let id = message.metadata.id;
        let unsigned = TSIG::new(
            self.algorithm.clone(),
            now_unix,
            FUDGE,
            Vec::new(),
            id,
            None,
            Vec::new(),
        );
        let covered = message_tbs(message, &unsigned, &self.name).map_err(|error| error.to_string())?;
        let mac = hmac::sign(&self.key, &covered).as_ref().to_vec();
        let record = make_tsig_record(self.name.clone(), unsigned.set_mac(mac.clone()));
        message.signature = Some(Box::new(record));
        Ok(mac)
    }

    /// Checks the signature of an answer to the request with `request_mac` (RFC 8945 section 5.3).
    pub(super) fn verify(&self, answer: &[u8], request_mac: &[u8], now_unix: u64) -> Result<(), String> {
        let Signature { start, name, tsig } = message::signature(answer).ok_or("it is not signed")?;
        if let Some(error) = &tsig.error {
            return Err(format!("the server does not take our signature: {error:?}"));
        }
        if name.to_lowercase() != self.name || tsig.algorithm != self.algorithm {
            return Err("it is signed with another key".into());
        }
        let mut covered = Vec::with_capacity(answer.len() + 128);
        covered.extend_from_slice(&u16::try_from(request_mac.len()).unwrap_or(0).to_be_bytes());
        covered.extend_from_slice(request_mac);
        covered.extend_from_slice(&message::without_last(&answer[..start], tsig.oid));
        let mut variables = Vec::new();
        let mut encoder = BinEncoder::new(&mut variables);
        tsig.emit_tsig_for_mac(&mut encoder, &name)
            .map_err(|error| error.to_string())?;
        covered.extend_from_slice(&variables);
        hmac::verify(&self.key, &covered, &tsig.mac).map_err(|_| "its signature is wrong")?;
        if tsig.time.abs_diff(now_unix) > u64::from(tsig.fudge.min(FUDGE)) {
            return Err("the clocks differ by more than five minutes".into());
        }
        Ok(())
    }
}

/// With a dot at the end.
pub(super) fn absolute(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}
