//! `/.well-known/pomerium`: what an upstream needs to verify the assertion (spec authentication.md 14).

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Method, StatusCode};
use pomerium_config::settings::Secret;
use pomerium_crypto::jwt::SigningKey;
use pomerium_web::{Response, body};
use serde_json::json;

use crate::call::Call;
use crate::{Authenticate, BuildError, Error, reply, service};

/// The public keys of the assertion, written once.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    body: Bytes,
    etag: HeaderValue,
}

impl Keys {
    /// Of the configured key, or of the one derived from the shared secret.
    pub(crate) fn new(pem: Option<&Secret>, shared: &[u8; 32]) -> Result<Self, BuildError> {
        let key = match pem {
            Some(pem) => SigningKey::from_pem(pem.expose())
                .map_err(|error| BuildError::SigningKey(error.to_string()))?,
            None => SigningKey::derived(shared),
        };
        let body = Bytes::from(key.jwks().to_string());
        let etag = HeaderValue::try_from(format!("\"{:x}\"", fnv1(&body)))
            .map_err(|_| BuildError::SigningKey("its ETag cannot be written".into()))?;
        Ok(Self { body, etag })
    }
}

/// FNV-1, 64 bits.
fn fnv1(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Authenticate {
    /// The document itself.
    pub(crate) fn well_known(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let origin = format!("https://{}", call.authority);
        let document = json!({
            "issuer": format!("{origin}/"),
            "authentication_callback_endpoint": self.options.authenticate_url("/oauth2/callback"),
            "jwks_uri": format!("{origin}/.well-known/pomerium/jwks.json"),
            "frontchannel_logout_uri": format!("{origin}/.pomerium/sign_out"),
        });
        let mut response = body::response(StatusCode::OK, "application/json", document.to_string());
        response
            .headers_mut()
            .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        reply::no_sniff(&mut response);
        Ok(response)
    }

    /// The keys; cheap to ask for again.
    pub(crate) fn jwks(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let known = call.headers.get(IF_NONE_MATCH).is_some_and(|value| {
            value.to_str().is_ok_and(|list| {
                list.split(',')
                    .any(|tag| tag.trim().trim_start_matches("W/") == self.keys.etag || tag.trim() == "*")
            })
        });
        let (status, bytes) = if known {
            (StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            (StatusCode::OK, self.keys.body.clone())
        };
        let mut response = body::response(status, "application/json", bytes);
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        headers.insert(ETAG, self.keys.etag.clone());
        reply::no_sniff(&mut response);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::fnv1;

    /// Values of the reference implementation.
    #[test]
    fn fnv_1() {
        assert_eq!(fnv1(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1(b"a"), 0xaf63_bd4c_8601_b7be);
        assert_eq!(fnv1(b"foobar"), 0x340d_8765_a4dd_a9c2);
    }
}
