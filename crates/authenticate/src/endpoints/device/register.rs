//! A new device.

use pomerium_api::databroker::{Error as StoreError, Record};
use pomerium_api::pb::device::{Credential, Enrollment, credential};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{RecordMessage, from_record, to_proto_time, to_record};
use pomerium_crypto::secure_token;
use pomerium_web::Response;
use uuid::Uuid;

use super::{Person, Wanted, field};
use crate::call::Call;
use crate::device::answer::Answer;
use crate::device::ceremony::NewKey;
use crate::device::challenge::Act;
use crate::device::party::Party;
use crate::device::refusal::{LinkError, Refusal};
use crate::device::store::{self, MAX_DEVICES};
use crate::{Authenticate, Error, session};

/// How much of a browser's name is kept, characters.
const MAX_AGENT: usize = 512;

impl Authenticate {
    /// Checks what a device made, writes it down, and shows it to the session.
    pub(super) async fn register_device(&self, call: &Call, person: &Person<'_>) -> Result<Response, Error> {
        let wanted = self.device_wanted(call)?;
        let kind = self.device_kind(&wanted).await?;
        let answer = Answer::read(field(call, "register_response")?).ok_or(Refusal::Unreadable)?;
        person
            .binding(call, Act::Register, &kind)
            .check(
                &self.options.shared,
                &answer.client.challenge,
                call.now.as_millisecond(),
            )
            .map_err(Refusal::Challenge)?;
        let party = Party::at(&call.authority);
        let key = party.check_creation(&kind, &answer).map_err(Refusal::Ceremony)?;
        let broker = &*self.deps.broker;
        if store::devices(broker, person.user_id).await?.len() >= MAX_DEVICES {
            return Err(Refusal::TooMany.into());
        }
        let _busy = self.deps.state.devices.begin(&key.id).ok_or(Refusal::Busy)?;
        self.check_owner(&key, person).await?;
        self.take_up(call, &answer.client.challenge).await?;
        let asked = kind
            .creation(&party, person.entity(), &answer.client.challenge)
            .to_string();
        let id = store::record_id(&key.id);
        let enrollment = self.enrollment(call, person, &wanted, &id).await?;
        let mut device = Credential {
            id: id.clone(),
            type_id: kind.id.clone(),
            enrollment_id: enrollment.id.clone(),
            user_id: person.user_id.to_owned(),
            specifier: Some(credential::Specifier::Webauthn(credential::WebAuthn {
                id: key.id.clone().into(),
                public_key: key.public_key.clone().into(),
                register_options: asked.into_bytes().into(),
                register_response: answer.text.into_bytes().into(),
                authenticate_response: Vec::new(),
            })),
        };
        store::shed(&mut device);
        self.write_device(&key, person, &wanted, &enrollment, &device)
            .await?;
        tracing::info!(device = %id, device_type = %kind.id, user = person.user_id, "device registered");
        let listed = |user: &mut User| {
            if !user.device_credential_ids.contains(&id) {
                user.device_credential_ids.push(id.clone());
            }
        };
        session::edit(broker, person.user_id, listed).await?;
        let shown = |session: &mut Session| store::show(session, &kind.id, &id);
        self.device_done(call, person, &wanted.redirect, shown).await
    }

    /// A key never becomes somebody else's, not even after it was removed.
    async fn check_owner(&self, key: &NewKey, person: &Person<'_>) -> Result<(), Error> {
        match store::owner(&*self.deps.broker, &key.id).await? {
            Some(owner) if *owner.owner_id != person.id => Err(Refusal::Taken.into()),
            // The same id with another key is no device that was here before.
            Some(owner) if *owner.public_key != *key.public_key => Err(Refusal::Taken.into()),
            _ => Ok(()),
        }
    }

    /// The enrollment that the device fulfils: a new one that nobody has approved, or the one that an administrator
    /// made a link for, which is then used up.
    async fn enrollment(
        &self,
        call: &Call,
        person: &Person<'_>,
        wanted: &Wanted,
        credential_id: &str,
    ) -> Result<Enrollment, Error> {
        let agent = call.header("user-agent").unwrap_or_default();
        let fulfilled = |before: Enrollment| Enrollment {
            enrolled_at: Some(to_proto_time(call.now)),
            user_agent: agent.chars().take(MAX_AGENT).collect(),
            ip_address: call.canonical.client_ip.to_string(),
            credential_id: credential_id.to_owned(),
            ..before
        };
        let Some(token) = &wanted.enrollment else {
            return Ok(fulfilled(Enrollment {
                id: Uuid::new_v4().to_string(),
                user_id: person.user_id.to_owned(),
                type_id: wanted.type_id.clone(),
                ..Enrollment::default()
            }));
        };
        let opened = secure_token::open_text(&self.options.shared, token, call.now.as_millisecond());
        let id = opened.map_err(|error| Refusal::Link(error.into()))?;
        let id = Uuid::from_bytes(id).to_string();
        let broker = &*self.deps.broker;
        let record = match broker.get(Enrollment::TYPE, &id).await {
            Ok(record) => record,
            Err(StoreError::NotFound) => return Err(Refusal::Link(LinkError::Gone).into()),
            Err(error) => return Err(error.into()),
        };
        let before: Enrollment = from_record(&record)?;
        check_link(&before, person, &wanted.type_id).map_err(Refusal::Link)?;
        let enrollment = fulfilled(before);
        // Whoever comes first has it; the other finds it changed.
        let used = Record {
            version: record.version,
            ..to_record(&enrollment)
        };
        match broker.replace(used).await? {
            Some(_) => Ok(enrollment),
            None => Err(Refusal::Link(LinkError::Used).into()),
        }
    }

    /// Whose the key is first, and that only where nobody has it: another process may have registered it for somebody else
    /// since we looked. Then it is theirs, and nothing of this is written.
    async fn write_device(
        &self,
        key: &NewKey,
        person: &Person<'_>,
        wanted: &Wanted,
        enrollment: &Enrollment,
        device: &Credential,
    ) -> Result<(), Error> {
        self.deps
            .broker
            .replace(store::owner_record(key, &person.id))
            .await?;
        self.check_owner(key, person).await?;
        let mut records = Vec::new();
        if wanted.enrollment.is_none() {
            records.push(to_record(enrollment));
        }
        records.push(to_record(device));
        self.deps.broker.put(records).await?;
        Ok(())
    }
}

fn check_link(enrollment: &Enrollment, person: &Person<'_>, type_id: &str) -> Result<(), LinkError> {
    if enrollment.user_id != person.user_id {
        Err(LinkError::OtherPerson)
    } else if enrollment.type_id != type_id {
        Err(LinkError::OtherType)
    } else if enrollment.enrolled_at.is_some() {
        Err(LinkError::Used)
    } else {
        Ok(())
    }
}
