//! One request to one of our endpoints, read once: what endpoints look at instead of raw HTTP.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use jiff::Timestamp;
use pomerium_authorize::Principal;
use pomerium_config::settings::RouteSettings;
use pomerium_crypto::query::Query;
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::{Body, cookies};

/// Largest form that is read, bytes.
const MAX_FORM: usize = 64 * 1024;

/// What the data plane knows about a request beside the request itself.
#[derive(Clone, Default)]
pub struct RequestContext {
    /// The route that answers to the host (and path, where it matters); absent on the authenticate host.
    pub route: Option<Arc<RouteSettings>>,
    /// Who asks, by the session of this host.
    pub principal: Option<Arc<Principal>>,
    /// The identity assertion an upstream would be sent.
    pub assertion: Option<http::HeaderValue>,
}

/// A request, read.
#[derive(Clone)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Headers, cleaned.
    pub headers: HeaderMap,
    /// The request as the whole program sees it.
    pub canonical: Arc<CanonicalRequest>,
    /// `host[:port]`; the public one when the internal authenticate host was addressed.
    pub authority: String,
    /// Parameters of the query.
    pub query: Query,
    /// Body of a POST; empty otherwise.
    pub body: Bytes,
    /// Parameters of a form body.
    pub form: Query,
    /// When the request came.
    pub now: Timestamp,
    /// What the data plane knows.
    pub context: RequestContext,
}

/// Why a request cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// More than is read.
    #[error("the form is too large")]
    TooLarge,
    /// The connection failed in the middle.
    #[error("the body broke off")]
    BrokeOff,
}

impl Call {
    /// Reads a request; the body only of a POST, up to 64 KiB. An error comes with the headers, which say in
    /// what form it is to be told.
    pub async fn read(
        request: http::Request<Body>,
        canonical: Arc<CanonicalRequest>,
        context: RequestContext,
        now: Timestamp,
    ) -> Result<Self, (ReadError, HeaderMap)> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        let body = if parts.method == Method::POST {
            match read_body(body).await {
                Ok(body) => body,
                Err(error) => return Err((error, headers)),
            }
        } else {
            Bytes::new()
        };
        let form = if is_form(&headers) {
            Query::parse(&String::from_utf8_lossy(&body))
        } else {
            Query::new()
        };
        Ok(Self {
            method: canonical.method.clone(),
            headers,
            authority: canonical.authority.as_str().to_owned(),
            query: Query::parse(canonical.query.as_deref().unwrap_or_default()),
            canonical,
            body,
            form,
            now,
            context,
        })
    }

    /// Path, escaped.
    pub fn path(&self) -> &str {
        &self.canonical.path
    }

    /// Unix seconds.
    pub fn unix(&self) -> i64 {
        self.now.as_second()
    }

    /// The absolute URL as signatures see it: https, authority, path, query as sent.
    pub fn url(&self) -> String {
        format!("https://{}{}", self.authority, self.canonical.path_and_query())
    }

    /// The first cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookies::get(&self.headers, name)
    }

    /// A parameter that must not be repeated: `Err` when it is, or when the query cannot be read.
    pub fn single(&self, name: &str) -> Result<Option<&str>, crate::Error> {
        if self.query.is_malformed() || self.query.count(name) > 1 {
            return Err(crate::Error::BadRequest(
                "a parameter is repeated or cannot be read",
            ));
        }
        Ok(self.query.get(name))
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next()).unwrap_or_default();
    kind.trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads by hand: the library's limiting wrapper makes a future that is not known to be `Send`.
async fn read_body(mut body: Body) -> Result<Bytes, ReadError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::BrokeOff)?.into_data() else {
            continue;
        };
        if read.len() + data.len() > MAX_FORM {
            return Err(ReadError::TooLarge);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}
