//! Signing out at the built-in provider (OpenID Connect RP-Initiated Logout 1.0).

use http::Method;
use pomerium_crypto::query::Query;
use pomerium_web::pages::{self, Hidden};
use pomerium_web::{Response, csrf};

use super::front::FORM_LIFETIME;
use super::provider::LocalProvider;
use super::tokens::Hint;
use crate::call::Call;
use crate::login::csrf::CsrfToken;
use crate::{Authenticate, Error, cookie, reply, service};

const END: &str = "local sign-out form";

impl Authenticate {
    /// RP-initiated sign-out. With the ID token of the person who is signed in it goes ahead; otherwise we ask.
    pub(super) fn local_end_session(&self, local: &LocalProvider, call: &Call) -> Result<Response, Error> {
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
}

fn with_state(url: String, state: Option<&str>) -> String {
    let Some(state) = state else { return url };
    let separator = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{separator}{}",
        Query::from_iter([("state", state)]).encode()
    )
}
