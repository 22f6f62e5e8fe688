//! The sign-in form of the built-in provider: shown, posted, checked. It never says which of the two was wrong.

use http::{Method, StatusCode};
use pomerium_web::pages::{self, Hidden, SignIn as Form};
use pomerium_web::{Response, csrf};
use serde::{Deserialize, Serialize};

use super::front::{FORM_LIFETIME, grant};
use super::provider::LocalProvider;
use super::request::AuthorizeRequest;
use super::sso::SignIn;
use super::users::{CheckError, User, canonical_name};
use crate::call::Call;
use crate::login::csrf::CsrfToken;
use crate::login::state::StateError;
use crate::{Authenticate, Error, cookie, reply, service};

const FORM: &str = "local sign-in form";
/// One text for a wrong name and for a wrong password.
const WRONG: &str = "That user name and password do not fit together. Check both and try again.";
const BUSY: &str = "Many people are signing in right now. Try again in a moment.";

/// A request on its way through the form.
#[derive(Serialize, Deserialize)]
pub(super) struct Carried {
    /// The request, checked.
    pub(super) request: AuthorizeRequest,
    /// Unix seconds.
    pub(super) expires: i64,
}

impl Authenticate {
    /// The posted form.
    pub(super) async fn local_sign_in(&self, local: &LocalProvider, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::POST])?;
        csrf::check_origin(&call.canonical, &call.headers).map_err(|_| Error::CrossSite)?;
        let field = |name| call.form.get(name).unwrap_or_default();
        let token = self.csrf_of(call).ok_or(StateError::OtherBrowser)?;
        csrf::verify(
            &self.seal.form,
            FORM,
            &token.to_text(),
            field("csrf"),
            call.unix(),
        )
        .map_err(|_| StateError::OtherBrowser)?;
        let carried: Carried = local.requests.open(field("request")).ok_or(StateError::Forged)?;
        if call.unix() >= carried.expires {
            return Err(StateError::Expired.into());
        }
        let name = canonical_name(field("username"));
        let address = call.canonical.client_ip;
        if let Err(wait) = local.state.limits.take(&name, address, call.now.as_millisecond()) {
            tracing::warn!(client = %address, wait, "local sign-in: too many tries");
            let text = format!("Too many tries. Wait {wait} seconds, then try again.");
            let failed = Failed {
                text: &text,
                status: StatusCode::TOO_MANY_REQUESTS,
                wait: Some(wait),
            };
            return self.local_form(local, call, &carried, field("username"), Some(&failed));
        }
        let checked = local
            .state
            .checker
            .check(local.users.candidate(&name), field("password").to_owned())
            .await;
        let user = local.users.find(&name);
        match (checked, user) {
            (Ok(true), Some(user)) => self.local_signed_in(local, call, &carried.request, &user),
            (Err(CheckError::Busy), _) => {
                let failed = Failed {
                    text: BUSY,
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    wait: Some(1),
                };
                self.local_form(local, call, &carried, field("username"), Some(&failed))
            }
            _ => {
                tracing::warn!(client = %address, "local sign-in: wrong name or password");
                let failed = Failed {
                    text: WRONG,
                    status: StatusCode::UNAUTHORIZED,
                    wait: None,
                };
                self.local_form(local, call, &carried, field("username"), Some(&failed))
            }
        }
    }

    /// A new sign-in under a new id, whatever cookie was there before.
    fn local_signed_in(
        &self,
        local: &LocalProvider,
        call: &Call,
        request: &AuthorizeRequest,
        user: &User,
    ) -> Result<Response, Error> {
        if let Some((old, _)) = self.local_present(local, call) {
            local.state.ended.claim(&old.id, call.unix());
        }
        let sign_in = SignIn::new(user, call.unix());
        let value = local.sign_ins.seal(&sign_in);
        let own = self
            .cookies
            .helper(cookie::IDP, &local.path, &value, local.lifetime, call.now)?;
        let mut response = reply::see_other(&grant(local, request, user, sign_in.auth_time, call.unix()));
        reply::cookies(&mut response, [own]);
        Ok(response)
    }

    /// The form, with its CSRF token and the request it belongs to.
    pub(super) fn local_form(
        &self,
        local: &LocalProvider,
        call: &Call,
        carried: &Carried,
        username: &str,
        failed: Option<&Failed<'_>>,
    ) -> Result<Response, Error> {
        let known = self.csrf_of(call);
        let token = known.unwrap_or_else(CsrfToken::random);
        let form_token = csrf::token(
            &self.seal.form,
            FORM,
            &token.to_text(),
            call.unix() + FORM_LIFETIME,
        );
        let request = local.requests.seal(carried);
        let application = carried.request.application.clone().unwrap_or_default();
        let form = Form {
            application: &application.name,
            host: &application.host,
            action: &format!("{}/sign_in", local.path),
            username,
            error: failed.map(|failed| failed.text),
            hidden: vec![
                Hidden {
                    name: "request",
                    value: &request,
                },
                Hidden {
                    name: "csrf",
                    value: &form_token,
                },
            ],
            status: failed.map(|failed| failed.status.as_u16()),
        };
        let mut response = pages::sign_in(&form, &self.frame(call));
        if let Some(wait) = failed.and_then(|failed| failed.wait) {
            response
                .headers_mut()
                .insert(http::header::RETRY_AFTER, wait.into());
        }
        if known.is_none() {
            reply::cookies(&mut response, [self.csrf_cookie(call, token)?]);
        }
        Ok(response)
    }
}

/// Why the form is shown again.
pub(super) struct Failed<'a> {
    text: &'a str,
    status: StatusCode,
    wait: Option<i64>,
}
