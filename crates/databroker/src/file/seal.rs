//! Sealing of record contents. The place of a value is bound to it, so that values cannot be swapped.

use pomerium_api::databroker::{Error, Record};
use pomerium_crypto::aead;
use prost::Message;
use zeroize::Zeroizing;

use super::unavailable;

/// What the key check value holds when it is opened.
const CHECK: &[u8] = b"pomerium databroker file";

/// Seals with a key, or passes values through when there is none.
pub(super) struct Sealer(Option<Zeroizing<[u8; 32]>>);

impl Sealer {
    pub(super) fn new(key: Option<[u8; 32]>) -> Self {
        Self(key.map(Zeroizing::new))
    }

    /// A value that only this key opens; `None` without a key.
    pub(super) fn key_check(&self) -> Option<Vec<u8>> {
        self.0.as_ref().map(|key| aead::seal(key, CHECK, b"key check"))
    }

    /// Whether `check` was made with this key, or by nobody when there is none.
    pub(super) fn fits(&self, check: Option<&[u8]>) -> KeyFit {
        match (&self.0, check) {
            (None, None) => KeyFit::Fits,
            (Some(_), None) => KeyFit::NotSealed,
            (None, Some(_)) => KeyFit::Missing,
            (Some(key), Some(check)) => match aead::open(key, check, b"key check") {
                Ok(plain) if plain == CHECK => KeyFit::Fits,
                _ => KeyFit::Wrong,
            },
        }
    }

    pub(super) fn seal(&self, record: &Record, place: &Place<'_>) -> Vec<u8> {
        let plain = record.encode_to_vec();
        match &self.0 {
            Some(key) => aead::seal(key, &plain, &place.bytes()),
            None => plain,
        }
    }

    pub(super) fn open(&self, value: &[u8], place: &Place<'_>) -> Result<Record, Error> {
        let decoded = match &self.0 {
            Some(key) => {
                let plain = aead::open(key, value, &place.bytes())
                    .map_err(|_| unavailable(format_args!("{place} is damaged or was altered")))?;
                Record::decode(plain.as_slice())
            }
            None => Record::decode(value),
        };
        decoded.map_err(|error| unavailable(format_args!("{place} is damaged: {error}")))
    }
}

/// How a key and a store go together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyFit {
    Fits,
    Wrong,
    Missing,
    NotSealed,
}

/// Where a value stands in the file.
pub(super) enum Place<'a> {
    Live { record_type: &'a str, id: &'a str },
    Change(u64),
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            // The length keeps (ab, c) and (a, bc) apart.
            Self::Live { record_type, id } => [
                b"live",
                &(record_type.len() as u64).to_be_bytes()[..],
                record_type.as_bytes(),
                id.as_bytes(),
            ]
            .concat(),
            Self::Change(version) => [b"change", &version.to_be_bytes()[..]].concat(),
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live { record_type, id } => write!(f, "record {id} of {record_type}"),
            Self::Change(version) => write!(f, "change {version}"),
        }
    }
}
