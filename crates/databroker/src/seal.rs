//! Sealing of record contents at rest. The place of a value is bound to it, so that values cannot be swapped. The first
//! key seals; the others still open what was sealed before they were replaced.

use pomerium_api::databroker::{Error, Record};
use pomerium_crypto::aead;
use prost::Message;
use zeroize::Zeroizing;

use crate::damage::Damage;
use crate::store::{Key, Store};

/// What the key check value holds when it is opened.
const CHECK: &[u8] = b"pomerium databroker file";

/// Seals with a key, or passes values through when there is none. It remembers the records that it could not open.
pub(crate) struct Sealer {
    keys: Vec<Zeroizing<[u8; 32]>>,
    damage: Damage,
}

impl Sealer {
    /// The first key seals, each of them opens.
    pub(crate) fn new(keys: &[[u8; 32]]) -> Self {
        Self {
            keys: keys.iter().copied().map(Zeroizing::new).collect(),
            damage: Damage::default(),
        }
    }

    /// A value that only these keys open; `None` without a key.
    pub(crate) fn key_check(&self) -> Option<Vec<u8>> {
        self.keys.first().map(|key| aead::seal(key, CHECK, b"key check"))
    }

    /// Whether `check` was made with one of these keys, or by nobody when there is none.
    pub(crate) fn fits(&self, check: Option<&[u8]>) -> KeyFit {
        match (self.keys.is_empty(), check) {
            (true, None) => KeyFit::Fits,
            (false, None) => KeyFit::NotSealed,
            (true, Some(_)) => KeyFit::Missing,
            (false, Some(check)) => match self.open_bytes(check, b"key check") {
                Some(plain) if plain == CHECK => KeyFit::Fits,
                _ => KeyFit::Wrong,
            },
        }
    }

    /// Whether `check` was made with the key that seals: otherwise values are to be sealed anew before the former key may
    /// be forgotten.
    pub(crate) fn is_current(&self, check: Option<&[u8]>) -> bool {
        match (self.keys.first(), check) {
            (Some(key), Some(check)) => aead::open(key, check, b"key check").is_ok(),
            _ => true,
        }
    }

    /// Whether there are keys that only open.
    pub(crate) fn has_former(&self) -> bool {
        self.keys.len() > 1
    }

    /// The value sealed with the key of today; `None` when it is already, or does not open.
    pub(crate) fn renewed(&self, value: &[u8], place: &Place<'_>) -> Option<Vec<u8>> {
        let (today, former) = self.keys.split_first()?;
        let place = place.bytes();
        if aead::open(today, value, &place).is_ok() {
            return None;
        }
        let plain = former
            .iter()
            .find_map(|key| aead::open(key, value, &place).ok())?;
        Some(aead::seal(today, &Zeroizing::new(plain), &place))
    }

    pub(crate) fn seal(&self, record: &Record, place: &Place<'_>) -> Vec<u8> {
        let plain = record.encode_to_vec();
        match self.keys.first() {
            Some(key) => aead::seal(key, &plain, &place.bytes()),
            None => plain,
        }
    }

    /// Errors with [`Error::Damaged`].
    pub(crate) fn open(&self, value: &[u8], place: &Place<'_>) -> Result<Record, Error> {
        let decoded = if self.keys.is_empty() {
            Record::decode(value)
        } else {
            let plain = self.open_bytes(value, &place.bytes());
            Record::decode(plain.ok_or_else(|| self.damaged(place))?.as_slice())
        };
        decoded.map_err(|_| self.damaged(place))
    }

    /// What is there is not what was written.
    pub(crate) fn damaged(&self, place: &Place<'_>) -> Error {
        let text = format!("store: {place} is damaged or was altered");
        if let Place::Live { record_type, id } | Place::Version { record_type, id, .. } = place {
            self.missed(record_type, id, &text);
        }
        Error::Damaged(text)
    }

    /// A record was left out because it cannot be read.
    pub(crate) fn missed(&self, record_type: &str, id: &str, why: &str) {
        if self.damage.note(record_type, id) {
            tracing::error!(
                record_type,
                id,
                error = why,
                "a record cannot be read and is left out; `pomerium databroker check` names all of them"
            );
        }
    }

    /// The records that were missed and still cannot be read.
    pub(crate) async fn unreadable(&self, store: &impl Store) -> Vec<Key> {
        self.damage.still(store).await
    }

    fn open_bytes(&self, value: &[u8], place: &[u8]) -> Option<Vec<u8>> {
        self.keys
            .iter()
            .find_map(|key| aead::open(key, value, place).ok())
    }
}

/// How a key and a store go together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyFit {
    Fits,
    Wrong,
    Missing,
    NotSealed,
}

/// Where a value stands in the file.
pub(crate) enum Place<'a> {
    Live {
        record_type: &'a str,
        id: &'a str,
    },
    Change(u64),
    /// A record of this version, live or in the change log.
    Version {
        record_type: &'a str,
        id: &'a str,
        version: u64,
    },
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
            Self::Version {
                record_type,
                id,
                version,
            } => [
                b"version",
                &version.to_be_bytes()[..],
                &(record_type.len() as u64).to_be_bytes(),
                record_type.as_bytes(),
                id.as_bytes(),
            ]
            .concat(),
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live { record_type, id } | Self::Version { record_type, id, .. } => {
                write!(f, "record {id} of {record_type}")
            }
            Self::Change(version) => write!(f, "change {version}"),
        }
    }
}
