//! What a browser posts after a ceremony: the JSON of a public key credential (spec authentication.md 16.1).
//! Read here, believed nowhere: what it says is checked in `ceremony`.

use pomerium_crypto::encoding::base64url_decode;
use serde::Deserialize;

/// Longest id of a key, bytes (Web Authentication, `credentialId`).
const MAX_ID: usize = 1023;

/// An answer, read.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// As it was posted; kept in the records.
    pub(crate) text: String,
    /// Id of the key.
    pub(crate) key_id: Vec<u8>,
    /// `platform` or `cross-platform`, as the browser says.
    pub(crate) attachment: Option<String>,
    pub(crate) client: ClientData,
    /// What the device signed a hash of.
    pub(crate) client_json: Vec<u8>,
    /// With a new key.
    pub(crate) attestation_object: Vec<u8>,
    /// With the use of a key.
    pub(crate) authenticator_data: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) user_handle: Vec<u8>,
}

/// What the browser says about the page that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientData {
    pub(crate) kind: String,
    pub(crate) challenge: Vec<u8>,
    pub(crate) origin: String,
    /// Whether the page was framed by one of another site.
    pub(crate) framed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    r#type: String,
    raw_id: String,
    response: WireResponse,
    authenticator_attachment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireResponse {
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    #[serde(default)]
    attestation_object: String,
    #[serde(default)]
    authenticator_data: String,
    #[serde(default)]
    signature: String,
    user_handle: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireClient {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    top_origin: Option<String>,
}

impl Answer {
    /// Reads an answer; `None` when it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_str(text).ok()?;
        let key_id = bytes(&wire.raw_id)?;
        if wire.r#type != "public-key" || key_id.is_empty() || key_id.len() > MAX_ID {
            return None;
        }
        let client_json = bytes(&wire.response.client_data_json)?;
        Some(Self {
            text: text.to_owned(),
            key_id,
            attachment: wire.authenticator_attachment,
            client: ClientData::read(&client_json)?,
            client_json,
            attestation_object: bytes(&wire.response.attestation_object)?,
            authenticator_data: bytes(&wire.response.authenticator_data)?,
            signature: bytes(&wire.response.signature)?,
            user_handle: bytes(wire.response.user_handle.as_deref().unwrap_or_default())?,
        })
    }
}

impl ClientData {
    fn read(json: &[u8]) -> Option<Self> {
        let wire: WireClient = serde_json::from_slice(json).ok()?;
        Some(Self {
            kind: wire.r#type,
            challenge: bytes(&wire.challenge)?,
            origin: wire.origin,
            framed: wire.cross_origin || wire.top_origin.is_some(),
        })
    }
}

/// Base64url; padding is what some browsers' own JSON form has.
fn bytes(text: &str) -> Option<Vec<u8>> {
    base64url_decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use pomerium_crypto::encoding::base64url_encode;
    use serde_json::{Value, json};

    use super::*;

    fn answer(client: &Value) -> Value {
        json!({
            "id": "AQID", "rawId": "AQID", "type": "public-key", "authenticatorAttachment": "platform",
            "clientExtensionResults": { "credProps": { "rk": true } },
            "response": {
                "clientDataJSON": base64url_encode(client.to_string().as_bytes()),
                "attestationObject": "oA", "transports": ["internal", "hybrid", "of-tomorrow"],
            },
        })
    }

    #[test]
    fn an_answer_is_read_whatever_else_it_says() {
        let client = json!({ "type": "webauthn.create", "challenge": "AAEC", "origin": "https://app.example.com", "other": 1 });
        let read = Answer::read(&answer(&client).to_string()).unwrap();
        assert_eq!(read.key_id, [1, 2, 3]);
        assert_eq!(read.attestation_object, [0xa0]);
        assert_eq!(
            read.client,
            ClientData {
                kind: "webauthn.create".into(),
                challenge: vec![0, 1, 2],
                origin: "https://app.example.com".into(),
                framed: false,
            }
        );
        let mut framed = client.clone();
        framed["crossOrigin"] = true.into();
        assert!(Answer::read(&answer(&framed).to_string()).unwrap().client.framed);
        let mut framed = client;
        framed["topOrigin"] = "https://evil.example".into();
        assert!(Answer::read(&answer(&framed).to_string()).unwrap().client.framed);
    }

    #[test]
    fn what_is_no_answer_is_not_read() {
        let client =
            json!({ "type": "webauthn.create", "challenge": "AAEC", "origin": "https://app.example.com" });
        let changes: [fn(&mut Value); 7] = [
            |answer| answer["type"] = "password".into(),
            |answer| answer["rawId"] = "".into(),
            |answer| answer["rawId"] = "***".into(),
            |answer| answer["rawId"] = "A".repeat(2_000).into(),
            |answer| answer["response"]["clientDataJSON"] = "oA".into(),
            |answer| answer["response"]["attestationObject"] = "~".into(),
            |answer| answer["response"] = Value::Null,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut changed = answer(&client);
            change(&mut changed);
            assert!(Answer::read(&changed.to_string()).is_none(), "change {at}");
        }
        for text in ["", "null", "[]", "{}"] {
            assert!(Answer::read(text).is_none(), "{text}");
        }
    }
}
