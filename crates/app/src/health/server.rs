//! The health listener: `/status`, `/startupz`, `/readyz`, `/healthz` (spec databroker.md 16.3). It is a
//! listener of its own, so that no decision on the main one depends on who asks.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;

use super::{Health, Probe};
use crate::telemetry::http::{Answer, text};

/// Answers one request of the health listener.
pub fn answer(health: &Arc<Health>, method: &Method, path: &str) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    match path {
        "/status" => status(health),
        "/startupz" => probe(health, Probe::Startup),
        "/readyz" => probe(health, Probe::Ready),
        "/healthz" => probe(health, Probe::Live),
        _ => text(
            StatusCode::NOT_FOUND,
            "ask for /status, /startupz, /readyz or /healthz\n",
        ),
    }
}

fn probe(health: &Health, probe: Probe) -> Answer {
    let code = if health.passes(probe) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_answer(code, &json!(health.required()))
}

fn status(health: &Health) -> Answer {
    json_answer(
        StatusCode::OK,
        &json!({ "statuses": health.reported(), "checks": health.expected() }),
    )
}

fn json_answer(code: StatusCode, value: &serde_json::Value) -> Answer {
    let mut answer = text(code, &format!("{value:#}\n"));
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json; charset=utf-8"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unready_process_answers_503_and_names_what_is_missing() {
        let health = Arc::new(Health::new(pomerium_config::settings::Services::ALL));
        let answer = answer(&health, &Method::GET, "/readyz");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = String::from_utf8(answer.body().to_vec()).unwrap();
        assert!(
            body.contains("expected ':proxy.service' to have been reported on"),
            "{body}"
        );
    }

    #[test]
    fn only_reading_methods_are_answered() {
        let health = Arc::new(Health::new(pomerium_config::settings::Services::ALL));
        assert_eq!(
            answer(&health, &Method::POST, "/status").status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            answer(&health, &Method::GET, "/debug/pprof").status(),
            StatusCode::NOT_FOUND
        );
    }
}
