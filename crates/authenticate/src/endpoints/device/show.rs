//! A session shows a device that was registered before.

use pomerium_api::pb::device::Credential;
use pomerium_api::pb::session::Session;
use pomerium_web::Response;

use super::{Kind, Person, field};
use crate::call::Call;
use crate::device::answer::Answer;
use crate::device::ceremony::KnownKey;
use crate::device::challenge::Act;
use crate::device::party::Party;
use crate::device::refusal::Refusal;
use crate::device::store::{self, Known};
use crate::{Authenticate, Error, session};

impl Authenticate {
    /// Checks that the device is one of the person's of this type, and is here.
    pub(super) async fn show_device(&self, call: &Call, person: &Person<'_>) -> Result<Response, Error> {
        let wanted = self.device_wanted(call)?;
        let kind = self.device_kind(&wanted).await?;
        let answer = Answer::read(field(call, "authenticate_response")?).ok_or(Refusal::Unreadable)?;
        person
            .binding(call, Act::Authenticate, &kind)
            .check(
                &self.options.shared,
                &answer.client.challenge,
                call.now.as_millisecond(),
            )
            .map_err(Refusal::Challenge)?;
        let device = self.own_device(person, &kind, &answer).await?;
        let key = device.key().ok_or(Refusal::Unknown)?;
        if was_used(key.authenticate_response.iter().map(AsRef::as_ref), &answer) {
            return Err(Refusal::Used.into());
        }
        let known = KnownKey {
            id: &key.id,
            public_key: &key.public_key,
            owner: &person.id,
        };
        Party::at(&call.authority)
            .check_use(&kind, &answer, known)
            .map_err(Refusal::Ceremony)?;
        self.take_up(call, &answer.client.challenge).await?;
        let id = device.credential.id;
        let use_of = |credential: &mut Credential| store::add_use(credential, &answer.text);
        if session::edit::<Credential>(&*self.deps.broker, &id, use_of)
            .await?
            .is_none()
        {
            return Err(Refusal::Unknown.into());
        }
        tracing::info!(device = %id, device_type = %kind.id, user = person.user_id, "device shown");
        let shown = |session: &mut Session| store::show(session, &kind.id, &id);
        self.device_done(call, person, &wanted.redirect, shown).await
    }

    /// The device with the key of the answer. It must be of the wanted type: a type that keeps keys in the device
    /// is not fulfilled by a key that is carried around. All that is wrong looks the same from outside.
    async fn own_device(&self, person: &Person<'_>, kind: &Kind, answer: &Answer) -> Result<Known, Error> {
        let broker = &*self.deps.broker;
        let id = store::record_id(&answer.key_id);
        let devices = store::devices(broker, person.user_id).await?;
        let device = devices
            .into_iter()
            .find(|device| device.credential.id == id && device.credential.type_id == kind.id)
            .ok_or(Refusal::Unknown)?;
        let key = device.key().ok_or(Refusal::Unknown)?;
        let owner = store::owner(broker, &answer.key_id)
            .await?
            .ok_or(Refusal::Unknown)?;
        if *owner.owner_id == person.id && owner.public_key == key.public_key && *key.id == *answer.key_id {
            Ok(device)
        } else {
            Err(Refusal::Unknown.into())
        }
    }
}

/// Whether one of the uses on record has the same challenge: other processes have not seen it answered.
fn was_used<'a>(uses: impl Iterator<Item = &'a [u8]>, answer: &Answer) -> bool {
    uses.filter_map(|used| Answer::read(std::str::from_utf8(used).ok()?))
        .any(|used| used.client.challenge == answer.client.challenge)
}
