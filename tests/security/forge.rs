//! Support: tokens and links made with the keys of the environment, as only someone who has them could, so that
//! a test shows which check refuses them.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pomerium_crypto::mac;
use pomerium_testing::{Client, Environment};
use serde_json::{Value, json};

/// A key of the configuration: `shared_secret`, `cookie_secret`.
pub fn key(env: &Environment, name: &str) -> Result<[u8; 32]> {
    let text = env.config()[name].as_str().context("no such secret")?;
    STANDARD
        .decode(text)?
        .try_into()
        .ok()
        .context("a key has 32 bytes")
}

/// A JWT with this header and payload, and an HMAC-SHA-256 of them as signature, whatever the header says.
pub fn hmac_jwt(key: &[u8], header: &Value, payload: &Value) -> String {
    let text = format!("{}.{}", part(header), part(payload));
    let signature = mac::hmac_sha256(key, text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A part of a JWT.
pub fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The header of our own tokens.
pub fn hs256() -> Value {
    json!({ "alg": "HS256", "typ": "JWT" })
}

/// Seconds since the epoch.
#[allow(clippy::disallowed_methods, reason = "links for a process with a real clock")]
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// `text` with every byte percent-encoded.
pub fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Follows redirects by hand, as a browser, until one leads to a path that `stop` likes; that URL is not visited.
pub async fn walk_to(client: &Client, from: &str, stop: impl Fn(&str) -> bool) -> Result<String> {
    let mut url = from.to_owned();
    for _ in 0..12 {
        let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
        let next = reply
            .location()
            .with_context(|| format!("{url} leads nowhere: {}", reply.status))?;
        if stop(next.path()) {
            return Ok(next.to_string());
        }
        next.as_str().clone_into(&mut url);
    }
    anyhow::bail!("{from} never came there")
}
