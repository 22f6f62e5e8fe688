//! The way out: from a page that needs a session to the identity provider (spec authentication.md 4.3).

use pomerium_crypto::random;
use pomerium_policy::Demand;
use pomerium_web::{Response, negotiate};

use super::csrf::{self, CsrfToken};
use super::pending::{self, PendingLogin, PendingLogins};
use super::rounds::{self, Cause};
use super::state::LoginState;
use super::step_up::Wanted;
use crate::call::Call;
use crate::error::LoopDetails;
use crate::links::{self, REDIRECT_URI};
use crate::providers::Provider;
use crate::return_to::authority_of;
use crate::verify::Missing;
use crate::{Authenticate, Error, cookie, reply};

/// A login as it begins.
pub(super) struct Departure {
    /// Where it began: an absolute URL on the authenticate host.
    pub(super) return_to: String,
    /// The signature of that URL was checked.
    pub(super) signed: bool,
    /// Logins in a row.
    pub(super) round: u8,
    /// Session that the new one takes the place of.
    pub(super) replaces: Option<String>,
    /// What the sign-in has to be.
    pub(super) wanted: Option<Wanted>,
}

/// Longest way back that is carried through the provider, bytes.
const LONGEST_WAY_BACK: usize = 8 * 1024;

impl Authenticate {
    /// Sends the browser to `provider` and remembers the way back to the URL that was called. `signed` says
    /// that its signature was checked; what the sign-in has to be is read from signed links only.
    pub(crate) async fn start_login(
        &self,
        call: &Call,
        provider: &Provider,
        missing: &Missing,
        (signed, demand): (bool, Option<&Demand>),
    ) -> Result<Response, Error> {
        if !negotiate::redirect_allowed(&call.canonical, &call.headers) {
            return Err(Error::LoginNeeded {
                login_url: self.destination(call).unwrap_or_else(|| call.url()),
            });
        }
        let round = if signed { self.options.round(call) } else { 0 };
        if round >= rounds::ALLOWED {
            return Err(self.authenticate_loop(call, missing));
        }
        let departure = Departure {
            return_to: shortened(call.url(), signed),
            signed,
            round,
            replaces: missing.session_of(&provider.settings.id).map(str::to_owned),
            wanted: demand.map(Wanted::first),
        };
        // Whoever breaks off a step-up stays signed in as they were.
        let keeps = matches!(missing, Missing::NotEnough(_));
        let mut response = self
            .depart(call, provider, departure, self.logins_of(call))
            .await?;
        if !keeps {
            let cleared = self.cookies.clear_session(cookie::AUTHENTICATE, call.now)?;
            reply::cookies(&mut response, [cleared]);
        }
        Ok(response)
    }

    /// The redirect to the provider, and what is needed to know the answer again.
    pub(super) async fn depart(
        &self,
        call: &Call,
        provider: &Provider,
        departure: Departure,
        mut logins: PendingLogins,
    ) -> Result<Response, Error> {
        let now = call.unix();
        let csrf = self.csrf_of(call).unwrap_or_else(CsrfToken::random);
        let login = PendingLogin {
            id: random::base64url(16),
            verifier: random::base64url(32),
            nonce: random::base64url(32),
            started: now,
            replaces: departure.replaces,
        };
        let state = LoginState {
            id: login.id.clone(),
            csrf: csrf.to_text(),
            started: now,
            return_to: departure.return_to,
            signed: departure.signed,
            idp_id: provider.settings.id.clone(),
            round: departure.round,
            wanted: departure.wanted,
        };
        let url = provider
            .authorization_url(&self.seal.state.seal(&state), &login, state.wanted.as_ref())
            .await?;
        let url = self.with_application(url, provider, &state.return_to);
        logins.add(login, now);
        let mut response = reply::redirect(&url);
        reply::cookies(
            &mut response,
            [
                self.csrf_cookie(call, csrf)?,
                self.cookies.helper(
                    cookie::LOGIN,
                    "/",
                    &self.seal.login.seal(&logins),
                    pending::LIFETIME,
                    call.now,
                )?,
            ],
        );
        Ok(response)
    }

    /// The CSRF token of this browser.
    pub(crate) fn csrf_of(&self, call: &Call) -> Option<CsrfToken> {
        let name = self.cookies.name(cookie::CSRF);
        csrf::decode(
            &self.options.cookie_secret,
            &name,
            call.cookie(&name)?,
            call.unix(),
        )
    }

    /// The logins this browser has under way.
    pub(crate) fn logins_of(&self, call: &Call) -> PendingLogins {
        let cookie = call.cookie(&self.cookies.name(cookie::LOGIN));
        cookie
            .and_then(|value| self.seal.login.open(value))
            .unwrap_or_default()
    }

    /// The provider let the person in, we wrote a cookie, and here they are without a session: why?
    fn authenticate_loop(&self, call: &Call, missing: &Missing) -> Error {
        let host = crate::options::host_of(&self.options.authority).to_owned();
        let cookie_domain = self.options.cookie.domain.clone();
        let outside = cookie_domain
            .as_deref()
            .is_some_and(|domain| !rounds::domain_covers(domain, &host));
        let cause = match missing {
            Missing::NoCookie if outside => Cause::CookieDomain,
            Missing::NoCookie => Cause::CookieRefused,
            // A cookie from before `cookie_domain` or the secret was changed hides the new one.
            Missing::BadCookie | Missing::OtherProvider => Cause::CookieDomain,
            Missing::Expired(_) => Cause::Clock,
            Missing::NotEnough(_) => Cause::NotEnough,
            Missing::Lost => Cause::SessionLost,
        };
        tracing::warn!(
            ?cause,
            host,
            "sign-in loop broken: the authenticate host has no session right after sign-in"
        );
        Error::Loop(
            cause,
            LoopDetails {
                retry: self.destination(call),
                host,
                cookie_domain,
            },
        )
    }
}

/// The way back, short enough for the address bar of a provider: of a very long address only the page is kept,
/// of a page that is too long only the host. `signed` links are signed anew in the end.
fn shortened(url: String, signed: bool) -> String {
    if url.len() <= LONGEST_WAY_BACK || !signed {
        return url;
    }
    let (base, mut query) = links::unsigned(&url);
    let target = query.get(REDIRECT_URI).unwrap_or_default();
    let page = target.split('?').next().unwrap_or_default();
    let host = authority_of(target).map(|host| format!("https://{host}/"));
    let shorter = match host {
        Some(host) if page.len() > LONGEST_WAY_BACK / 4 => host,
        _ => page.to_owned(),
    };
    query.set(REDIRECT_URI, shorter);
    format!("{base}?{}", query.encode())
}
