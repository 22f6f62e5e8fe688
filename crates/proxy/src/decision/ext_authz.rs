//! Envoy's external authorization over gRPC (package `envoy.service.auth.v3`).
//!
//! Every call gets an answer, and whatever cannot be judged is a denial: an error of the call would let requests pass
//! where Envoy is told to go on without us.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use pomerium_web::canonical::{Refusal, Reported, canonicalize_reported};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use smallvec::SmallVec;

use super::question::{Field, Http, Question, Source};
use super::verdict::{self, Expected, Granted, Verdict};
use super::{Asker, grpc, instructions, response};
use crate::body::Activity;
use crate::client_tls::ClientTls;
use crate::conn::Conn;
use crate::flow::{self, Reply};
use crate::snapshot::Snapshot;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Answers a call of `Check`.
pub(super) async fn answer<B: Body<Data = Bytes>>(
    (conn, asker): (Conn, Asker),
    snapshot: Arc<Snapshot>,
    call: Request<B>,
    activity: Arc<Activity>,
) -> Reply {
    if !grpc::is_grpc(&call) || call.method() != Method::POST {
        return super::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this is a gRPC method\n");
    }
    let version = call.version();
    let refused = |problem| {
        tracing::warn!(peer = %conn.info.peer, problem, "ext_authz: a question is refused");
        grpc::reply(denied(StatusCode::BAD_REQUEST), None)
    };
    let message = match grpc::read(call.into_body()).await {
        Ok(message) => message,
        Err(problem) => return refused(problem),
    };
    let Ok(question) = Question::read(&message) else {
        return refused("the message cannot be read");
    };
    let Question {
        source: Some(source),
        http: Some(http),
        extensions,
    } = question
    else {
        return refused("the message tells of no HTTP request");
    };
    let asked = Asked {
        message: &message,
        source,
        http,
        extensions,
    };
    check((conn, asker), snapshot, &asked, (version, activity)).await
}

async fn check(
    (mut conn, asker): (Conn, Asker),
    snapshot: Arc<Snapshot>,
    asked: &Asked<'_>,
    about: (http::Version, Arc<Activity>),
) -> Reply {
    let Some(reading) = asker.reading(&snapshot) else {
        return grpc::reply(denied(StatusCode::FORBIDDEN), None);
    };
    conn.client = asked.certificate(&snapshot);
    let read = |id: &mut dyn FnMut() -> String| {
        let (line, headers) = asked.head()?;
        canonicalize_reported(&line, headers, &conn.info, &reading.rules, id)
    };
    let expected = Expected {
        internal: asked.extension("internal") == Some(b"true"),
        route: asked
            .extension("route_id")
            .filter(|id| !id.is_empty())
            // An id that is no text is nobody's.
            .map(|id| std::str::from_utf8(id).unwrap_or("\0")),
    };
    let verdict = match flow::begin_reported(&conn, snapshot.clone(), about, read) {
        Ok(flow) => verdict::judge(flow, expected).await,
        Err(refusal) => Verdict::Refused(*refusal),
    };
    match verdict {
        Verdict::Allowed(granted) => {
            let message = allowed(&granted, asked, reading);
            grpc::reply(message, Some(granted.exchange))
        }
        Verdict::Refused(reply) => grpc::reply(refused(reply).await, None),
    }
}

fn allowed(granted: &Granted, asked: &Asked<'_>, reading: &super::Reading) -> Bytes {
    let context = granted.route.as_ref().map(|route| {
        let user = granted.principal.as_ref();
        (
            &*route.settings.id,
            user.map(|principal| principal.user_id.as_str()),
        )
    });
    response::allowed(
        |out| instructions::between(out, asked.headers(), &granted.headers, reading),
        context,
    )
}

/// The answer that our own proxy would give the client, for Envoy to give.
async fn refused(reply: Reply) -> Bytes {
    let (mut parts, body) = reply.into_parts();
    for own in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(own);
    }
    // Our own pages, which are all here. Without them a denial is still one.
    let body = body.collect().await.map(|body| body.to_bytes());
    response::denied(parts.status, &parts.headers, &body.unwrap_or_default())
}

/// A denial without a page.
fn denied(status: StatusCode) -> Bytes {
    response::denied(status, &HeaderMap::new(), b"")
}

/// A question about an HTTP request.
struct Asked<'a> {
    /// What the rest is a part of.
    message: &'a Bytes,
    source: Source<'a>,
    http: Http<'a>,
    extensions: SmallVec<[Field<'a>; 4]>,
}

impl<'a> Asked<'a> {
    /// The client's headers, pseudo-headers among them.
    fn headers(&self) -> &[Field<'a>] {
        if self.http.mapped.is_empty() {
            &self.http.headers
        } else {
            &self.http.mapped
        }
    }

    fn extension(&self, name: &str) -> Option<&'a [u8]> {
        let mut named = self
            .extensions
            .iter()
            .filter(|entry| entry.key == name.as_bytes());
        named.next().map(|entry| entry.value)
    }

    /// Request line and headers. The address that Envoy took for the client's stands in the place of whatever the
    /// client said about itself.
    fn head(&self) -> Result<(Reported<'_>, HeaderMap), Refusal> {
        let refused = |detail| Refusal {
            status: 400,
            detail,
            redirect: None,
            close: false,
        };
        if !self.http.mapped.is_empty() && !self.http.headers.is_empty() {
            return Err(refused("headers are told twice"));
        }
        let line = Reported {
            method: self.http.method,
            scheme: self.http.scheme,
            host: self.http.host,
            target: self.http.path,
        };
        let mut headers = HeaderMap::with_capacity(self.headers().len() + 8);
        for entry in self.headers() {
            if entry.key.first() == Some(&b':') {
                if !agrees(entry, &line) {
                    return Err(refused("pseudo-headers contradict the request"));
                }
                continue;
            }
            let name =
                HeaderName::from_bytes(entry.key).map_err(|_| refused("a header name is not valid"))?;
            let value = HeaderValue::from_maybe_shared(self.message.slice_ref(entry.value))
                .map_err(|_| refused("a header value is not valid"))?;
            headers
                .try_append(name, value)
                .map_err(|_| refused("too many header fields"))?;
        }
        // Its framing is Envoy's business, its body is not judged.
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        let client = self
            .client()
            .ok_or_else(|| refused("the source is no IP address"))?;
        let client =
            HeaderValue::try_from(client.to_string()).map_err(|_| refused("the source is no IP address"))?;
        headers.insert(FORWARDED_FOR, client);
        Ok((line, headers))
    }

    fn client(&self) -> Option<IpAddr> {
        self.source.address?.parse().ok()
    }

    /// The certificate that the client has shown to Envoy. One that cannot be read is none.
    fn certificate(&self, snapshot: &Snapshot) -> Option<Arc<ClientTls>> {
        let clients = snapshot.clients.as_ref()?;
        let told = self.source.certificate;
        if told.is_empty() {
            return None;
        }
        let pem: Vec<u8> = percent_encoding::percent_decode_str(told).collect();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) => Some(Arc::new(ClientTls::presented(
                clients.demands().widest().clone(),
                &chain,
            ))),
            Err(error) => {
                tracing::warn!(%error, "ext_authz: source.certificate cannot be read and does not count");
                None
            }
        }
    }
}

/// Whether a pseudo-header says what the request says; unknown ones say nothing.
fn agrees(entry: &Field<'_>, line: &Reported<'_>) -> bool {
    let told = match entry.key {
        b":method" => line.method,
        b":path" => line.target,
        b":authority" => line.host,
        b":scheme" => line.scheme,
        _ => return true,
    };
    entry.value == told
}
