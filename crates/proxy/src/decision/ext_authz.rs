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
use pomerium_api::pb::ext_authz::attribute_context::{HttpRequest, Peer};
use pomerium_api::pb::ext_authz::{
    self as pb, CheckRequest, CheckResponse, DeniedHttpResponse, Entry, HttpStatus,
};
use pomerium_web::canonical::{Refusal, Reported, canonicalize_reported};
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::verdict::{self, Expected, Granted, Verdict};
use super::{Asker, bare, grpc, instructions};
use crate::body::Activity;
use crate::client_tls::ClientTls;
use crate::conn::Conn;
use crate::flow::reply::{self, Ending};
use crate::flow::{self, Reply};
use crate::snapshot::Snapshot;

/// gRPC's OK and PERMISSION_DENIED.
const OK: i32 = 0;
const DENIED: i32 = 7;
/// Where Envoy's other filters and its log find what we tell of a request.
const METADATA: &str = "com.pomerium.route-context";
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
    let asked = match grpc::read(call.into_body()).await {
        Ok(message) => CheckRequest::decode(message).map_err(|_| "the message cannot be read"),
        Err(problem) => Err(problem),
    };
    let request = asked.and_then(|asked| Asked::of(asked).ok_or("the message tells of no HTTP request"));
    let asked = match request {
        Ok(asked) => asked,
        Err(problem) => {
            tracing::warn!(peer = %conn.info.peer, problem, "ext_authz: a question is refused");
            return bare(grpc::reply(&denied(
                StatusCode::BAD_REQUEST,
                Vec::new(),
                Bytes::new(),
            )));
        }
    };
    check((conn, asker), snapshot, &asked, (version, activity)).await
}

async fn check(
    (mut conn, asker): (Conn, Asker),
    snapshot: Arc<Snapshot>,
    asked: &Asked,
    about: (http::Version, Arc<Activity>),
) -> Reply {
    let Some(reading) = asker.reading(&snapshot) else {
        return bare(grpc::reply(&denied(
            StatusCode::FORBIDDEN,
            Vec::new(),
            Bytes::new(),
        )));
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
            reply::finish(granted.exchange, grpc::reply(&message), Ending::default())
        }
        Verdict::Refused(reply) => bare(grpc::reply(&refused(reply).await)),
    }
}

fn allowed(granted: &Granted, asked: &Asked, reading: &super::Reading) -> CheckResponse {
    let instructions = instructions::between(asked.headers(), &granted.headers, reading);
    CheckResponse {
        status: Some(pb::Status {
            code: OK,
            message: "OK".to_owned(),
        }),
        http_response: Some(pb::check_response::HttpResponse::OkResponse(instructions)),
        dynamic_metadata: granted.route.as_ref().map(|route| {
            let user = granted
                .principal
                .as_ref()
                .map(|principal| principal.user_id.as_str());
            metadata(&route.settings.id, user)
        }),
    }
}

fn metadata(route: &str, user: Option<&str>) -> pb::Struct {
    use pb::value::Kind;
    let field = |key: &str, kind| pb::Field {
        key: key.to_owned(),
        value: Some(pb::Value { kind: Some(kind) }),
    };
    let mut fields = vec![
        field("route_id", Kind::StringValue(route.to_owned())),
        field("is_mcp", Kind::BoolValue(false)),
    ];
    fields.extend(user.map(|user| field("user_id", Kind::StringValue(user.to_owned()))));
    pb::Struct {
        fields: vec![field(METADATA, Kind::StructValue(pb::Struct { fields }))],
    }
}

/// The answer that our own proxy would give the client, for Envoy to give.
async fn refused(reply: Reply) -> CheckResponse {
    let (parts, body) = reply.into_parts();
    let own = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
    let mut headers = Vec::with_capacity(parts.headers.keys_len());
    for name in parts.headers.keys().filter(|name| !own.contains(name)) {
        instructions::set(&mut headers, name, &parts.headers);
    }
    // Our own pages, which are all here. Without them a denial is still one.
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    denied(parts.status, headers, body)
}

fn denied(status: StatusCode, headers: Vec<pb::HeaderValueOption>, body: Bytes) -> CheckResponse {
    CheckResponse {
        status: Some(pb::Status {
            code: DENIED,
            message: "Access Denied".to_owned(),
        }),
        http_response: Some(pb::check_response::HttpResponse::DeniedResponse(
            DeniedHttpResponse {
                status: Some(HttpStatus {
                    code: i32::from(status.as_u16()),
                }),
                headers,
                body,
            },
        )),
        dynamic_metadata: None,
    }
}

/// A question about an HTTP request.
struct Asked {
    source: Peer,
    http: HttpRequest,
    /// `header_map` in the form of `headers`.
    mapped: Vec<Entry>,
    extensions: Vec<Entry>,
}

impl Asked {
    fn of(message: CheckRequest) -> Option<Self> {
        let attributes = message.attributes?;
        let mut http = attributes.request?.http?;
        let mapped = http.header_map.take().map_or(Vec::new(), |map| {
            let entry = |header: pb::HeaderValue| Entry {
                key: header.key,
                value: if header.raw_value.is_empty() {
                    header.value
                } else {
                    header.raw_value
                },
            };
            map.headers.into_iter().map(entry).collect()
        });
        Some(Self {
            source: attributes.source?,
            http,
            mapped,
            extensions: attributes.context_extensions,
        })
    }

    /// The client's headers, pseudo-headers among them.
    fn headers(&self) -> &[Entry] {
        if self.mapped.is_empty() {
            &self.http.headers
        } else {
            &self.mapped
        }
    }

    fn extension(&self, name: &str) -> Option<&[u8]> {
        let mut named = self
            .extensions
            .iter()
            .filter(|entry| entry.key == name.as_bytes());
        named.next().map(|entry| &*entry.value)
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
        if !self.mapped.is_empty() && !self.http.headers.is_empty() {
            return Err(refused("headers are told twice"));
        }
        let line = Reported {
            method: &self.http.method,
            scheme: &self.http.scheme,
            host: &self.http.host,
            target: &self.http.path,
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
                HeaderName::from_bytes(&entry.key).map_err(|_| refused("a header name is not valid"))?;
            let value = HeaderValue::from_maybe_shared(entry.value.clone())
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
        match self.source.address.as_ref()?.address.as_ref()? {
            pb::address::Address::SocketAddress(socket) => socket.address.parse().ok(),
            pb::address::Address::Pipe(_) => None,
        }
    }

    /// The certificate that the client has shown to Envoy. One that cannot be read is none.
    fn certificate(&self, snapshot: &Snapshot) -> Option<Arc<ClientTls>> {
        let clients = snapshot.clients.as_ref()?;
        let told = &self.source.certificate;
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
fn agrees(entry: &Entry, line: &Reported<'_>) -> bool {
    let told = match &*entry.key {
        b":method" => line.method,
        b":path" => line.target,
        b":authority" => line.host,
        b":scheme" => line.scheme,
        _ => return true,
    };
    entry.value == told
}
