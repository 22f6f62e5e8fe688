//! What an upstream received.

use serde_json::{Value, json};

/// One request as an upstream saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Method.
    pub method: String,
    /// Path with query.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// `Host`, or `:authority` on HTTP/2.
    pub host: String,
    /// Headers in order, names lower case.
    pub headers: Vec<(String, String)>,
    /// The body; empty for behaviours that answer without reading it.
    pub body: Vec<u8>,
}

impl Recorded {
    /// The first value of a header; the name is lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a header; the name is lower case.
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The echo: what the default behaviour answers.
    pub fn to_json(&self) -> Value {
        json!({
            "method": self.method,
            "target": self.target,
            "version": self.version,
            "host": self.host,
            "headers": self.headers,
            "body": String::from_utf8_lossy(&self.body),
        })
    }

    pub(super) fn from_parts(parts: &http::request::Parts, body: Vec<u8>) -> Recorded {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let host = match parts.uri.authority() {
            Some(authority) => authority.to_string(),
            None => parts.headers.get("host").map(text).unwrap_or_default(),
        };
        Recorded {
            method: parts.method.to_string(),
            target: parts
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            version: format!("{:?}", parts.version),
            host,
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body,
        }
    }
}
