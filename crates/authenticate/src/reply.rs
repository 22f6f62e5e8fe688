//! How an endpoint answers: small helpers, and the one table from [`Error`] to what people and programs read.

use http::header::{ALLOW, CACHE_CONTROL, HeaderName, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use pomerium_crypto::jwt::JwtError;
use pomerium_crypto::signed_url::SignatureError;
use pomerium_identity::IdentityError;
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::pages::{self, Frame, SignOutConfirm, SignedOut};
use pomerium_web::problem::{Origin, Problem};
use pomerium_web::{Response, body, error_reply, negotiate};
use serde_json::Value;

use crate::call::{Call, ReadError};
use crate::error::LoopDetails;
use crate::login::rounds::Cause;
use crate::login::state::StateError;
use crate::{Authenticate, Error};

/// 302 to a URL that was checked or made here.
pub(crate) fn redirect(url: &str) -> Response {
    error_reply::redirect(StatusCode::FOUND, url)
}

/// 303: what follows is a GET, also after a form.
pub(crate) fn see_other(url: &str) -> Response {
    error_reply::redirect(StatusCode::SEE_OTHER, url)
}

/// A page that goes on by itself: the next navigation is ours, not that of the site the person came from.
pub(crate) fn continue_to(url: &str) -> Response {
    let mut response = body::response(StatusCode::OK, "text/plain; charset=utf-8", "Signing in\n");
    match HeaderValue::try_from(format!("0; url={url}")) {
        Ok(value) => response
            .headers_mut()
            .insert(HeaderName::from_static("refresh"), value),
        Err(_) => return redirect(url),
    };
    no_store(&mut response);
    no_sniff(&mut response);
    response
}

/// A JSON reply that nobody keeps.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = body::response(status, "application/json", value.to_string());
    no_store(&mut response);
    no_sniff(&mut response);
    response
}

