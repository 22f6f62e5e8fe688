//! `/.pomerium/webauthn` and `/.pomerium/device-enrolled`: a person shows a device, registers or removes one
//! (spec authentication.md 16.1). What is checked of the device itself is in [`crate::device`].
//!
//! A signed link leads here and says for which type and to where; nothing of that is taken from a form. The link is
//! good for five minutes, a ceremony takes up to fifteen: the page therefore posts to the same address, signed anew
//! for as long as the challenge on it is good.

mod enrolled;
mod page;
mod register;
mod remove;
mod show;

use http::{HeaderValue, Method};
use pomerium_api::databroker::Record;
use pomerium_api::pb::session::Session;
use pomerium_crypto::query::Query;
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::handle::Handle;
use pomerium_web::{Response, csrf};

use crate::call::Call;
use crate::device::challenge::{Act, Binding};
use crate::device::kind::{self, Entity, Kind};
use crate::device::party::person_id;
use crate::device::refusal::Refusal;
use crate::device::{LIFETIME, store};
use crate::links::REDIRECT_URI;
use crate::{Authenticate, Error, reply, service, session};

pub(crate) use remove::removal;

/// The page of the ceremonies.
pub(crate) const PATH: &str = "/.pomerium/webauthn";
/// Where somebody lands who came for the registration alone.
pub(crate) const ENROLLED: &str = "/.pomerium/device-enrolled";

const DEVICE_TYPE: &str = "pomerium_device_type";
const ENROLLMENT_TOKEN: &str = "pomerium_enrollment_token";
const MALFORMED: Error = Error::BadRequest("a parameter is missing, repeated or cannot be read");

/// Who registers or shows a device.
pub(super) struct Person<'a> {
    session_id: &'a str,
    user_id: &'a str,
    name: &'a str,
    display_name: &'a str,
    /// What devices know the person by.
    id: [u8; 16],
}

impl Person<'_> {
    fn entity(&self) -> Entity<'_> {
        Entity {
            id: &self.id,
            name: self.name,
            display_name: self.display_name,
        }
    }

    fn binding<'a>(&'a self, call: &'a Call, act: Act, kind: &'a Kind) -> Binding<'a> {
        Binding {
            act,
            session_id: self.session_id,
            authority: &call.authority,
            type_id: &kind.id,
        }
    }
}

/// What a link asks for.
pub(super) struct Wanted {
    type_id: String,
    /// A place of ours.
    redirect: String,
    /// Made by an administrator.
    enrollment: Option<String>,
}

impl Authenticate {
    /// The address a person is sent to whose session has shown no device of the type that `request` wants.
    pub fn device_url(&self, request: &CanonicalRequest, device_type: &str) -> String {
        let wanted = Wanted {
            type_id: device_type.to_owned(),
            redirect: format!(
                "https://{}{}",
                request.authority.as_str(),
                request.path_and_query()
            ),
            enrollment: None,
        };
        let now = self.deps.clock.now().as_second();
        self.device_link(
            request.authority.as_str(),
            &wanted,
            now,
            pomerium_crypto::signed_url::LIFETIME,
        )
    }

