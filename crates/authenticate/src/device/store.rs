//! The records of devices: whose they are, how they were made and used (spec authentication.md 16.4).

use std::collections::HashSet;

use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::databroker::{Databroker, Error, Record};
use pomerium_api::pb::device::{Credential, Enrollment, OwnerCredentialRecord, Type, credential};
use pomerium_api::pb::session::{Session, session};
use pomerium_api::pb::user::User;
use pomerium_api::records::to_tombstone;
use pomerium_crypto::encoding::base58_encode;
use prost::Message;

use super::ceremony::NewKey;
use super::kind::Kind;
use crate::once::Once;
use crate::session::find;

/// Most devices of one person.
pub(crate) const MAX_DEVICES: usize = 50;
/// How many uses of a key are kept.
const KEPT_USES: usize = 5;
/// Largest record of a credential, bytes.
const MAX_RECORD: usize = 256 * 1024;

const OWNER: &str = "type.googleapis.com/pomerium.device.OwnerCredentialRecord";

/// A device of a person.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) credential: Credential,
    /// Missing when somebody took it away: the device is then approved by nobody.
    pub(crate) enrollment: Option<Enrollment>,
}

impl Known {
    pub(crate) fn key(&self) -> Option<&credential::WebAuthn> {
        let credential::Specifier::Webauthn(key) = self.credential.specifier.as_ref()?;
        Some(key)
    }
}

/// The record id of a key.
pub(crate) fn record_id(key_id: &[u8]) -> String {
    base58_encode(key_id)
}

/// The device type with this id, of a record or built in.
pub(crate) async fn kind(broker: &dyn Databroker, id: &str) -> Result<Kind, Error> {
    let record = find::<Type>(broker, id).await?;
    Ok(record.map_or_else(|| Kind::built_in(id), |record| Kind::of_record(&record)))
}

/// The devices of a person, in the order they were registered.
pub(crate) async fn devices(broker: &dyn Databroker, user_id: &str) -> Result<Vec<Known>, Error> {
    let user = find::<User>(broker, user_id).await?.unwrap_or_default();
    let mut known = Vec::new();
    for id in user.device_credential_ids.iter().take(MAX_DEVICES) {
        let Some(credential) = find::<Credential>(broker, id).await? else {
            continue;
        };
        // The list is a list; whose a device is, its own record says.
        if credential.user_id != user_id {
            continue;
        }
        let enrollment = find::<Enrollment>(broker, &credential.enrollment_id).await?;
        known.push(Known {
            credential,
            enrollment,
        });
    }
    Ok(known)
}

