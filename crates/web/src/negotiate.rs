//! Which kind of client asks, read from its headers: it decides the form of a refusal and whether a
//! redirect to a sign-in page makes sense (policy.md 8.6 and 9, proxy.md 7).

mod accept;

use http::{HeaderMap, Method, header};

use crate::{canonical::CanonicalRequest, handle};

pub use accept::Accept;

/// The form in which a client can read a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// kubectl and friends: a `Status` object.
    Kubernetes,
    /// A crawler asking for `/robots.txt`.
    RobotsTxt,
    /// A program that reads JSON.
    Json,
    /// gRPC: trailers only.
    Grpc,
    /// gRPC-web.
    GrpcWeb,
    /// Plain text.
    Plain,
    /// A person.
    Html,
}

/// How to refuse access (policy.md 9): by decision, not by failure.
pub fn wants(request: &CanonicalRequest, headers: &HeaderMap) -> ClientKind {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    if text(header::USER_AGENT).is_some_and(|agent| agent.contains("kubernetes/")) {
        return ClientKind::Kubernetes;
    }
    if request.path == "/robots.txt" {
        return ClientKind::RobotsTxt;
    }
    let accept = text(header::ACCEPT)
        .filter(|accept| !accept.is_empty())
        .map(Accept::parse);
    let prefers_json =
        |accept: &Accept<'_>| accept.most_acceptable(&["text/html", "application/json"]) == Some(1);
    if accept
        .as_ref()
        .and_then(|accept| accept.as_ref().ok())
        .is_some_and(prefers_json)
    {
        return ClientKind::Json;
    }
    match grpc_kind(headers) {
        Some(kind) => kind,
        None if is_scripted(request, headers) => ClientKind::Json,
        None => ClientKind::Html,
    }
}

/// How to report that the proxy itself could not serve the request (proxy.md 7).
pub fn wants_local_reply(headers: &HeaderMap) -> ClientKind {
    if content_type(headers).starts_with("application/grpc") {
        return ClientKind::Grpc;
    }
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    accept::first_by_quality(accept)
}

/// Whether somebody who is not signed in may be sent to a sign-in page; else the answer is 401 with the
/// address of that page in it. Ours goes beyond the original: see policy.md 0.
pub fn redirect_allowed(request: &CanonicalRequest, headers: &HeaderMap) -> bool {
    if grpc_kind(headers).is_some() || is_scripted(request, headers) {
        return false;
    }
    if handle::find_programmatic(headers, request.query.as_deref()).is_some() {
        return false;
    }
    let Some(accept) = headers.get(header::ACCEPT).filter(|value| !value.is_empty()) else {
        return true;
    };
    let Ok(accept) = accept.to_str() else { return true };
    const OFFERED: [&str; 6] = [
        "text/html",
        "application/json",
        "text/plain",
        "application/grpc-web-text",
        "application/grpc-web+proto",
        "application/grpc+proto",
    ];
    match Accept::parse(accept) {
        Ok(accept) => accept.most_acceptable(&OFFERED).is_none_or(|best| best == 0),
        Err(_) => true,
    }
}

/// A script's call, a tunnel or an upgrade: nobody would see a page.
pub fn is_scripted(request: &CanonicalRequest, headers: &HeaderMap) -> bool {
    let is = |name, wanted: &str| {
        let value: Option<&http::HeaderValue> = headers.get(name);
        value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    let fetch = headers.contains_key("sec-fetch-mode") && !is("sec-fetch-mode", "navigate");
    fetch
        || is("x-requested-with", "XMLHttpRequest")
        || request.method == Method::CONNECT
        || request.upgrade.is_some()
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

fn grpc_kind(headers: &HeaderMap) -> Option<ClientKind> {
    // `application/grpc; charset=…` is gRPC as well.
    let kind = content_type(headers)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim_end();
    if kind == "application/grpc" || kind.starts_with("application/grpc+") {
        return Some(ClientKind::Grpc);
    }
    let web = kind == "application/grpc-web-text"
        || kind == "application/grpc-web"
        || kind.starts_with("application/grpc-web+")
        || kind.starts_with("application/grpc-web-text+");
    web.then_some(ClientKind::GrpcWeb)
}

#[cfg(test)]
mod tests;
