//! `/ping`, `/healthz`, `/robots.txt`: the same for everybody.

use http::{Method, StatusCode};
use pomerium_web::{Response, body};

use crate::call::Call;
use crate::{Error, service};

/// `OK`, or for HEAD its headers alone.
pub(crate) fn answer(call: &Call) -> Result<Response, Error> {
    text(call, "text/plain", "OK\n")
}

/// Crawlers have no business here.
pub(crate) fn robots(call: &Call) -> Result<Response, Error> {
    text(call, "text/plain; charset=utf-8", "User-agent: *\nDisallow: /")
}

fn text(call: &Call, kind: &'static str, text: &'static str) -> Result<Response, Error> {
    service::only(call, &[Method::GET, Method::HEAD])?;
    Ok(body::response(
        StatusCode::OK,
        kind,
        if call.method == Method::HEAD { "" } else { text },
    ))
}
