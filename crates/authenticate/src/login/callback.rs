//! The way back: from the identity provider to a session (spec authentication.md 4.4).

use http::{HeaderValue, Method};
use jiff::Timestamp;
use pomerium_identity::{Identity, NewSession, session_from_identity};
use pomerium_web::Response;
use pomerium_web::handle::Handle;

use super::pending::{self, PendingLogin, PendingLogins};
use super::start::Departure;
use super::state::{LoginState, StateError};
use super::step_up::{self, NotEnough, TRIES, Wanted};
use crate::call::Call;
use crate::links::{self, ROUND};
use crate::providers::Provider;
use crate::{Authenticate, Error, cookie, reply, session};

/// What a provider answers that cannot do what the request asks for.
const UNMET: &str = "unmet_authentication_requirements";

impl Authenticate {
    /// `/oauth2/callback`.
    pub(crate) async fn oauth_callback(&self, call: &Call) -> Result<Response, Error> {
        crate::service::only(call, &[Method::GET, Method::POST])?;
        let answer = Answer::read(call).map_err(|error| self.cannot_step_up(call, error))?;
        let state: LoginState = self.seal.state.open(answer.state).ok_or(StateError::Forged)?;
        state.check(self.csrf_of(call), call.unix())?;
        let states = &self.deps.state.states;
        if !states.claim(&*self.deps.broker, &state.id, call.unix()).await? {
            return Err(StateError::Used.into());
        }
        let mut logins = self.logins_of(call);
        let login = logins
            .take(&state.id, call.unix())
            .ok_or(StateError::OtherBrowser)?;
        let provider = self.providers.get(&state.idp_id).ok_or(Error::NoProvider)?;
        let identity = provider.identify(answer.code, answer.iss, &login).await?;
        if let Some(wanted) = &state.wanted
            && let Err(lacks) = step_up::check(&identity.id_token, &wanted.demand, call.now)
        {
            return self
                .ask_again(call, provider, (&state, login), (logins, lacks))
                .await;
        }
        let session_cookie = self.begin_session(call, provider, &state, &identity).await?;
        self.end_replaced(call, &state, &login).await;
        let login_cookie = if logins.is_empty() {
            self.cookies.clear_helper(cookie::LOGIN, "/", call.now)?
        } else {
            self.cookies.helper(
                cookie::LOGIN,
                "/",
                &self.seal.login.seal(&logins),
                pending::LIFETIME,
                call.now,
            )?
        };
        let mut response = self.onward(&self.way_back(&state, call.unix()));
        reply::cookies(&mut response, [session_cookie, login_cookie]);
        Ok(response)
    }

    /// The sign-in falls short: the provider is asked to have the person sign in, once; then the person is told.
    /// No session comes of it, and the one that was there stays.
    async fn ask_again(
        &self,
        call: &Call,
        provider: &Provider,
        (state, login): (&LoginState, PendingLogin),
        (logins, lacks): (PendingLogins, NotEnough),
    ) -> Result<Response, Error> {
        let try_number = state
            .wanted
            .as_ref()
            .map_or(TRIES, |wanted| wanted.try_number + 1);
        if try_number >= TRIES {
            return Err(Error::NotEnough(Box::new(lacks)));
        }
        let departure = Departure {
            return_to: state.return_to.clone(),
            signed: state.signed,
            round: state.round,
            replaces: login.replaces,
            wanted: Some(Wanted {
                demand: lacks.demand,
                try_number,
            }),
        };
        self.depart(call, provider, departure, logins).await
    }

    /// A provider may say at once that it cannot do what was asked of it (OpenID Connect Core Error Code
    /// `unmet_authentication_requirements`). Believed only of a login that asked for something.
    fn cannot_step_up(&self, call: &Call, error: Error) -> Error {
        if !matches!(&error, Error::Refused(code) if code == UNMET) {
            return error;
        }
        let source = if call.method == Method::POST {
            &call.form
        } else {
            &call.query
        };
        let state: Option<LoginState> = source.get("state").and_then(|state| self.seal.state.open(state));
        match state.and_then(|state| state.wanted) {
            Some(wanted) => Error::NotEnough(Box::new(NotEnough::refused(&wanted.demand))),
            None => error,
        }
    }

