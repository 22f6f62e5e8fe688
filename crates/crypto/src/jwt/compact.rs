//! The compact form: `header.payload.signature`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::JwtError;
use crate::encoding::{base64url_decode, base64url_encode};

/// Longest token looked at unless the caller sets a limit, in bytes.
pub const MAX_TOKEN: usize = 64 * 1024;

/// What we read of a header. Everything else in it is none of our business.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub alg: String,
    #[serde(default)]
    pub kid: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// A token taken apart, not yet checked.
pub(super) struct Parts<'a> {
    /// The header as it stands, still encoded.
    pub header: &'a str,
    /// The bytes the signature is over.
    pub signed: &'a str,
    pub payload: &'a str,
    pub signature: Vec<u8>,
}

/// Claims that a checked signature vouches for.
pub(super) struct Payload(Vec<u8>);

impl<'a> Parts<'a> {
    pub fn split(token: &'a str, max: usize) -> Result<Self, JwtError> {
        if token.len() > max {
            return Err(JwtError::TooLong(max));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        if payload.contains('.') {
            return Err(JwtError::Malformed);
        }
        let signature = base64url_decode(signature).map_err(|_| JwtError::Malformed)?;
        Ok(Self {
            header,
            signed,
            payload,
            signature,
        })
    }

    pub fn read_header(&self) -> Result<Header, JwtError> {
        let json = base64url_decode(self.header).map_err(|_| JwtError::Malformed)?;
        let header: Header = object(&json).ok_or(JwtError::Malformed)?;
        if header.crit.is_some() {
            Err(JwtError::Critical)
        } else {
            Ok(header)
        }
    }

    /// Only to be called once the signature has been checked.
    pub fn into_payload(self) -> Result<Payload, JwtError> {
        base64url_decode(self.payload)
            .map(Payload)
            .map_err(|_| JwtError::Malformed)
    }
}

impl Payload {
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, JwtError> {
        if !is_object(&self.0) {
            return Err(JwtError::Malformed);
        }
        serde_json::from_slice(&self.0).map_err(|error| {
            if error.is_data() {
                JwtError::Shape(error.to_string())
            } else {
                JwtError::Malformed
            }
        })
    }
}

/// `<base64url(header)>.<base64url(claims)>`.
///
/// # Panics
/// When the claims have no JSON form: maps with keys that are not text, or a `Serialize` that fails.
pub(super) fn signing_input<T: Serialize + ?Sized>(header: &str, claims: &T) -> String {
    let claims = serde_json::to_vec(claims).expect("claims have a JSON form");
    let mut out = String::with_capacity(header.len() + claims.len() * 4 / 3 + 96);
    out.push_str(header);
    out.push('.');
    out.push_str(&base64url_encode(&claims));
    out
}

pub(super) fn append_signature(signed: &mut String, signature: &[u8]) {
    signed.push('.');
    signed.push_str(&base64url_encode(signature));
}

fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    is_object(json)
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

/// serde reads an array into a struct too; a token must not get away with that.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}
