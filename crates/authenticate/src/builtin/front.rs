//! The front channel of the built-in provider: what people see of it. Authorize, the sign-in form, end of
//! session. Nothing is sent anywhere before client and address were matched exactly.

use http::{Method, StatusCode};
use pomerium_crypto::query::Query;
use pomerium_web::pages::{self, Hidden, SignIn as Form};
use pomerium_web::{Response, body, csrf};
use serde::{Deserialize, Serialize};

use super::codes::Grant;
use super::provider::{BackCall, LocalProvider};
use super::request::{self, Application, AuthorizeRequest, Refusal};
use super::sso::{self, SignIn};
use super::tokens::Hint;
use super::users::{CheckError, User, canonical_name};
use crate::call::Call;
use crate::login::csrf::{self as csrf_cookie, CsrfToken};
use crate::login::state::StateError;
use crate::{Authenticate, Error, cookie, reply, service};

/// Parameter of the authorization request with the sealed [`Application`].
pub const APPLICATION: &str = "pomerium_application";
/// Seconds a sign-in form may stay open.
const FORM_LIFETIME: i64 = 30 * 60;
const FORM: &str = "local sign-in form";
const END: &str = "local sign-out form";
/// One text for a wrong name and for a wrong password.
const WRONG: &str = "That user name and password do not fit together. Check both and try again.";
const BUSY: &str = "Many people are signing in right now. Try again in a moment.";

/// A request on its way through the form.
#[derive(Serialize, Deserialize)]
struct Carried {
    request: AuthorizeRequest,
    expires: i64,
}

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
                    .back_channel(back)
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

    async fn local_sign_in(&self, local: &LocalProvider, call: &Call) -> Result<Response, Error> {
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
    fn local_form(
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

    /// RP-initiated sign-out. With the ID token of the person who is signed in it goes ahead; otherwise we ask.
    fn local_end_session(&self, local: &LocalProvider, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::POST])?;
        csrf::check_origin(&call.canonical, &call.headers).map_err(|_| Error::CrossSite)?;
        let parameter = |name: &str| call.form.get(name).or(call.query.get(name));
        let hint = parameter("id_token_hint").and_then(|token| local.key.verify_own::<Hint>(token).ok());
        let hint = hint.filter(|hint| hint.iss == local.issuer);
        let present = self.local_present(local, call);
        let hinted = match (&present, &hint) {
            (None, _) => true,
            (Some((_, user)), Some(hint)) => hint.sub == user.subject,
            (Some(_), None) => false,
        };
        if !hinted && !self.end_confirmed(call) {
            return self.local_end_page(call);
        }
        if let Some((sign_in, _)) = present {
            local.state.ended.claim(&sign_in.id, call.unix());
        }
        let client = hint
            .as_ref()
            .map(|hint| hint.aud.as_str())
            .or(parameter("client_id"));
        let after = self.after_local_end(
            local,
            client,
            parameter("post_logout_redirect_uri"),
            hint.is_some(),
        );
        let after = with_state(after, parameter("state"));
        let mut response = reply::see_other(&after);
        reply::cookies(
            &mut response,
            [self.cookies.clear_helper(cookie::IDP, &local.path, call.now)?],
        );
        Ok(response)
    }

    fn end_confirmed(&self, call: &Call) -> bool {
        let token = self.csrf_of(call).map(CsrfToken::to_text);
        call.method == Method::POST
            && token.is_some_and(|token| {
                let given = call.form.get("csrf").unwrap_or_default();
                csrf::verify(&self.seal.form, END, &token, given, call.unix()).is_ok()
            })
    }

    fn local_end_page(&self, call: &Call) -> Result<Response, Error> {
        let token = self.csrf_of(call).unwrap_or_else(CsrfToken::random);
        let form_token = csrf::token(
            &self.seal.form,
            END,
            &token.to_text(),
            call.unix() + FORM_LIFETIME,
        );
        let page = pages::SignOutConfirm {
            signed_in_as: "",
            action: &call.canonical.path_and_query(),
            cancel: "/.pomerium/",
            hidden: vec![Hidden {
                name: "csrf",
                value: &form_token,
            }],
        };
        let mut response = pages::sign_out_confirm(&page, &self.frame(call));
        reply::cookies(&mut response, [self.csrf_cookie(call, token)?]);
        Ok(response)
    }

    /// Only to an address registered for the client, or on a host of ours.
    fn after_local_end(
        &self,
        local: &LocalProvider,
        client: Option<&str>,
        uri: Option<&str>,
        hinted: bool,
    ) -> String {
        let client = client.and_then(|id| local.clients.find(id));
        let allowed = |uri: &&str| {
            client.is_some_and(|client| client.post_logout_uris.iter().any(|known| known == uri))
                || self.own_url(uri).is_ok()
                || (hinted && client.is_some() && self.options.flags.allow_any_sign_out_redirect_uri)
        };
        uri.filter(allowed).map_or_else(
            || self.options.authenticate_url("/.pomerium/signed_out"),
            str::to_owned,
        )
    }

    /// The sign-in this browser has at the provider.
    fn local_present(&self, local: &LocalProvider, call: &Call) -> Option<(SignIn, std::sync::Arc<User>)> {
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
        call: &Call,
    ) -> String {
        let target = call
            .query
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

/// Why the form is shown again.
struct Failed<'a> {
    text: &'a str,
    status: StatusCode,
    wait: Option<i64>,
}

/// The way back to the client, with a code.
fn grant(local: &LocalProvider, request: &AuthorizeRequest, user: &User, auth_time: i64, now: i64) -> String {
    let code = local.state.codes.issue(
        Grant {
            id: pomerium_crypto::random::base64url(16),
            client_id: request.client_id.clone(),
            redirect_uri: request.redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            scope: request.scope.clone(),
            email: user.email.clone(),
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

fn with_state(url: String, state: Option<&str>) -> String {
    let Some(state) = state else { return url };
    let separator = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{separator}{}",
        Query::from_iter([("state", state)]).encode()
    )
}