/// What the device with this key knows its owner by; `None` when nobody ever had it.
pub(crate) async fn owner(
    broker: &dyn Databroker,
    key_id: &[u8],
) -> Result<Option<OwnerCredentialRecord>, Error> {
    match broker.get(OWNER, &record_id(key_id)).await {
        Ok(record) => {
            let data = record.data.unwrap_or_default();
            OwnerCredentialRecord::decode(data.value.as_slice())
                .map(Some)
                .map_err(|error| Error::Invalid(format!("owner record {}: {error}", record.id)))
        }
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The record that says for ever whose a key is.
pub(crate) fn owner_record(key: &NewKey, owner: &[u8; 16]) -> Record {
    let message = OwnerCredentialRecord {
        id: key.id.clone().into(),
        owner_id: owner.to_vec().into(),
        public_key: key.public_key.clone().into(),
    };
    Record {
        r#type: OWNER.to_owned(),
        id: record_id(&key.id),
        data: Some(prost_types::Any {
            type_url: OWNER.to_owned(),
            value: message.encode_to_vec(),
        }),
        ..Record::default()
    }
}

/// Adds a use to the record of a key: the latest come last, the oldest go.
pub(crate) fn add_use(credential: &mut Credential, answer: &str) {
    if let Some(credential::Specifier::Webauthn(key)) = &mut credential.specifier {
        key.authenticate_response
            .push(answer.to_owned().into_bytes().into());
        let surplus = key.authenticate_response.len().saturating_sub(KEPT_USES);
        key.authenticate_response.drain(..surplus);
    }
    shed(credential);
}

/// Takes away what a large record can do without: uses, then how the key was made, then what was asked.
pub(crate) fn shed(credential: &mut Credential) {
    let steps: [fn(&mut credential::WebAuthn); 3] = [
        |key| key.authenticate_response.clear(),
        |key| key.register_response.clear(),
        |key| key.register_options.clear(),
    ];
    for step in steps {
        if credential.encoded_len() <= MAX_RECORD {
            return;
        }
        if let Some(credential::Specifier::Webauthn(key)) = &mut credential.specifier {
            step(key);
        }
    }
}

/// Says in the session that it has shown the device: the latest of a type takes the place of others of that type.
pub(crate) fn show(session: &mut Session, type_id: &str, id: &str) {
    session
        .device_credentials
        .retain(|shown| shown.type_id != type_id);
    session.device_credentials.push(session::DeviceCredential {
        type_id: type_id.to_owned(),
        credential: Some(session::device_credential::Credential::Id(id.to_owned())),
    });
}

/// The ids of the devices that a session has shown.
pub(crate) fn shown(session: &Session) -> impl Iterator<Item = &str> {
    session
        .device_credentials
        .iter()
        .filter_map(|shown| match &shown.credential {
            Some(session::device_credential::Credential::Id(id)) => Some(id.as_str()),
            _ => None,
        })
}

/// Takes a device out of the session.
pub(crate) fn forget(session: &mut Session, id: &str) {
    let is_it = |shown: &session::DeviceCredential| matches!(&shown.credential, Some(session::device_credential::Credential::Id(own)) if own == id);
    session.device_credentials.retain(|shown| !is_it(shown));
}

/// Takes a device away. Whose its key is stays on record: it never becomes somebody else's.
pub(crate) async fn remove(broker: &dyn Databroker, device: &Known, now: Timestamp) -> Result<(), Error> {
    let mut gone = vec![to_tombstone(&device.credential, now)];
    gone.extend(
        device
            .enrollment
            .as_ref()
            .map(|enrollment| to_tombstone(enrollment, now)),
    );
    broker.put(gone).await.map(drop)
}

/// What is kept in memory over reloads.
#[derive(Debug)]
pub(crate) struct DeviceState {
    /// Challenges that were answered.
    pub(crate) answered: Once,
    busy: Mutex<HashSet<Vec<u8>>>,
}

impl Default for DeviceState {
    fn default() -> Self {
        Self {
            answered: Once::new("device", super::LIFETIME + 60, 100_000),
            busy: Mutex::default(),
        }
    }
}

impl DeviceState {
    /// Keeps others of this process from registering the same key; `None` when somebody does.
    pub(crate) fn begin(&self, key_id: &[u8]) -> Option<Busy<'_>> {
        self.busy.lock().insert(key_id.to_vec()).then(|| Busy {
            state: self,
            key_id: key_id.to_vec(),
        })
    }
}

/// As long as it lives, nobody else registers this key.
#[derive(Debug)]
pub(crate) struct Busy<'a> {
    state: &'a DeviceState,
    key_id: Vec<u8>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.state.busy.lock().remove(&self.key_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(sizes: (usize, usize, usize)) -> Credential {
        Credential {
            id: "c".into(),
            specifier: Some(credential::Specifier::Webauthn(credential::WebAuthn {
                id: vec![1].into(),
                public_key: vec![2; 77].into(),
                register_options: vec![3; sizes.0].into(),
                register_response: vec![4; sizes.1].into(),
                authenticate_response: vec![vec![5; sizes.2].into(); 5],
            })),
            ..Credential::default()
        }
    }

    fn key(credential: Credential) -> credential::WebAuthn {
        let known = Known {
            credential,
            enrollment: None,
        };
        known.key().unwrap().clone()
    }

    #[test]
    fn the_last_five_uses_are_kept() {
        let mut record = credential((10, 10, 10));
        for at in 0..7 {
            add_use(&mut record, &format!("use {at}"));
        }
        let kept = key(record).authenticate_response;
        assert_eq!(kept, ["use 2", "use 3", "use 4", "use 5", "use 6"]);
    }

    #[test]
    fn a_large_record_sheds_in_order() {
        let large = 200 * 1024;
        for (sizes, left) in [
            ((10, 10, 10), (10, 10, 5)),
            ((10, large, 20 * 1024), (10, large, 0)),
            ((large, large, 10), (large, 0, 0)),
            ((2 * large, large, 10), (0, 0, 0)),
        ] {
            let mut record = credential(sizes);
            shed(&mut record);
            let key = key(record);
            let found = (
                key.register_options.len(),
                key.register_response.len(),
                key.authenticate_response.len(),
            );
            assert_eq!(found, left, "{sizes:?}");
            assert_eq!(key.public_key.len(), 77);
        }
    }

    #[test]
    fn a_session_shows_one_device_of_a_type() {
        let mut session = Session::default();
        show(&mut session, "any", "a");
        show(&mut session, "enclave_only", "b");
        show(&mut session, "any", "c");
        assert_eq!(shown(&session).collect::<Vec<_>>(), ["b", "c"]);
        forget(&mut session, "c");
        assert_eq!(shown(&session).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn one_at_a_time_registers_a_key() {
        let state = DeviceState::default();
        let busy = state.begin(b"key").unwrap();
        assert!(state.begin(b"key").is_none());
        assert!(state.begin(b"other").is_some());
        drop(busy);
        assert!(state.begin(b"key").is_some());
    }
}
