//! Requests with the limits that hold for all of them.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};

use crate::{HttpClient, HttpError, HttpErrorKind, IdentityError};

/// The largest document read from a provider. Real ones have some ten KiB.
pub(super) const LIMIT: usize = 512 * 1024;

/// Sends `request`; 5xx, 408 and 429 are errors, other answers the caller's business.
pub(super) async fn send(
    http: &dyn HttpClient,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, IdentityError> {
    let url = place(request.uri());
    let answer = http
        .send(request, LIMIT)
        .await
        .map_err(|error| unreachable(&url, error))?;
    let status = answer.status();
    if status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
    {
        return Err(IdentityError::OutOfOrder {
            url,
            status: status.as_u16(),
        });
    }
    Ok(answer)
}

/// Fetches a JSON document that must be there.
pub(super) async fn get_document(http: &dyn HttpClient, url: &str) -> Result<Bytes, IdentityError> {
    let request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|error| bad_answer(url, format_args!("not a URL: {error}")))?;
    let answer = send(http, request).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status if status.is_redirection() => Err(bad_answer(
            url,
            format_args!("it redirects ({status}); redirects are not followed"),
        )),
        status => Err(bad_answer(url, format_args!("status {status}"))),
    }
}

fn unreachable(url: &str, error: HttpError) -> IdentityError {
    match error.kind {
        HttpErrorKind::TooLarge => IdentityError::BadAnswer {
            url: url.to_owned(),
            detail: error.text,
        },
        _ => IdentityError::Unreachable {
            url: url.to_owned(),
            error,
        },
    }
}

pub(super) fn bad_answer(url: &str, detail: impl std::fmt::Display) -> IdentityError {
    IdentityError::BadAnswer {
        url: url.to_owned(),
        detail: detail.to_string(),
    }
}

/// A URL without its query, for messages.
fn place(uri: &http::Uri) -> String {
    let text = uri.to_string();
    text.split_once('?')
        .map_or(text.clone(), |(place, _)| place.to_owned())
}

/// What a provider says of an error, made fit for logs and pages: no control characters, not too long.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect::<String>()
        .trim()
        .to_owned()
}
