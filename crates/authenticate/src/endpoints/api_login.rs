//! `/.pomerium/api/v1/login`: where a program sends its person to sign in (spec authentication.md 11.3).

use http::{Method, StatusCode};
use pomerium_web::{Response, body};

use crate::call::Call;
use crate::links::{REDIRECT_URI, SignIn};
use crate::{Authenticate, Error, reply, service};

impl Authenticate {
    /// Answers with the sign-in address as text.
    pub(crate) fn programmatic_login(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let target = call
            .single(REDIRECT_URI)?
            .filter(|url| !url.is_empty())
            .ok_or(Error::NotFound)?;
        let target = self.programmatic_url(target)?;
        let route = call.context.route.as_deref();
        let link = SignIn {
            redirect_uri: &target,
            idp_id: route
                .and_then(|route| route.idp.as_ref())
                .map(|idp| idp.id.as_str()),
            additional_hosts: route.map_or(&[], |route| route.depends_on.as_slice()),
            callback_uri: Some(&format!("https://{}/.pomerium/callback/", call.authority)),
            demand: None,
        };
        let url = self.options.sign_in_url(&link, call.unix());
        let mut response = body::response(StatusCode::OK, "text/plain; charset=utf-8", url);
        reply::no_store(&mut response);
        Ok(response)
    }
}
