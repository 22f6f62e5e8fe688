//! `/.pomerium/callback/` on a route: the session arrives (spec authentication.md 4.6).

use http::Method;
use pomerium_crypto::query::Query;
use pomerium_crypto::{aead, encoding, signed_url};
use pomerium_web::Response;
use pomerium_web::handle::Handle;

use super::sign_in::is_for;
use crate::call::Call;
use crate::links::{ADDITIONAL_HOSTS, JWT, PROGRAMMATIC, REDIRECT_URI, SESSION_ENCRYPTED};
use crate::{Authenticate, Error, reply, service};

impl Authenticate {
    /// Takes the session over and goes on to where the person wanted to be.
    pub(crate) async fn route_callback(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        self.options.verify_link(call)?;
        let token = self.open_handle(call)?;
        let programmatic = call.single(PROGRAMMATIC)? == Some("true");
        let target = call
            .single(REDIRECT_URI)?
            .ok_or(Error::BadRequest("the return address is missing"))?;
        let target = if programmatic {
            self.programmatic_url(target)?
        } else {
            self.own_url(target)?
        };
        if !self.claim_link(call).await? {
            // A reloaded page, not an attack: this browser has that very session.
            let known = call.cookie(&self.cookies.name("")) == Some(token.as_str());
            return if known && !programmatic {
                Ok(reply::redirect(&target))
            } else {
                Err(Error::LinkUsed)
            };
        }
        let next = match self.next_host(call, &token, &target, programmatic)? {
            Some(next) => next,
            None if programmatic => with_token(&target, &token),
            None => target,
        };
        let mut response = self.onward(&next);
        reply::cookies(&mut response, [self.cookies.session("", &token, call.now)?]);
        Ok(response)
    }

    /// The handle in the link. It must be made for this host: a session somebody got for another application
    /// cannot be planted here.
    fn open_handle(&self, call: &Call) -> Result<String, Error> {
        let bad = || Error::BadRequest("the session in the link cannot be read");
        let sealed = call.single(SESSION_ENCRYPTED)?.ok_or_else(bad)?;
        let sealed = encoding::base64url_padded_decode(sealed).map_err(|_| bad())?;
        let token = aead::open(&self.options.shared, &sealed, b"").map_err(|_| bad())?;
        let token = String::from_utf8(token).map_err(|_| bad())?;
        let handle = Handle::decode(&self.options.shared, &token).map_err(|_| bad())?;
        if is_for(&handle, &call.authority) {
            Ok(token)
        } else {
            Err(Error::BadRequest(
                "the session in the link was made for another host",
            ))
        }
    }

    /// Uses the link up.
    async fn claim_link(&self, call: &Call) -> Result<bool, Error> {
        let signature = call.query.get(signed_url::SIGNATURE).unwrap_or_default();
        let callbacks = &self.deps.state.callbacks;
        Ok(callbacks
            .claim(&*self.deps.broker, signature, call.unix())
            .await?)
    }

    /// The next callback of a login over several hosts.
    fn next_host(
        &self,
        call: &Call,
        token: &str,
        target: &str,
        programmatic: bool,
    ) -> Result<Option<String>, Error> {
        let hosts = call.single(ADDITIONAL_HOSTS)?.unwrap_or_default();
        let Some((first, rest)) = hosts
            .split_once(',')
            .or_else(|| (!hosts.is_empty()).then_some((hosts, "")))
        else {
            return Ok(None);
        };
        if !self.is_own(first) {
            return Err(Error::BadRequest(
                "an additional host does not belong to this proxy",
            ));
        }
        let mut query = Query::new();
        query
            .set(ADDITIONAL_HOSTS, rest)
            .set(SESSION_ENCRYPTED, self.seal_handle(token))
            .set(REDIRECT_URI, target);
        if programmatic {
            query.set(PROGRAMMATIC, "true");
        }
        Ok(Some(self.options.sign(
            &format!("https://{first}/.pomerium/callback/"),
            &query,
            call.unix(),
        )))
    }
}

/// The target of a programmatic login with the handle on it. It is a listed host: that was checked.
fn with_token(target: &str, token: &str) -> String {
    let (base, query) = target.split_once('?').unwrap_or((target, ""));
    let mut query = Query::parse(query);
    query.set(JWT, token);
    format!("{base}?{}", query.encode())
}
