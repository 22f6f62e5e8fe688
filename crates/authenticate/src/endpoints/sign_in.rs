//! `/.pomerium/sign_in`: the hub of a login (spec authentication.md 4.5). Reached twice: without a session it
//! leads to the identity provider, with one it hands the session on to the route.

use http::{HeaderValue, Method};
use pomerium_crypto::query::Query;
use pomerium_crypto::{aead, encoding};
use pomerium_policy::Demand;
use pomerium_web::Response;
use pomerium_web::handle::Handle;

use crate::call::Call;
use crate::error::LoopDetails;
use crate::links::{
    self, ADDITIONAL_HOSTS, CALLBACK_URI, IDP_ID, PROGRAMMATIC, REDIRECT_URI, SESSION_ENCRYPTED,
};
use crate::login::rounds::{self, Cause, Rounds};
use crate::login::state::LoginState;
use crate::login::step_up;
use crate::options::host_of;
use crate::providers::Provider;
use crate::return_to::authority_of;
use crate::verify::{Live, Missing};
use crate::{Authenticate, Error, cookie, reply};

/// A sign-in link whose every part was checked.
struct Wanted {
    redirect: String,
    callback: String,
    programmatic: bool,
    additional_hosts: Vec<String>,
    /// What the sign-in has to be, where it cannot be just any.
    demand: Option<Demand>,
}

impl Authenticate {
    /// `/.pomerium/sign_in`.
    pub(crate) async fn sign_in(&self, call: &Call) -> Result<Response, Error> {
        crate::service::only(call, &[Method::GET, Method::HEAD])?;
        if call.query.contains("user_code") || call.query.contains("pomerium_bind_session") {
            return Err(Error::NotFound);
        }
        self.options.verify_link(call)?;
        let wanted = self.wanted(call)?;
        let provider = self.wanted_provider(call)?;
        let falls_short = |live: &Live| {
            let round = self.options.round(call);
            let does = |demand| step_up::does(&live.session, demand, round, call.now);
            !wanted.demand.as_ref().is_none_or(does)
        };
        let missing = match self.verify(call, Some(&provider.settings.id)).await? {
            Ok(live) if falls_short(&live) => {
                Missing::NotEnough(Box::new((live.handle.jti, live.handle.idp_id)))
            }
            Ok(live) => return self.hand_on(call, &wanted, live),
            Err(missing) => missing,
        };
        let demand = wanted.demand.as_ref();
        self.start_login(call, provider, &missing, (true, demand)).await
    }

    /// The provider a request names, or the default one.
    pub(crate) fn wanted_provider(&self, call: &Call) -> Result<&Provider, Error> {
        match call.single(IDP_ID)?.filter(|id| !id.is_empty()) {
            Some(id) => self
                .providers
                .get(id)
                .ok_or(Error::BadRequest("the identity provider is not known here")),
            None => self.providers.default_one().ok_or(Error::NoProvider),
        }
    }

    /// Where a sign-in leads in the end, if that is a place of ours: for pages that offer another try. On the way
    /// back from the provider the login state knows.
    pub(crate) fn destination(&self, call: &Call) -> Option<String> {
        if let Some(url) = call.query.get(REDIRECT_URI) {
            return self.own_url(url).ok();
        }
        let state: LoginState = self.seal.state.open(call.query.get("state")?)?;
        let (base, query) = links::unsigned(&state.return_to);
        self.own_url(query.get(REDIRECT_URI).unwrap_or(&base)).ok()
    }

