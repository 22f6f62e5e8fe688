//! Sign-out on the authenticate host (spec authentication.md 12): the session record goes first, so that it is
//! dead on every host at once; then the tokens at the provider, then the sign-in there.

use http::Method;
use pomerium_api::pb::session::Session;
use pomerium_crypto::query::Query;
use pomerium_web::handle::Handle;
use pomerium_web::{Response, csrf};

use crate::call::Call;
use crate::links::{REDIRECT_URI, SESSION};
use crate::{Authenticate, Error, cookie, reply, service, session};

impl Authenticate {
    /// `/.pomerium/sign_out`. Goes ahead when a route of ours sent the person here to end the very session this
    /// browser has, or when they confirmed; asks otherwise.
    pub(crate) async fn sign_out(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::POST])?;
        csrf::check_origin(&call.canonical, &call.headers).map_err(|_| Error::CrossSite)?;
        let signed = self.options.verify_link(call).is_ok();
        let own = self.own_handle(call);
        let named: Option<String> = if signed {
            call.single(SESSION)?.and_then(|s| self.seal.session.open(s))
        } else {
            None
        };
        let agreed =
            call.method == Method::POST || own.as_ref().is_none_or(|own| named.as_ref() == Some(&own.jti));
        if !signed || !agreed {
            return Ok(self.confirm_page(call, &self.confirmation_link(call, signed)));
        }
        let target = call
            .single(REDIRECT_URI)?
            .filter(|target| !target.is_empty())
            .map(str::to_owned);
        let target = target.or_else(|| self.options.signout_redirect_url.clone());
        let ids = own.iter().map(|own| own.jti.clone()).chain(named);
        let ended = self.end_sessions(call, ids).await?;
        let mut response = reply::redirect(&self.after_sign_out(own.as_ref(), ended.as_ref(), target).await);
        reply::cookies(
            &mut response,
            [
                self.cookies.clear_session(cookie::AUTHENTICATE, call.now)?,
                self.clear_rounds(call)?,
            ],
        );
        Ok(response)
    }

    /// `/.pomerium/signed_out`: the last page.
    pub(crate) fn signed_out(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        Ok(self.signed_out_page(call))
    }

    fn own_handle(&self, call: &Call) -> Option<Handle> {
        Handle::decode(
            &self.options.shared,
            call.cookie(&self.cookies.name(cookie::AUTHENTICATE))?,
        )
        .ok()
    }

    /// The address the confirmation is posted to. The way on is taken over only from a link of ours.
    fn confirmation_link(&self, call: &Call, signed: bool) -> String {
        let mut query = Query::new();
        for name in [REDIRECT_URI, SESSION] {
            if let Some(value) = call.query.get(name).filter(|_| signed) {
                query.set(name, value);
            }
        }
        self.options.sign(
            &self.options.authenticate_url("/.pomerium/sign_out"),
            &query,
            call.unix(),
        )
    }

    /// Ends these sessions; gives back one of them, for the provider.
    async fn end_sessions(
        &self,
        call: &Call,
        ids: impl Iterator<Item = String>,
    ) -> Result<Option<Session>, Error> {
        let mut last = None;
        for id in ids {
            let Some(ended) = session::end(&*self.deps.broker, &id, call.now).await? else {
                continue;
            };
            tracing::info!(session = %ended.id, "signed out");
            if let Some(provider) = self.providers.get(&ended.idp_id) {
                provider.revoke(&ended).await;
            }
            last = Some(ended);
        }
        Ok(last)
    }

    /// Where the browser goes now: to the provider's own sign-out if it has one.
    async fn after_sign_out(
        &self,
        own: Option<&Handle>,
        ended: Option<&Session>,
        target: Option<String>,
    ) -> String {
        let idp_id = ended
            .map(|ended| ended.idp_id.as_str())
            .or(own.map(|own| own.idp_id.as_str()));
        let provider = idp_id
            .and_then(|id| self.providers.get(id))
            .or_else(|| self.providers.default_one());
        let signed_out = self.options.authenticate_url("/.pomerium/signed_out");
        let after = target.unwrap_or(signed_out);
        match provider {
            Some(provider) => provider.end_session_url(ended, &after).await.unwrap_or(after),
            None => after,
        }
    }
}