/// Adds cookies.
pub(crate) fn cookies(response: &mut Response, cookies: impl IntoIterator<Item = HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// Nobody keeps this.
pub(crate) fn no_store(response: &mut Response) {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// It is what its type says.
pub(crate) fn no_sniff(response: &mut Response) {
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

impl Authenticate {
    /// The frame of a page for somebody whom we do not know.
    pub(crate) fn frame<'a>(&'a self, call: &'a Call) -> Frame<'a> {
        Frame::new(&self.deps.site, &call.canonical.request_id)
    }

    /// The frame of a page for somebody who is signed in. The portal is a page of route hosts.
    pub(crate) fn signed_in_frame<'a>(&'a self, call: &'a Call) -> Frame<'a> {
        let portal = self.options.flags.routes_portal && !self.options.is_authenticate(&call.authority);
        Frame::signed_in(&self.deps.site, &call.canonical.request_id, portal)
    }

    /// "Sign out?", posted to `action`.
    pub(crate) fn confirm_page(&self, call: &Call, action: &str) -> Response {
        let signed_in_as = call
            .context
            .principal
            .as_ref()
            .map_or("", |principal| &principal.email);
        let page = SignOutConfirm {
            signed_in_as,
            action,
            cancel: "/.pomerium/",
            hidden: Vec::new(),
        };
        pages::sign_out_confirm(&page, &self.frame(call))
    }

    /// "You are signed out."
    pub(crate) fn signed_out_page(&self, call: &Call) -> Response {
        let sign_in_url = self.options.idp.as_ref().map(|_| "/.pomerium/");
        pages::signed_out(&SignedOut { sign_in_url }, &self.frame(call))
    }

    /// The answer to an error, in the form the client reads.
    pub(crate) fn refuse(&self, call: &Call, error: &Error) -> Response {
        if let Error::SignIn { login_url } = error {
            return redirect(login_url);
        }
        if error.is_about_the_client() {
            tracing::error!(%error, path = call.path(), request_id = %call.canonical.request_id, "the identity provider does not know us: check idp_client_id and idp_client_secret");
        } else if error.status().is_server_error() {
            tracing::error!(%error, path = call.path(), request_id = %call.canonical.request_id, "sign-in request failed");
        } else {
            tracing::info!(%error, path = call.path(), request_id = %call.canonical.request_id, "sign-in request refused");
        }
        let problem = self.problem(call, error);
        let frame = self.frame(call);
        if let Error::LoginNeeded { .. } = error {
            // Whoever must not be redirected reads JSON, if not something more special.
            let kind = match negotiate::wants(&call.canonical, &call.headers) {
                negotiate::ClientKind::Html => negotiate::ClientKind::Json,
                kind => kind,
            };
            return error_reply::reply(kind, &problem, &frame);
        }
        let mut response = error_reply::reply_to_handler(&call.headers, &problem, &frame);
        if let Error::Method(allowed) = error {
            let names: Vec<&str> = allowed.iter().map(http::Method::as_str).collect();
            if let Ok(value) = HeaderValue::try_from(names.join(", ")) {
                response.headers_mut().insert(ALLOW, value);
            }
        }
        response
    }

    /// The answer to a request whose body could not be read.
    pub(crate) fn refuse_unread(
        &self,
        canonical: &CanonicalRequest,
        headers: &HeaderMap,
        error: ReadError,
    ) -> Response {
        tracing::info!(%error, path = %canonical.path, request_id = %canonical.request_id, "form refused");
        let mut problem = match error {
            ReadError::TooLarge => Problem::body_too_large(),
            ReadError::BrokeOff => bad_request("it did not arrive whole"),
        };
        problem.origin = Origin::Handler;
        let frame = Frame::new(&self.deps.site, &canonical.request_id);
        error_reply::reply_to_handler(headers, &problem, &frame)
    }

    fn problem(&self, call: &Call, error: &Error) -> Problem {
        let retry = |problem: Problem| match self.destination(call) {
            Some(url) => problem.retry(url),
            None => problem,
        };
        let problem = match error {
            Error::NotFound => Problem::not_found(&call.authority),
            Error::UnknownRoute(host) => Problem::route_unknown(host),
            Error::Method(_) => Problem::method_not_allowed(),
            Error::CrossSite => Problem::forged_form(),
            Error::Link(SignatureError::FromTheFuture) | Error::State(StateError::FromTheFuture) => {
                clocks_differ()
            }
            Error::Link(_) | Error::LinkUsed => retry(Problem::bad_link()),
            Error::State(StateError::OtherBrowser) => retry(Problem::cookie_missing()),
            Error::State(StateError::Expired) => retry(Problem::sign_in_expired()),
            Error::State(StateError::Forged | StateError::Used) => retry(Problem::bad_link()),
            Error::Refused(said) => retry(Problem::sign_in_refused(said)),
            Error::Provider(error) => retry(provider_problem(error)),
            Error::Device(refusal) => refusal.problem(self.device_again(call)),
            Error::Store(_) => Problem::undecided(),
            Error::SignIn { login_url } | Error::LoginNeeded { login_url } => {
                Problem::sign_in_needed(login_url)
            }
            Error::NotEnough(what) => retry(Problem::sign_in_not_enough(&what.missing())),
            Error::Loop(cause, details) => loop_problem(*cause, details),
            Error::BadRequest(what) => bad_request(what),
            Error::NoProvider => no_provider(),
            Error::Cookie(_) | Error::Internal(_) => Problem::internal(),
        };
        with_status(problem, error)
    }
}

/// The status of the table in [`Error::status`] counts; texts are shared between cases.
fn with_status(mut problem: Problem, error: &Error) -> Problem {
    let status = error.status();
    if problem.status != status.as_u16() {
        problem.status = status.as_u16();
        problem = problem.with_reason(status.canonical_reason().unwrap_or_default());
    }
    if !matches!(error, Error::LoginNeeded { .. }) {
        problem.origin = Origin::Handler;
    }
    problem
}

/// Who said no: nobody, because there was no answer; the provider; or we, because its answer did not hold.
fn provider_problem(error: &IdentityError) -> Problem {
    match error {
        IdentityError::Unreachable { .. } | IdentityError::OutOfOrder { .. } => Problem::provider_down(),
        IdentityError::Refused { .. } => Problem::sign_in_refused(""),
        IdentityError::IdToken(JwtError::Expired | JwtError::NotYetValid) => Problem::provider_clock(),
        _ => Problem::sign_in_not_accepted(),
    }
}

fn bad_request(what: &'static str) -> Problem {
    let said = format!("This request cannot be answered: {what}.");
    Problem::new(400, "request-not-valid", "That did not work", said)
        .next("Go back to the application and start again.")
}

fn no_provider() -> Problem {
    let what = "This proxy does not know yet who signs people in.";
    Problem::new(500, "no-provider", "Signing in is not set up", what)
        .whose("Your administrator sets this up (idp_provider in the configuration).")
}

fn clocks_differ() -> Problem {
    let what = "The clocks of two of our servers do not agree, so that a link from one is not valid at the other yet.";
    Problem::new(400, "clock-differs", "The clocks do not agree", what)
        .whose("Nothing is wrong with your account.")
        .next("Ask your administrator to set the clocks of the servers, then try again.")
}

/// The page that ends a loop names what we found, and the one thing to try.
fn loop_problem(cause: Cause, details: &LoopDetails) -> Problem {
    let host = &details.host;
    let domain = details.cookie_domain.as_deref().unwrap_or_default();
    let problem = Problem::login_loop();
    let problem = match cause {
        Cause::CookieRefused => problem
            .whose(format!("Your browser did not keep the cookie of {host}. A privacy setting, an extension, or a device clock that is many hours wrong can cause this."))
            .next(format!("Allow cookies for {host} and check the clock of your device, then try again.")),
        Cause::CookieDomain if !domain.is_empty() => problem
            .whose(format!("Cookies are set for {domain}, and {host} may not lie in it, or an older cookie of the same name hides the new one."))
            .next(format!("Delete the cookies of {host} and try again; if it happens again, ask your administrator to check cookie_domain.")),
        Cause::CookieDomain => problem
            .whose(format!("An older cookie of the same name at {host} hides the new one."))
            .next(format!("Delete the cookies of {host} and try again.")),
        Cause::SameSite => problem
            .whose(format!("Cookies are set to be sent within one site only (cookie_same_site: strict), and the way to {host} comes from another."))
            .next("Ask your administrator to set cookie_same_site to lax."),
        Cause::Clock => problem
            .whose("The session is over as soon as it begins: the clocks of our server and of the sign-in provider do not agree.")
            .next("Ask your administrator to check the clock of this server."),
        Cause::NotEnough => problem
            .whose(format!("{host} asks for a more recent or stronger sign-in each time, also right after one."))
            .next("Ask your administrator to compare the policy of this application (`authentication`) with what the sign-in provider tells."),
        Cause::SessionLost => problem
            .whose("The session was made, but the store of sessions does not have it.")
            .next("Ask your administrator whether all servers share one session store."),
    };
    match &details.retry {
        Some(url) => problem.retry(url.clone()),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_refused() {
        let ours = [
            IdentityError::Nonce,
            IdentityError::NoIdToken,
            IdentityError::IdToken(JwtError::Signature),
            IdentityError::IdToken(JwtError::UnknownKey),
            IdentityError::IdToken(JwtError::Audience),
        ];
        for error in ours {
            assert!(
                provider_problem(&error).whose.contains("This proxy decides"),
                "{error}"
            );
        }
        for error in [JwtError::Expired, JwtError::NotYetValid] {
            assert_eq!(
                provider_problem(&IdentityError::IdToken(error)).code,
                "clock-differs"
            );
        }
        let theirs = IdentityError::Refused {
            what: "code",
            status: 400,
            error: "invalid_grant".into(),
            description: String::new(),
        };
        assert!(provider_problem(&theirs).whose.contains("The provider decides"));
        let gone = IdentityError::OutOfOrder {
            url: "https://idp.example.com/token".into(),
            status: 500,
        };
        assert_eq!(provider_problem(&gone).code, "provider-down");
    }

    #[test]
    fn every_cause_of_a_loop_has_its_own_words() {
        let details = LoopDetails {
            retry: Some("https://app.example.com/".into()),
            host: "app.example.com".into(),
            cookie_domain: Some("example.org".into()),
        };
        let causes = [
            Cause::CookieRefused,
            Cause::CookieDomain,
            Cause::SameSite,
            Cause::Clock,
            Cause::SessionLost,
            Cause::NotEnough,
        ];
        let mut texts: Vec<String> = causes
            .iter()
            .map(|cause| loop_problem(*cause, &details).whose.into())
            .collect();
        assert!(texts[1].contains("example.org") && texts[1].contains("app.example.com"));
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), causes.len());
        assert_eq!(
            loop_problem(Cause::Clock, &details).actions[0].url,
            "https://app.example.com/"
        );
    }
}