    /// Writes user and session, under an id that nobody outside can choose, and makes the cookie.
    async fn begin_session(
        &self,
        call: &Call,
        provider: &Provider,
        state: &LoginState,
        identity: &Identity,
    ) -> Result<HeaderValue, Error> {
        let broker = &*self.deps.broker;
        let audience = self.login_audience(state);
        let new = NewSession {
            idp_id: provider.settings.id.clone(),
            audience: audience.clone(),
            issued_at: call.now,
            expires_at: call
                .now
                .checked_add(self.options.cookie.expire)
                .unwrap_or(Timestamp::MAX),
        };
        let mut session = session_from_identity(identity, &new);
        session.client_address = call.canonical.client_ip.to_string();
        let written = session::write_login(broker, identity, &session).await?;
        let handle = Handle {
            jti: session.id,
            sub: session.user_id,
            iss: self.options.authority.clone(),
            aud: audience,
            iat: call.unix(),
            idp_id: provider.settings.id.clone(),
            databroker_server_version: written.server_version,
            databroker_record_version: written.record_version,
        };
        tracing::info!(session = %handle.jti, idp = %handle.idp_id, "signed in");
        self.cookies.session(
            cookie::AUTHENTICATE,
            &handle.encode(&self.options.shared),
            call.now,
        )
    }

    /// A new session takes the place of the old one of this browser. What was in the jar before is dead.
    async fn end_replaced(&self, call: &Call, state: &LoginState, login: &PendingLogin) {
        let presented = call
            .cookie(&self.cookies.name(cookie::AUTHENTICATE))
            .and_then(|token| Handle::decode(&self.options.shared, token).ok())
            .filter(|handle| handle.idp_id == state.idp_id)
            .map(|handle| handle.jti);
        for id in login.replaces.iter().chain(&presented) {
            if let Err(error) = session::end(&*self.deps.broker, id, call.now).await {
                tracing::warn!(%error, "cannot end the session that a new one takes the place of");
            }
        }
    }

    fn login_audience(&self, state: &LoginState) -> Vec<String> {
        let (_, query) = links::unsigned(&state.return_to);
        let host = query
            .get(links::REDIRECT_URI)
            .and_then(crate::return_to::authority_of);
        [self.options.authority.clone()].into_iter().chain(host).collect()
    }

    /// The URL the login began at. Its signature may be old by now, so it gets a new one, with the count of
    /// rounds in it; the state it comes from is sealed and was made for a URL whose signature was good.
    fn way_back(&self, state: &LoginState, now: i64) -> String {
        let (base, mut query) = links::unsigned(&state.return_to);
        if !state.signed {
            return state.return_to.clone();
        }
        query.set(ROUND, state.round.saturating_add(1).to_string());
        self.options.sign(&base, &query, now)
    }

    /// Goes on to a URL of ours right after a session cookie was set. With `SameSite=Strict` the cookie would
    /// not be sent on a redirect that another site began, so that a page of ours begins the navigation.
    pub(crate) fn onward(&self, url: &str) -> Response {
        if self.cookies.is_strict() {
            reply::continue_to(url)
        } else {
            reply::redirect(url)
        }
    }
}

/// The parameters of the authorization response (RFC 6749 4.1.2), from the query or a posted form.
struct Answer<'a> {
    code: &'a str,
    state: &'a str,
    iss: Option<&'a str>,
}

impl<'a> Answer<'a> {
    fn read(call: &'a Call) -> Result<Self, Error> {
        let source = if call.method == Method::POST {
            &call.form
        } else {
            &call.query
        };
        if source.is_malformed()
            || ["code", "state", "error", "iss"]
                .iter()
                .any(|name| source.count(name) > 1)
        {
            return Err(Error::BadRequest(
                "the answer of the identity provider cannot be read",
            ));
        }
        if let Some(error) = source.get("error").filter(|error| !error.is_empty()) {
            return Err(Error::Refused(plain(error)));
        }
        let code = source.get("code").filter(|code| !code.is_empty());
        let code = code.ok_or(Error::BadRequest("the identity provider sent no code"))?;
        Ok(Self {
            code,
            state: source.get("state").unwrap_or_default(),
            iss: source.get("iss"),
        })
    }
}

/// An error code of OAuth has plain characters only; nothing else of it is repeated.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn error_codes_are_cut_to_plain_characters() {
        assert_eq!(plain("access_denied"), "access_denied");
        assert_eq!(plain("<script>alert(1)</script>\r\n"), "scriptalert1script");
        assert_eq!(plain(&"x".repeat(1_000)).len(), 64);
    }
}
