//! The page that asks for a device.

use pomerium_web::Response;
use pomerium_web::pages::{self, DevicePage};

use super::Person;
use crate::call::Call;
use crate::device::challenge::Act;
use crate::device::party::Party;
use crate::device::store;
use crate::{Authenticate, Error};

impl Authenticate {
    /// Shows what is stored for what, and two ways on.
    pub(super) async fn device_page(&self, call: &Call, person: &Person<'_>) -> Result<Response, Error> {
        let wanted = self.device_wanted(call)?;
        let kind = self.device_kind(&wanted).await?;
        let party = Party::at(&call.authority);
        let devices = store::devices(&*self.deps.broker, person.user_id).await?;
        let keys: Vec<&[u8]> = devices
            .iter()
            .filter(|device| device.credential.type_id == kind.id)
            .filter_map(|device| Some(&*device.key()?.id))
            .collect();
        let challenge = |act| {
            let random = pomerium_crypto::random::bytes();
            let now = call.now.as_millisecond();
            person
                .binding(call, act, &kind)
                .challenge(&self.options.shared, &random, now)
        };
        let creation = kind.creation(&party, person.entity(), &challenge(Act::Register));
        let request = kind.request(&party, keys.iter().copied(), &challenge(Act::Authenticate));
        let name = self.options.application_name(&call.authority);
        let page = DevicePage {
            application: if name.is_empty() { &call.authority } else { &name },
            action: &self.device_form(call, &wanted),
            creation: &creation,
            request: (!keys.is_empty()).then_some(&request),
            own_device: kind.attachment == Some("platform"),
        };
        Ok(pages::device(&page, &self.signed_in_frame(call)))
    }
}
