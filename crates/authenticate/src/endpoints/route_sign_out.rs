//! `/.pomerium/sign_out` on a route: the cookie of this host goes, the rest is the authenticate host's work.

use http::Method;
use pomerium_crypto::query::Query;
use pomerium_web::{Response, csrf};

use crate::call::Call;
use crate::links::{REDIRECT_URI, SESSION};
use crate::{Authenticate, Error, reply, service};

impl Authenticate {
    /// Signs out; a request that another site set off is asked about first.
    pub(crate) fn route_sign_out(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD, Method::POST])?;
        csrf::check_origin(&call.canonical, &call.headers).map_err(|_| Error::CrossSite)?;
        if call.method != Method::POST && !came_from_here(call) {
            return Ok(self.confirm_page(call, &call.canonical.path_and_query()));
        }
        let mut query = Query::new();
        if let Some(target) = self.route_target(call)? {
            query.set(REDIRECT_URI, target);
        }
        if let Some(principal) = call
            .context
            .principal
            .as_ref()
            .filter(|principal| !principal.service_account)
        {
            query.set(SESSION, self.seal.session.seal(&principal.session_id));
        }
        let url = self.options.sign(
            &self.options.authenticate_url("/.pomerium/sign_out"),
            &query,
            call.unix(),
        );
        let mut response = reply::redirect(&url);
        reply::cookies(&mut response, [self.cookies.clear_session("", call.now)?]);
        Ok(response)
    }

    /// Where the person goes in the end: the request decides only where the administrator lets it.
    fn route_target(&self, call: &Call) -> Result<Option<String>, Error> {
        if self.options.flags.allow_any_sign_out_redirect_uri
            && let Some(target) = call.single(REDIRECT_URI)?.filter(|target| !target.is_empty())
        {
            return Ok(Some(target.to_owned()));
        }
        Ok(self.options.signout_redirect_url.clone())
    }
}

/// Whether the person is here of their own will: the browser says so, or the page before was one of this host.
fn came_from_here(call: &Call) -> bool {
    if let Some(site) = call.header("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let before = call.header("referer").and_then(crate::return_to::authority_of);
    before.is_some_and(|before| crate::options::same_authority(&before, &call.authority))
}
