//! Renewal information (RFC 9773) in front of a [`Pebble`] that is too old to give it. Everything else is passed on.

use std::sync::Arc;

use anyhow::Result;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::serve::{Body, Server, full, serve};
use crate::{Authority, Pebble};

/// A window in the past and one far ahead.
const PAST: (&str, &str) = ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
const FAR: (&str, &str) = ("2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z");

/// An authority that wants the first certificate it is asked about renewed at once, and no other.
#[derive(Debug)]
pub struct RenewalWindow {
    server: Server,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// `https://host:port` behind it.
    behind: String,
    client: reqwest::Client,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first: Option<String>,
    replaced: Vec<String>,
}

impl RenewalWindow {
    /// In front of `pebble`; its listener's certificate is signed by `authority`.
    ///
    /// # Errors
    /// No port.
    pub async fn start(pebble: &Pebble, authority: &Authority) -> Result<RenewalWindow> {
        let trusted = reqwest::Certificate::from_pem(pebble.authority_pem().as_bytes())?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tls_certs_only([trusted])
            .build()?;
        let state = Arc::new(State {
            behind: pebble.directory().trim_end_matches("/dir").to_owned(),
            client,
            seen: Mutex::default(),
        });
        let leaf = authority.issue(&["127.0.0.1"])?;
        let server = serve(Some(leaf.server_config(&["http/1.1"])?), {
            let state = Arc::clone(&state);
            move |request| {
                let state = Arc::clone(&state);
                async move {
                    state.answer(request).await.unwrap_or_else(|error| {
                        Response::builder()
                            .status(502)
                            .body(full(error.to_string()))
                            .unwrap()
                    })
                }
            }
        })
        .await?;
        Ok(RenewalWindow { server, state })
    }

    /// The address of the directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.server.address)
    }

    /// The certificate that was asked about first.
    pub fn first(&self) -> Option<String> {
        self.state.seen.lock().first.clone()
    }

    /// The certificates that orders said they replace, as far as the orders were taken.
    pub fn replaced(&self) -> Vec<String> {
        self.state.seen.lock().replaced.clone()
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = parts.uri.path().to_owned();
        if let Some(id) = path.strip_prefix("/renewal-info/") {
            return Ok(self.window(id));
        }
        let replaces = if path == "/order-plz" {
            replaced(&body)
        } else {
            None
        };
        let mut onward = self
            .client
            .request(parts.method, format!("{}{path}", self.behind))
            .body(body);
        for (name, value) in &parts.headers {
            if name != CONTENT_LENGTH {
                // The host stays: the authority builds its addresses from it, and signatures cover those.
                onward = onward.header(name, value);
            }
        }
        let answer = onward.send().await?;
        let answer_status = answer.status();
        let mut response = Response::builder().status(answer_status);
        for (name, value) in answer.headers() {
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                response = response.header(name, value);
            }
        }
        let mut text = answer.bytes().await?;
        if path == "/dir" {
            let host = parts
                .headers
                .get(HOST)
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default();
            text = with(&text, "renewalInfo", format!("https://{host}/renewal-info"))?;
        }
        // A request that was refused, for its nonce say, is sent again and counts once.
        if let Some(id) = replaces.filter(|_| answer_status.is_success()) {
            text = with(&text, "replaces", id.clone())?;
            self.seen.lock().replaced.push(id);
        }
        Ok(response.body(full(text))?)
    }

    fn window(&self, id: &str) -> Response<Body> {
        let mut seen = self.seen.lock();
        let first = seen.first.get_or_insert_with(|| id.to_owned());
        let (start, end) = if first == id { PAST } else { FAR };
        let window = json!({ "suggestedWindow": { "start": start, "end": end } });
        Response::builder()
            .header(CONTENT_TYPE, "application/json")
            .header(RETRY_AFTER, "3600")
            .body(full(window.to_string()))
            .unwrap()
    }
}

/// What an order says it replaces.
fn replaced(order: &[u8]) -> Option<String> {
    let order: Value = serde_json::from_slice(order).ok()?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(order["payload"].as_str()?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    payload["replaces"].as_str().map(str::to_owned)
}

fn with(text: &[u8], key: &str, value: String) -> Result<Bytes> {
    let mut object: Value = serde_json::from_slice(text)?;
    object[key] = value.into();
    Ok(object.to_string().into())
}
