//! The plain listener that sends everybody to https (spec proxy.md 1.5), and answers certificate authorities that look
//! for a challenge in flight (HTTP-01).

use std::convert::Infallible;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use pomerium_certs::acme::{Challenges, HTTP_PATH};
use pomerium_web::canonical::Authority;
use tokio::net::TcpStream;

use crate::worker::Worker;

/// A request head has this long to arrive.
const HEAD: Duration = Duration::from_secs(10);
/// Longest head; a redirect needs little.
const MAX_HEAD: usize = 16 * 1024;

pub(crate) async fn serve(worker: &Worker, socket: TcpStream) {
    let challenges = &worker.shared.challenges;
    let service = hyper::service::service_fn(|request| {
        let response = answer(challenges, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "redirect connection ended");
        },
        () = worker.lifecycle.stopped.cancelled() => {}
    }
}

fn answer(challenges: &Challenges, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    challenge(challenges, request).unwrap_or_else(|| {
        redirect(
            request.version(),
            request.headers().get_all(HOST).iter(),
            request.uri(),
        )
    })
}

/// The answer to an HTTP-01 challenge (RFC 8555 section 8.3); anything that is not in flight is redirected.
fn challenge(challenges: &Challenges, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let path = request.uri().path();
    if request.method() != Method::GET || !path.starts_with(HTTP_PATH) {
        return None;
    }
    let host = Authority::parse(request.headers().get(HOST)?.as_bytes()).ok()?;
    let answer = challenges.http_answer(host.host(), path)?;
    let mut response = Response::new(Full::from(answer));
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Some(response)
}

fn redirect<'a>(
    version: Version,
    mut hosts: impl Iterator<Item = &'a HeaderValue>,
    uri: &http::Uri,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::parse(host.as_bytes()).ok(),
        _ => None,
    };
    // `OPTIONS *` is about the whole host.
    let path = uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    let path = path.filter(|path| path.starts_with('/')).unwrap_or("/");
    let location = host
        .filter(|_| matches!(version, Version::HTTP_10 | Version::HTTP_11))
        .and_then(|host| HeaderValue::try_from(format!("https://{}{path}", host.host())).ok());
    match location {
        Some(location) => {
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            response.headers_mut().insert(LOCATION, location);
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &'static str, uri: &'static str) -> Option<String> {
        let hosts = [HeaderValue::from_static(host)];
        let response = redirect(Version::HTTP_11, hosts.iter(), &uri.parse().unwrap());
        response
            .headers()
            .get(LOCATION)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn host_without_port_and_the_whole_target() {
        assert_eq!(
            location("app.example.com:8080", "/a?b=c").as_deref(),
            Some("https://app.example.com/a?b=c")
        );
        assert_eq!(location("[::1]:80", "/").as_deref(), Some("https://[::1]/"));
    }

    /// As old checks of load balancers ask.
    #[test]
    fn an_old_client_with_a_host_is_redirected_too() {
        let hosts = [HeaderValue::from_static("app.example.com")];
        let response = redirect(Version::HTTP_10, hosts.iter(), &"/a".parse().unwrap());
        assert_eq!(response.headers()[LOCATION], "https://app.example.com/a");
        assert_eq!(
            location("app.example.com", "*").as_deref(),
            Some("https://app.example.com/")
        );
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in ["", "a b", "user@evil.example.com", "a/b", "a\\b"] {
            assert_eq!(location(host, "/"), None, "{host}");
        }
        let two = [
            HeaderValue::from_static("a.example.com"),
            HeaderValue::from_static("b.example.com"),
        ];
        let refused = redirect(Version::HTTP_11, two.iter(), &"/".parse().unwrap());
        assert_eq!(refused.status(), 400);
    }
}
