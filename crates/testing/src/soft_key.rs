//! A device key in software: answers what a page asks of a device, truthfully or not.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Somebody touched the device, and the device knows its owner.
pub const PRESENT_AND_VERIFIED: u8 = 0b101;
const NEW_KEY: u8 = 0b100_0000;

/// A key that signs like a device.
#[derive(Debug)]
pub struct SoftKey {
    pair: KeyPair,
    /// Id of the key.
    pub id: Vec<u8>,
}

/// What an answer says beside what it was asked.
#[derive(Debug, Clone)]
pub struct Answering {
    /// Origin of the page.
    pub origin: String,
    /// The domain the key belongs to; what the page asked for when absent.
    pub rp_id: Option<String>,
    /// What happened: see [`PRESENT_AND_VERIFIED`].
    pub flags: u8,
    /// The act: what fits when absent.
    pub act: Option<&'static str>,
    /// Whether another site framed the page.
    pub framed: bool,
    /// Who the device thinks it belongs to, bytes.
    pub user_handle: Vec<u8>,
}

impl Answering {
    /// The truth, for a page at `origin`.
    pub fn at(origin: &str) -> Answering {
        Answering {
            origin: origin.into(),
            rp_id: None,
            flags: PRESENT_AND_VERIFIED,
            act: None,
            framed: false,
            user_handle: Vec::new(),
        }
    }
}

impl SoftKey {
    /// A new key; `id` is its name.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(id: &[u8]) -> Result<SoftKey> {
        Ok(SoftKey {
            pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            id: id.to_vec(),
        })
    }

    /// The answer to a page that asks for a new key.
    ///
    /// # Errors
    /// The options are none.
    pub fn create(&self, options: &Value, how: &Answering) -> Result<Value> {
        let asked = options["rp"]["id"].as_str().context("no rp id")?;
        let client = client_data(options, how, "webauthn.create")?;
        let mut data = authenticator_data(asked, how, NEW_KEY);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&u16::try_from(self.id.len())?.to_be_bytes());
        data.extend_from_slice(&self.id);
        data.extend_from_slice(&self.public_key()?);
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData".to_vec();
        object.push(0x59);
        object.extend_from_slice(&u16::try_from(data.len())?.to_be_bytes());
        object.extend_from_slice(&data);
        Ok(self.answer(&json!({
            "clientDataJSON": text(client.as_bytes()),
            "attestationObject": text(&object),
        })))
    }

    /// The answer to a page that asks for a key it knows.
    ///
    /// # Errors
    /// The options are none.
    pub fn get(&self, options: &Value, how: &Answering) -> Result<Value> {
        let asked = options["rpId"].as_str().context("no rp id")?;
        let client = client_data(options, how, "webauthn.get")?;
        let data = authenticator_data(asked, how, 0);
        let signed = [&data[..], &Sha256::digest(client.as_bytes())[..]].concat();
        Ok(self.answer(&json!({
            "clientDataJSON": text(client.as_bytes()),
            "authenticatorData": text(&data),
            "signature": text(&self.pair.sign(&signed)?),
            "userHandle": text(&how.user_handle),
        })))
    }

    fn answer(&self, response: &Value) -> Value {
        json!({ "id": text(&self.id), "rawId": text(&self.id), "type": "public-key", "response": response })
    }

    /// COSE, as devices write it.
    fn public_key(&self) -> Result<Vec<u8>> {
        let point = self.pair.der_bytes();
        let (x, y) = point
            .get(1..)
            .and_then(|both| both.split_at_checked(32))
            .context("not a point")?;
        let mut key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        key.extend_from_slice(x);
        key.extend_from_slice(&[0x22, 0x58, 0x20]);
        key.extend_from_slice(y);
        Ok(key)
    }
}

fn client_data(options: &Value, how: &Answering, act: &str) -> Result<String> {
    let challenge = options["challenge"].as_str().context("no challenge")?;
    let act = how.act.unwrap_or(act);
    Ok(json!({
        "type": act, "challenge": challenge, "origin": how.origin, "crossOrigin": how.framed,
    })
    .to_string())
}

fn authenticator_data(asked: &str, how: &Answering, more: u8) -> Vec<u8> {
    let domain = how.rp_id.as_deref().unwrap_or(asked);
    let mut data = Sha256::digest(domain.as_bytes()).to_vec();
    data.push(how.flags | more);
    data.extend_from_slice(&[0; 4]);
    data
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