    /// The signature says that a service of ours made the link; that it leads nowhere else is checked all the
    /// same, because what is signed came from a request once.
    fn wanted(&self, call: &Call) -> Result<Wanted, Error> {
        let redirect = call
            .single(REDIRECT_URI)?
            .ok_or(Error::BadRequest("the return address is missing"))?;
        let programmatic = call.single(PROGRAMMATIC)? == Some("true");
        let (redirect, callback) = match call.single(CALLBACK_URI)? {
            Some(callback) if programmatic => {
                (self.programmatic_url(redirect)?, self.callback_url(callback)?)
            }
            Some(callback) => (self.signed_url(redirect)?, self.callback_url(callback)?),
            None => {
                let redirect = self.signed_url(redirect)?;
                let host =
                    authority_of(&redirect).ok_or(Error::BadRequest("the return address is not absolute"))?;
                (redirect, format!("https://{host}/.pomerium/callback/"))
            }
        };
        let additional = call.single(ADDITIONAL_HOSTS)?.unwrap_or_default();
        let additional_hosts: Vec<String> = additional
            .split(',')
            .filter(|host| !host.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        if additional_hosts.iter().any(|host| !self.is_signed_host(host)) {
            return Err(Error::BadRequest(
                "an additional host does not belong to this proxy",
            ));
        }
        Ok(Wanted {
            redirect,
            callback,
            programmatic,
            additional_hosts,
            demand: step_up::demand_of(call)?,
        })
    }

    fn callback_url(&self, url: &str) -> Result<String, Error> {
        let url = self.signed_url(url)?;
        let path = url
            .strip_prefix("https://")
            .and_then(|rest| rest.split_once('/'))
            .map(|(_, path)| path);
        match path {
            Some(".pomerium/callback/" | ".pomerium/callback") => Ok(url),
            _ => Err(Error::BadRequest("the callback address is not a callback")),
        }
    }

    /// Hands the session to the route, by way of its callback.
    fn hand_on(&self, call: &Call, wanted: &Wanted, live: Live) -> Result<Response, Error> {
        let rounds_cookie = self.count_round(call, wanted)?;
        let handle = self.route_handle(call, wanted, live.handle);
        let token = handle.encode(&self.options.shared);
        let mut query = Query::new();
        query.set(ADDITIONAL_HOSTS, wanted.additional_hosts.join(","));
        query.set(SESSION_ENCRYPTED, self.seal_handle(&token));
        query.set(REDIRECT_URI, &wanted.redirect);
        if wanted.programmatic {
            query.set(PROGRAMMATIC, "true");
        }
        let mut response = reply::redirect(&self.options.sign(&wanted.callback, &query, call.unix()));
        let own = self.cookies.session(cookie::AUTHENTICATE, &token, call.now)?;
        reply::cookies(&mut response, [own, rounds_cookie]);
        Ok(response)
    }

    /// The handle of the same session for these hosts. Hosts further down a chain are in `aud` as well: each
    /// callback insists on its own name.
    fn route_handle(&self, call: &Call, wanted: &Wanted, handle: Handle) -> Handle {
        let hosts = [authority_of(&wanted.redirect), authority_of(&wanted.callback)];
        let mut aud = vec![self.options.authority.clone()];
        for host in hosts
            .into_iter()
            .flatten()
            .chain(wanted.additional_hosts.iter().cloned())
        {
            if !aud.contains(&host) {
                aud.push(host);
            }
        }
        Handle {
            iss: self.options.authority.clone(),
            aud,
            iat: call.unix(),
            ..handle
        }
    }

    /// A handle, sealed for the way through the browser to the route (spec authentication.md 4.5).
    pub(crate) fn seal_handle(&self, token: &str) -> String {
        encoding::base64url_padded_encode(&aead::seal(&self.options.shared, token.as_bytes(), b""))
    }

    /// Counts this hand-over; one too many for the same place means that the route loses the session.
    fn count_round(&self, call: &Call, wanted: &Wanted) -> Result<HeaderValue, Error> {
        let name = self.cookies.name(cookie::ROUNDS);
        let mut rounds: Rounds = call
            .cookie(&name)
            .and_then(|value| self.seal.rounds.open(value))
            .unwrap_or_default();
        if !rounds.count(&wanted.redirect, call.unix()) {
            return Err(self.route_loop(wanted));
        }
        self.cookies.helper(
            cookie::ROUNDS,
            "/",
            &self.seal.rounds.seal(&rounds),
            rounds::WINDOW,
            call.now,
        )
    }

    fn route_loop(&self, wanted: &Wanted) -> Error {
        let authority = authority_of(&wanted.callback).unwrap_or_default();
        let host = host_of(&authority).to_owned();
        let cookie_domain = self.options.cookie.domain.clone();
        let outside = cookie_domain
            .as_deref()
            .is_some_and(|domain| !rounds::domain_covers(domain, &host));
        let cause = if wanted.demand.is_some() {
            Cause::NotEnough
        } else if outside {
            Cause::CookieDomain
        } else if self.cookies.is_strict() {
            Cause::SameSite
        } else {
            Cause::CookieRefused
        };
        tracing::warn!(
            ?cause,
            host,
            "sign-in loop broken: the route comes back without the session it was given"
        );
        Error::Loop(
            cause,
            LoopDetails {
                retry: Some(wanted.redirect.clone()),
                host,
                cookie_domain,
            },
        )
    }

    /// The cookie of the loop breaker, taken away: after a sign-out a new sign-in is no loop.
    pub(crate) fn clear_rounds(&self, call: &Call) -> Result<HeaderValue, Error> {
        self.cookies.clear_helper(cookie::ROUNDS, "/", call.now)
    }
}

/// Whether a handle was made for this host.
pub(crate) fn is_for(handle: &Handle, authority: &str) -> bool {
    handle
        .aud
        .iter()
        .any(|own| crate::options::same_authority(own, authority) || own == host_of(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_for_the_hosts_it_names() {
        let handle = Handle {
            aud: vec!["app.example.com".into(), "b.example.com:8443".into()],
            ..Handle::default()
        };
        for (authority, own) in [
            ("app.example.com", true),
            ("app.example.com:443", true),
            ("app.example.com:8443", true),
            ("b.example.com:8443", true),
            ("b.example.com", false),
            ("evil.example", false),
        ] {
            assert_eq!(is_for(&handle, authority), own, "{authority}");
        }
    }
}
