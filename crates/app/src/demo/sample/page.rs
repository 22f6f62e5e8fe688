//! The page of the sample application.

use askama::Template;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;

use super::Visitor;

/// Where the style sheet is.
pub const STYLE_PATH: &str = "/sample.css";
/// Where the script is.
pub const SCRIPT_PATH: &str = "/sample.js";

const STYLE: &str = include_str!("../../../templates/sample.css");
const SCRIPT: &str = include_str!("../../../templates/sample.js");
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A header value longer than this is cut on the page.
const VALUE_LIMIT: usize = 160;

#[derive(Template)]
#[template(path = "sample.html")]
struct Page<'a> {
    host: &'a str,
    name: String,
    claims: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    visitor: &'a Visitor,
    websocket: bool,
    style: &'a str,
    script: &'a str,
}

/// The page for a visitor.
pub fn page(request: &Request<Incoming>, visitor: &Visitor) -> Response<Full<Bytes>> {
    let host = super::host(request.headers());
    let page = Page {
        host,
        name: name(visitor),
        claims: claims(visitor),
        headers: shown_headers(request),
        visitor,
        websocket: host.starts_with("ws."),
        style: STYLE_PATH,
        script: SCRIPT_PATH,
    };
    match page.render() {
        Ok(html) => typed("text/html; charset=utf-8", html),
        Err(error) => {
            tracing::error!(%error, "the sample page could not be written");
            super::plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the page could not be written; see the log\n",
            )
        }
    }
}

/// The style sheet.
pub fn style() -> Response<Full<Bytes>> {
    typed("text/css; charset=utf-8", STYLE)
}

/// The script of the live connection.
pub fn script() -> Response<Full<Bytes>> {
    typed("text/javascript; charset=utf-8", SCRIPT)
}

fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn name(visitor: &Visitor) -> String {
    let Visitor::Verified(claims) = visitor else {
        return String::new();
    };
    let names = ["name", "email", "sub"]
        .iter()
        .filter_map(|key| claims.get(*key)?.as_str());
    names
        .filter(|name| !name.is_empty())
        .map(ToOwned::to_owned)
        .next()
        .unwrap_or_else(|| "you".to_owned())
}

fn claims(visitor: &Visitor) -> Vec<(String, String)> {
    let Visitor::Verified(claims) = visitor else {
        return Vec::new();
    };
    claims
        .iter()
        .map(|(key, value)| (key.clone(), readable(value)))
        .collect()
}

fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(readable).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn shown_headers(request: &Request<Incoming>) -> Vec<(String, String)> {
    let headers = request.headers().iter();
    headers
        .map(|(name, value)| (name.to_string(), cut(&String::from_utf8_lossy(value.as_bytes()))))
        .collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= VALUE_LIMIT {
        return text.to_owned();
    }
    text.chars().take(VALUE_LIMIT).chain(['…']).collect()
}
