//! HTTP: a request whose answer needs a good status and, where asked for, some texts.

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;
use pomerium_config::settings::HttpProbe;

use super::super::matcher::Matcher;
use super::exchange::{Answer, ask};
use super::{Kept, Prober, Report};

/// What tells probes from visitors in an application's log.
pub(super) const AGENT: HeaderValue = HeaderValue::from_static("Pomerium/HC");
/// Bytes of the body that are searched when the check does not say.
const BUFFER: u64 = 1024;

pub(super) async fn probe(prober: &Prober, probe: &HttpProbe, kept: Kept) -> (Report, Kept) {
    let host = if probe.host.is_empty() {
        &*prober.cluster
    } else {
        probe.host.as_str()
    };
    let request = match request(probe, host, prober.scheme()) {
        Ok(request) => request,
        Err(error) => return (Report::silent(error.to_string()), Kept::Nothing),
    };
    match ask(prober, probe.http2, kept, &request).await {
        Ok((answer, sender)) => {
            let report = judge(probe, &answer);
            let kept = if answer.whole {
                Kept::Http(sender)
            } else {
                Kept::Nothing
            };
            (report, kept)
        }
        Err(reason) => (Report::silent(reason), Kept::Nothing),
    }
}

/// POST with a body, GET without one. HTTP/2 carries the host in the URI, HTTP/1.1 in a header.
fn request(probe: &HttpProbe, host: &str, scheme: &str) -> Result<Request<Full<Bytes>>, http::Error> {
    let method = if probe.send.is_empty() {
        Method::GET
    } else {
        Method::POST
    };
    let body = Full::new(Bytes::from(probe.send.clone()));
    let mut request = if probe.http2 {
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(host)
            .path_and_query(probe.path.as_str())
            .build()?;
        Request::builder()
            .version(Version::HTTP_2)
            .method(method)
            .uri(uri)
            .body(body)?
    } else {
        Request::builder()
            .method(method)
            .uri(probe.path.as_str())
            .header(HOST, host)
            .body(body)?
    };
    request.headers_mut().insert(USER_AGENT, AGENT);
    for name in &probe.remove_headers {
        request.headers_mut().remove(name);
    }
    Ok(request)
}

fn judge(probe: &HttpProbe, answer: &Answer) -> Report {
    let status = answer.head.status.as_u16();
    let within = |ranges: &[(u16, u16)]| ranges.iter().any(|(start, end)| (*start..*end).contains(&status));
    let expected = if probe.expected.is_empty() {
        status == 200
    } else {
        within(&probe.expected)
    };
    if !expected {
        let reason = format!("status {status}");
        return if within(&probe.retriable) {
            Report::silent(reason)
        } else {
            Report::bad(reason)
        };
    }
    if probe.receive.is_empty() {
        return Report::good();
    }
    let limit = if probe.response_buffer_size == 0 {
        BUFFER
    } else {
        probe.response_buffer_size
    };
    let mut matcher = Matcher::new(&probe.receive, usize::try_from(limit).unwrap_or(usize::MAX));
    matcher.push(&answer.body);
    if matcher.matched() {
        Report::good()
    } else {
        Report::bad("the expected text is not in the answer")
    }
}
