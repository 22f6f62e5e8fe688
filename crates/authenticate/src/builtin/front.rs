//! The front channel of the built-in provider: what people see of it. This file has the router and the
//! authorization endpoint; the sign-in form is in [`super::form`], the end of a session in [`super::end_session`].
//! Nothing is sent anywhere before client and address were matched exactly.

use std::sync::Arc;

use http::Method;
use pomerium_crypto::query::Query;
use pomerium_web::{Response, body};

use super::codes::{self, Grant};
use super::form::Carried;
use super::provider::{BackCall, LocalProvider};
use super::request::{self, Application, AuthorizeRequest, Refusal};
use super::sso::{self, SignIn};
use super::users::User;
use crate::call::Call;
use crate::login::csrf::{self as csrf_cookie, CsrfToken};
use crate::{Authenticate, Error, cookie, reply, service};

/// Parameter of the authorization request with the sealed [`Application`].
pub const APPLICATION: &str = "pomerium_application";
/// Seconds a form may stay open.
pub(super) const FORM_LIFETIME: i64 = 30 * 60;

impl Authenticate {
    /// Everything below the provider's path.
    pub(crate) async fn local_provider(&self, local: &LocalProvider, call: &Call) -> Result<Response, Error> {
        match call.path().strip_prefix(local.path.as_str()).unwrap_or_default() {
            "/authorize" => self.local_authorize(local, call),
            "/sign_in" => self.local_sign_in(local, call).await,
            "/end_session" => self.local_end_session(local, call),
            _ => {
                let back = BackCall {
                    method: &call.method,
                    path: call.path(),
                    headers: &call.headers,
                    body: &call.body,
                    now: call.unix(),
                };
                local
                    .back_channel(&*self.deps.broker, back)
                    .await
                    .map(|response| response.map(body::full))
                    .ok_or(Error::NotFound)
            }
        }
    }

    fn local_authorize(&self, local: &LocalProvider, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let mut request = match request::parse(&call.query, &local.clients) {
            Ok(request) => request,
            Err(Refusal::Page(text)) => return Err(Error::BadRequest(text)),
            Err(Refusal::Redirect {
                redirect_uri,
                state,
                error,
                description,
            }) => {
                let answer = [("error", error), ("error_description", description)];
                return Ok(reply::see_other(&answer_url(
                    local,
                    &redirect_uri,
                    state.as_deref(),
                    &answer,
                )));
            }
        };
        request.application = call
            .query
            .get(APPLICATION)
            .and_then(|text| self.seal.application.open(text));
        let present = self.local_present(local, call);
        if let Some((sign_in, user)) = present
            && request.freshness.accepts(sign_in.auth_time, call.unix())
        {
            return Ok(reply::see_other(&grant(
                local,
                &request,
                &user,
                sign_in.auth_time,
                call.unix(),
            )));
        }
        if request.freshness.none {
            let answer = [("error", "login_required")];
            return Ok(reply::see_other(&answer_url(
                local,
                &request.redirect_uri,
                Some(&request.state),
                &answer,
            )));
        }
        let hint = request.login_hint.clone().unwrap_or_default();
        self.local_form(
            local,
            call,
            &Carried {
                request,
                expires: call.unix() + FORM_LIFETIME,
            },
            &hint,
            None,
        )
    }

    /// The sign-in this browser has at the provider.
    pub(super) fn local_present(&self, local: &LocalProvider, call: &Call) -> Option<(SignIn, Arc<User>)> {
        let value = call.cookie(&self.cookies.name(cookie::IDP))?;
        sso::read(
            &local.sign_ins,
            value,
            &local.users,
            &local.state.ended,
            (call.unix(), local.lifetime),
        )
    }

    /// Tells the built-in provider which application the person is on the way to.
    pub(crate) fn with_application(
        &self,
        url: String,
        provider: &crate::providers::Provider,
        return_to: &str,
    ) -> String {
        let (_, query) = crate::links::unsigned(return_to);
        let target = query
            .get(crate::links::REDIRECT_URI)
            .and_then(crate::return_to::authority_of);
        match target {
            Some(host) if provider.is_local() => {
                let application = Application {
                    name: self.options.application_name(&host),
                    host,
                };
                format!("{url}&{APPLICATION}={}", self.seal.application.seal(&application))
            }
            _ => url,
        }
    }

    /// Writes the CSRF cookie of a browser.
    pub(crate) fn csrf_cookie(&self, call: &Call, token: CsrfToken) -> Result<http::HeaderValue, Error> {
        let name = self.cookies.name(cookie::CSRF);
        let value = csrf_cookie::encode(&self.options.cookie_secret, &name, token, call.unix());
        self.cookies
            .helper(cookie::CSRF, "/", &value, csrf_cookie::LIFETIME, call.now)
    }
}

/// The way back to the client, with a code.
pub(super) fn grant(
    local: &LocalProvider,
    request: &AuthorizeRequest,
    user: &User,
    auth_time: i64,
    now: i64,
) -> String {
    let code = codes::issue(
        &local.codes,
        Grant {
            id: pomerium_crypto::random::base64url(16),
            client_id: request.client_id.clone(),
            redirect_uri: request.redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            scope: request.scope.clone(),
            email: user.email.clone(),
            fingerprint: user.fingerprint.clone(),
            auth_time,
        },
        now,
    );
    answer_url(
        local,
        &request.redirect_uri,
        Some(&request.state),
        &[("code", &code)],
    )
}

/// An answer to a redirect URI that was matched exactly (RFC 6749 4.1.2, RFC 9207).
fn answer_url(
    local: &LocalProvider,
    redirect_uri: &str,
    state: Option<&str>,
    answer: &[(&str, &str)],
) -> String {
    let mut query: Query = answer.iter().copied().collect();
    if let Some(state) = state.filter(|state| !state.is_empty()) {
        query.set("state", state);
    }
    query.set("iss", &local.issuer);
    let separator = if redirect_uri.contains('?') { '&' } else { '?' };
    format!("{redirect_uri}{separator}{}", query.encode())
}
