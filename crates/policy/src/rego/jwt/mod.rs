//! `io.jwt.*`: tokens that requests carry, read and verified. Nothing is signed here.
//!
//! `algorithm` has what a token may be signed with and `keys` the forms of keys. What cannot be read is undefined, as
//! with every built-in function; a signature that does not hold is false.

mod algorithm;
mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regorus::Value;
use serde_json::{Map, Value as Json};

use self::algorithm::Algorithm;
use super::digests::hex;
use super::functions::{Context, Ours, Pure};
use super::value::{object, of_json};

/// Longest token, in bytes.
const LONGEST: usize = 64 * 1024;

pub(super) const FUNCTIONS: &[Pure] = &[
    ("io.jwt.decode", 1, decode),
    ("io.jwt.verify_hs256", 2, |given| verify(Algorithm::Hs256, given)),
    ("io.jwt.verify_hs384", 2, |given| verify(Algorithm::Hs384, given)),
    ("io.jwt.verify_hs512", 2, |given| verify(Algorithm::Hs512, given)),
    ("io.jwt.verify_rs256", 2, |given| verify(Algorithm::Rs256, given)),
    ("io.jwt.verify_rs384", 2, |given| verify(Algorithm::Rs384, given)),
    ("io.jwt.verify_rs512", 2, |given| verify(Algorithm::Rs512, given)),
    ("io.jwt.verify_ps256", 2, |given| verify(Algorithm::Ps256, given)),
    ("io.jwt.verify_ps384", 2, |given| verify(Algorithm::Ps384, given)),
    ("io.jwt.verify_ps512", 2, |given| verify(Algorithm::Ps512, given)),
    ("io.jwt.verify_es256", 2, |given| verify(Algorithm::Es256, given)),
    ("io.jwt.verify_es384", 2, |given| verify(Algorithm::Es384, given)),
    ("io.jwt.verify_es512", 2, |given| verify(Algorithm::Es512, given)),
    ("io.jwt.verify_eddsa", 2, |given| verify(Algorithm::EdDsa, given)),
];

/// Looks at the moment of the request.
pub(super) const DECODE_VERIFY: Ours = ("io.jwt.decode_verify", 2, decode_verify);

/// A compact token, taken apart; nothing in it is believed yet.
struct Token<'a> {
    header: Map<String, Json>,
    payload: Json,
    signature: Vec<u8>,
    /// What is signed.
    signed: &'a str,
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let part = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let Json::Object(header) = serde_json::from_slice(&part(header)?).ok()? else {
            return None;
        };
        Some(Self {
            header,
            payload: serde_json::from_slice(&part(payload)?).ok()?,
            signature: part(signature)?,
            signed,
        })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Json::as_str)
    }

    /// Whether a key of `keys` signed it. `None` when there is no key in them, or the token demands what is not
    /// understood here (`crit`).
    fn is_signed(&self, algorithm: Algorithm, keys: &str) -> Option<bool> {
        if self.header.contains_key("crit") {
            return None;
        }
        // The name of the function says what is accepted; a token that names another algorithm was made for another
        // check.
        let fits = self.text("alg") == Some(algorithm.name());
        let keys = keys::read(algorithm, keys, self.text("kid"))?;
        let signed = self.signed.as_bytes();
        Some(
            fits && keys
                .iter()
                .any(|key| algorithm.verifies(key, signed, &self.signature)),
        )
    }
}

fn decode(given: &[Value]) -> Value {
    let [Value::String(text)] = given else {
        return Value::Undefined;
    };
    match Token::read(text) {
        Some(token) => Value::from(vec![
            of_json(&Json::Object(token.header)),
            of_json(&token.payload),
            hex(&token.signature),
        ]),
        None => Value::Undefined,
    }
}

fn verify(algorithm: Algorithm, given: &[Value]) -> Value {
    let [Value::String(text), Value::String(keys)] = given else {
        return Value::Undefined;
    };
    let verdict = Token::read(text).and_then(|token| token.is_signed(algorithm, keys));
    verdict.map_or(Value::Undefined, Value::Bool)
}

