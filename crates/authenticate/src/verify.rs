//! The session of the authenticate host: its cookie, and the record behind it (spec authentication.md 4.5).

use pomerium_api::pb::session::Session;
use pomerium_web::handle::Handle;

use crate::call::Call;
use crate::{Authenticate, Error, cookie, session};

/// A session that counts.
#[derive(Debug, Clone)]
pub struct Live {
    /// What the cookie says.
    pub handle: Handle,
    /// The record.
    pub session: Session,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No cookie came.
    NoCookie,
    /// The cookie is not one of ours.
    BadCookie,
    /// It belongs to another provider than the one asked for.
    OtherProvider,
    /// The record is gone.
    Lost,
    /// The record is over; holds its id and its provider.
    Expired(Box<(String, String)>),
    /// The sign-in falls short of what is asked for; holds the same.
    NotEnough(Box<(String, String)>),
}

impl Missing {
    /// The session that a new one with the same provider takes the place of.
    pub fn session_of(&self, idp_id: &str) -> Option<&str> {
        match self {
            Self::Expired(old) | Self::NotEnough(old) if old.1 == idp_id => Some(&old.0),
            _ => None,
        }
    }
}

impl Authenticate {
    /// The session of this browser with the provider `idp_id`, or with any when `None`. Errors when the
    /// databroker cannot tell.
    pub(crate) async fn verify(
        &self,
        call: &Call,
        idp_id: Option<&str>,
    ) -> Result<Result<Live, Missing>, Error> {
        let Some(cookie) = call
            .cookie(&self.cookies.name(cookie::AUTHENTICATE))
            .filter(|value| !value.is_empty())
        else {
            return Ok(Err(Missing::NoCookie));
        };
        let Ok(handle) = Handle::decode(&self.options.shared, cookie) else {
            return Ok(Err(Missing::BadCookie));
        };
        if idp_id.is_some_and(|id| id != handle.idp_id) {
            return Ok(Err(Missing::OtherProvider));
        }
        let Some(session) = session::find::<Session>(&*self.deps.broker, &handle.jti).await? else {
            return Ok(Err(Missing::Lost));
        };
        if session::is_alive(&session, call.now) {
            Ok(Ok(Live { handle, session }))
        } else {
            Ok(Err(Missing::Expired(Box::new((handle.jti, handle.idp_id)))))
        }
    }
}
