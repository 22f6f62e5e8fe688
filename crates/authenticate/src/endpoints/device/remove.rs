//! A person takes a device of theirs away.

use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_crypto::query::Query;
use pomerium_web::Response;

use super::{MALFORMED, PATH, Person, field};
use crate::call::Call;
use crate::device::store;
use crate::{Authenticate, Error, session};

/// Seconds that the buttons of the account page are good for.
const LIFETIME: i64 = 60 * 60;

const CREDENTIAL: &str = "pomerium_device_credential_id";

/// Where the account page posts to for taking devices away.
pub(crate) fn removal(service: &Authenticate, call: &Call) -> String {
    let url = format!("https://{}{PATH}", call.authority);
    service
        .options
        .sign_for(&url, &Query::new(), call.unix(), LIFETIME)
}

impl Authenticate {
    /// Deletes the device and its enrollment, and forgets it in this session and with its owner. Other sessions
    /// find no record behind what they have shown.
    pub(super) async fn remove_device(&self, call: &Call, person: &Person<'_>) -> Result<Response, Error> {
        let id = field(call, CREDENTIAL)?;
        if id.is_empty() {
            return Err(MALFORMED);
        }
        let broker = &*self.deps.broker;
        let devices = store::devices(broker, person.user_id).await?;
        if let Some(device) = devices.iter().find(|device| device.credential.id == id) {
            store::remove(broker, device, call.now).await?;
            tracing::info!(device = id, user = person.user_id, "device removed");
        }
        let unlisted = |user: &mut User| user.device_credential_ids.retain(|own| own != id);
        session::edit(broker, person.user_id, unlisted).await?;
        let forgotten = |session: &mut Session| store::forget(session, id);
        self.device_done(call, person, "/.pomerium/", forgotten).await
    }
}