    /// `/.pomerium/webauthn`.
    pub(crate) async fn webauthn(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD, Method::POST])?;
        csrf::check_origin(&call.canonical, &call.headers).map_err(|_| Error::CrossSite)?;
        self.options.verify_link(call)?;
        let person = self.person(call)?;
        if call.method != Method::POST {
            return self.device_page(call, &person).await;
        }
        match field(call, "action")? {
            "register" => self.register_device(call, &person).await,
            "authenticate" => self.show_device(call, &person).await,
            "unregister" => self.remove_device(call, &person).await,
            _ => Err(Error::NotFound),
        }
    }

    fn person<'a>(&self, call: &'a Call) -> Result<Person<'a>, Error> {
        let principal = self.require(call)?;
        if principal.impersonator.is_some() {
            return Err(Refusal::Impersonated.into());
        }
        if principal.service_account || principal.session.is_none() || principal.user_id.is_empty() {
            return Err(Refusal::NoPerson.into());
        }
        let filled = |text: &'a str| (!text.is_empty()).then_some(text);
        let name = filled(&principal.email).unwrap_or(&principal.user_id);
        Ok(Person {
            session_id: &principal.session_id,
            user_id: &principal.user_id,
            name,
            display_name: filled(&principal.name).unwrap_or(name),
            id: person_id(&principal.user_id),
        })
    }

    /// What the link asks for; a page may be asked for without saying which, an answer may not be.
    fn device_wanted(&self, call: &Call) -> Result<Wanted, Error> {
        let posted = call.method == Method::POST;
        let parameter = |name| -> Result<Option<String>, Error> {
            Ok(call
                .single(name)?
                .filter(|value| !value.is_empty())
                .map(str::to_owned))
        };
        let or = |value: Option<String>, default: &str| match value {
            None if posted => Err(MALFORMED),
            value => Ok(value.unwrap_or_else(|| default.to_owned())),
        };
        let type_id = or(parameter(DEVICE_TYPE)?, kind::ANY)?;
        if !Kind::is_id(&type_id) {
            return Err(MALFORMED);
        }
        let home = format!("https://{}{ENROLLED}", call.authority);
        Ok(Wanted {
            type_id,
            redirect: self.own_url(&or(parameter(REDIRECT_URI)?, &home)?)?,
            enrollment: parameter(ENROLLMENT_TOKEN)?,
        })
    }

    async fn device_kind(&self, wanted: &Wanted) -> Result<Kind, Error> {
        let kind = store::kind(&*self.deps.broker, &wanted.type_id).await?;
        if kind.algorithms.is_empty() {
            return Err(Refusal::Type(kind.id).into());
        }
        Ok(kind)
    }

    fn device_link(&self, authority: &str, wanted: &Wanted, now: i64, seconds: i64) -> String {
        let mut query = Query::new();
        query
            .set(DEVICE_TYPE, &wanted.type_id)
            .set(REDIRECT_URI, &wanted.redirect);
        if let Some(token) = &wanted.enrollment {
            query.set(ENROLLMENT_TOKEN, token);
        }
        self.options
            .sign_for(&format!("https://{authority}{PATH}"), &query, now, seconds)
    }

    /// Where the page posts to.
    fn device_form(&self, call: &Call, wanted: &Wanted) -> String {
        self.device_link(&call.authority, wanted, call.unix(), LIFETIME)
    }

    /// A link that begins anew, for a person whose step did not work; none where the old one said nothing.
    pub(crate) fn device_again(&self, call: &Call) -> Option<String> {
        let wanted = self.device_wanted(call).ok()?;
        Some(self.device_form(call, &wanted))
    }

    /// Takes up a challenge; an answer is good once.
    async fn take_up(&self, call: &Call, challenge: &[u8]) -> Result<(), Error> {
        let name = pomerium_crypto::encoding::base64url_encode(challenge);
        let answered = &self.deps.state.devices.answered;
        if answered.claim(&*self.deps.broker, &name, call.unix()).await? {
            Ok(())
        } else {
            Err(Refusal::Used.into())
        }
    }

    /// Changes the session, and goes on with a cookie that asks for the records just written.
    async fn device_done(
        &self,
        call: &Call,
        person: &Person<'_>,
        target: &str,
        change: impl Fn(&mut Session) + Send + Sync,
    ) -> Result<Response, Error> {
        let broker = &*self.deps.broker;
        let Some(stored) = session::edit::<Session>(broker, person.session_id, change).await? else {
            // It ended meanwhile.
            let login_url = self.sign_in_link(target, call.context.route.as_deref(), call.now);
            return Err(Error::SignIn { login_url });
        };
        let mut response = reply::redirect(target);
        reply::cookies(&mut response, self.renewed(call, person, &stored).await?);
        Ok(response)
    }

    /// The cookie of this host with the place of the session as it was just written, if the session came by one.
    async fn renewed(
        &self,
        call: &Call,
        person: &Person<'_>,
        stored: &Record,
    ) -> Result<Option<HeaderValue>, Error> {
        let own = call
            .cookie(&self.cookies.name(""))
            .and_then(|token| Handle::decode(&self.options.shared, token).ok())
            .filter(|handle| handle.jti == person.session_id);
        let Some(handle) = own else { return Ok(None) };
        let handle = Handle {
            databroker_server_version: self.deps.broker.versions().await?.server_version,
            databroker_record_version: stored.version,
            ..handle
        };
        self.cookies
            .session("", &handle.encode(&self.options.shared), call.now)
            .map(Some)
    }
}

/// A field of the form, not repeated; empty when it is missing.
fn field<'a>(call: &'a Call, name: &str) -> Result<&'a str, Error> {
    if call.form.is_malformed() || call.form.count(name) > 1 {
        return Err(MALFORMED);
    }
    Ok(call.form.get(name).unwrap_or_default())
}