/// What a token is held against.
#[derive(Default)]
struct Constraints<'a> {
    keys: Option<&'a str>,
    secret: Option<&'a str>,
    algorithm: Option<&'a str>,
    issuer: Option<&'a str>,
    audience: Option<&'a str>,
    /// Nanoseconds.
    time: Option<f64>,
}

impl<'a> Constraints<'a> {
    /// `None` when there is one that is not known: it must not be ignored.
    fn read(given: &'a Value) -> Option<Self> {
        let Value::Object(fields) = given else { return None };
        let mut constraints = Self::default();
        for (name, value) in fields.iter() {
            let Value::String(name) = name else { return None };
            let text = match value {
                Value::String(text) => Some(&**text),
                _ => None,
            };
            match &**name {
                "cert" => constraints.keys = Some(text?),
                "secret" => constraints.secret = Some(text?),
                "alg" => constraints.algorithm = Some(text?),
                "iss" => constraints.issuer = Some(text?),
                "aud" => constraints.audience = Some(text?),
                "time" => constraints.time = Some(nanoseconds(value)?),
                _ => return None,
            }
        }
        Some(constraints)
    }
}

/// A moment as scripts give it: a whole number, usually beyond what the engine calls a float.
#[allow(
    clippy::cast_precision_loss,
    reason = "a clock of microseconds is exact enough for dates of tokens"
)]
fn nanoseconds(value: &Value) -> Option<f64> {
    let whole = value.as_i128().ok().map(|whole| whole as f64);
    whole.or_else(|| value.as_f64().ok())
}

fn decode_verify(context: &Context, given: &[Value]) -> Value {
    let [Value::String(text), constraints] = given else {
        return Value::Undefined;
    };
    let (Some(token), Some(constraints)) = (Token::read(text), Constraints::read(constraints)) else {
        return Value::Undefined;
    };
    match holds(&token, &constraints, context.now) {
        None => Value::Undefined,
        Some(false) => Value::from(vec![Value::Bool(false), object([]), object([])]),
        Some(true) => Value::from(vec![
            Value::Bool(true),
            of_json(&Json::Object(token.header)),
            of_json(&token.payload),
        ]),
    }
}

/// `None` when it cannot be said.
fn holds(token: &Token<'_>, constraints: &Constraints<'_>, now: jiff::Timestamp) -> Option<bool> {
    let named = token.text("alg")?;
    let Some(algorithm) = Algorithm::named(named) else {
        return Some(false);
    };
    let keys = match (constraints.keys, constraints.secret) {
        (Some(keys), None) if !algorithm.is_symmetric() => keys,
        (None, Some(secret)) if algorithm.is_symmetric() => secret,
        // A public key is no secret: it must never serve as one.
        (Some(_), None) | (None, Some(_)) => return Some(false),
        _ => return None,
    };
    if constraints.algorithm.is_some_and(|wanted| wanted != named) {
        return Some(false);
    }
    if !token.is_signed(algorithm, keys)? {
        return Some(false);
    }
    let Json::Object(payload) = &token.payload else {
        return Some(false);
    };
    let issuer = payload.get("iss").and_then(Json::as_str);
    if constraints.issuer.is_some_and(|wanted| issuer != Some(wanted)) {
        return Some(false);
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "a clock of microseconds is exact enough for dates of tokens"
    )]
    let now = constraints.time.unwrap_or(now.as_nanosecond() as f64) / 1e9;
    Some(dates_hold(payload, now) && audience_holds(payload.get("aud"), constraints.audience))
}

/// A date that is none does not hold.
fn dates_hold(payload: &Map<String, Json>, now: f64) -> bool {
    let date = |name: &str| payload.get(name).map(Json::as_f64);
    let ended = match date("exp") {
        None => false,
        Some(end) => end.is_none_or(|end| now >= end),
    };
    let early = match date("nbf") {
        None => false,
        Some(start) => start.is_none_or(|start| now < start),
    };
    !ended && !early
}

/// A token that is for somebody counts only for whoever says who they are.
fn audience_holds(given: Option<&Json>, wanted: Option<&str>) -> bool {
    match (given, wanted) {
        (None, None) => true,
        (Some(Json::String(given)), Some(wanted)) => given == wanted,
        (Some(Json::Array(given)), Some(wanted)) => given.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}
