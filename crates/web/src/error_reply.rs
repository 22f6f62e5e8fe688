//! The one place that turns a [`Problem`] into a response, in the form the client can read
//! (policy.md 9, proxy.md 7, authentication.md 18).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{
    body::{self, Response},
    negotiate::{self, ClientKind},
    pages::{self, Frame},
    problem::{Origin, Problem},
};

/// The reply to a problem. Never cached; always marked as ours.
pub fn reply(kind: ClientKind, problem: &Problem, frame: &Frame<'_>) -> Response {
    let mut response = match (kind, &problem.origin) {
        (ClientKind::Html, _) => pages::error(problem, frame),
        (ClientKind::RobotsTxt, _) => body::response(StatusCode::OK, "text/plain", ROBOTS),
        (ClientKind::Kubernetes, _) => {
            json_response(problem, &kubernetes_status(problem), "application/json")
        }
        (ClientKind::Grpc, Origin::Proxy { flag, .. }) => {
            let message = json_body(problem, frame.request_id);
            grpc(StatusCode::OK, "application/grpc", code_of_flag(flag), &message)
        }
        (ClientKind::Grpc, _) => decided_grpc(problem, "application/grpc+json"),
        (ClientKind::GrpcWeb, _) => decided_grpc(problem, "application/grpc-web+json"),
        (ClientKind::Plain, _) => json_response(
            problem,
            &json_body(problem, frame.request_id),
            "text/plain; charset=UTF-8",
        ),
        (ClientKind::Json, Origin::Proxy { .. }) => json_response(
            problem,
            &json_body(problem, frame.request_id),
            "application/json; charset=UTF-8",
        ),
        (ClientKind::Json, _) => {
            json_response(problem, &json_body(problem, frame.request_id), "application/json")
        }
    };
    finish(response.headers_mut(), problem);
    response
}

/// The reply of a page or API of ours: JSON for whoever asks for exactly that, else a page.
pub fn reply_to_handler(headers: &HeaderMap, problem: &Problem, frame: &Frame<'_>) -> Response {
    let json = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept == "application/json");
    reply(
        if json { ClientKind::Json } else { ClientKind::Html },
        problem,
        frame,
    )
}

/// The reply of the data plane, when it could not serve a request (proxy.md 7).
pub fn reply_locally(headers: &HeaderMap, problem: &Problem, frame: &Frame<'_>) -> Response {
    reply(negotiate::wants_local_reply(headers), problem, frame)
}

/// Sends the client elsewhere; never cached. An address that cannot stand in a header becomes a 500.
pub fn redirect(status: StatusCode, location: &str) -> Response {
    let Ok(value) = HeaderValue::from_str(location) else {
        return body::response(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=UTF-8",
            "Internal error\n",
        );
    };
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(INTERCEPTED, HeaderValue::from_static("true"));
    response
}

/// Marks a response as made by us, not by the application.
pub const INTERCEPTED: &str = "x-pomerium-intercepted-response";

/// What crawlers get where they may not look.
pub const ROBOTS: &str = "User-agent: *\nDisallow: /";

fn finish(headers: &mut HeaderMap, problem: &Problem) {
    headers.insert(INTERCEPTED, HeaderValue::from_static("true"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

fn json_response(problem: &Problem, body: &str, content_type: &'static str) -> Response {
    body::response(problem.status_code(), content_type, body.to_owned())
}

/// Three shapes, because three parts of the original answer differently and programs read all of them.
fn json_body(problem: &Problem, request_id: &str) -> String {
    match &problem.origin {
        Origin::Proxy { details, .. } => pretty(&json!({
            "requestId": request_id,
            "status": problem.status.to_string(),
            "statusText": details,
        })),
        Origin::Decision => {
            let mut value = json!({"error": problem.reason, "request_id": request_id, "code": problem.code});
            if let Some(url) = &problem.login_url {
                value["login_url"] = json!(url);
            }
            if !problem.traces.is_empty() {
                value["policy_evaluation_traces"] = json!(problem.traces);
            }
            value.to_string()
        }
        Origin::Handler => {
            let mut value = json!({"Status": problem.status, "description": problem.what});
            if !request_id.is_empty() {
                value["RequestID"] = json!(request_id);
            }
            value.to_string()
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn kubernetes_status(problem: &Problem) -> String {
    let reason = match problem.status {
        401 | 450 | 495 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        _ => "",
    };
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "message": problem.reason,
        "reason": reason,
        "code": problem.status,
    })
    .to_string()
}

fn decided_grpc(problem: &Problem, content_type: &'static str) -> Response {
    grpc(
        problem.status_code(),
        content_type,
        code_of_status(problem.status),
        &problem.reason,
    )
}

/// Trailers only: status and message stand in the headers, the body is empty.
fn grpc(status: StatusCode, content_type: &'static str, code: u8, message: &str) -> Response {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if let Ok(message) = HeaderValue::try_from(grpc_message(message)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// The escapes of the gRPC protocol: everything but printable ASCII, and `%`.
fn grpc_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, 0x20..=0x7e) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// policy.md 9.
fn code_of_status(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// proxy.md 7.
fn code_of_flag(flag: &str) -> u8 {
    match flag {
        "NR" => 5,
        "IH" => 3,
        "DT" | "SI" | "UMSDR" | "UT" => 4,
        "LR" | "OM" | "UC" | "UR" => 1,
        "RLSE" | "UPE" => 13,
        "RL" => 8,
        "DPE" | "RFCF" => 2,
        _ => 14,
    }
}

#[cfg(test)]
mod tests;
