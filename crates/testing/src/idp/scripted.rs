//! An identity provider that follows a script: correct by default, wrong in one chosen way.
//!
//! What real providers do right is tested with [`super::OidcProvider`]; this one is for what must be
//! refused: another issuer, a bad signature, `alg: none`, a rotated key, endless answers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use crate::serve::{Body, Server, answer, full, serve};

/// How the provider behaves. The default is correct.
#[derive(Debug, Clone)]
pub struct Script {
    /// Claims of the ID token and of userinfo, on top of what the protocol asks for.
    pub claims: Value,
    /// Claims that replace the protocol's own in the ID token: `iss`, `aud`, `exp`, `nonce`.
    pub overrides: Value,
    /// `alg` of the header: `ES256`, `none`, or `HS256` signed with the public key as secret.
    pub algorithm: &'static str,
    /// Sign with a key that is not in the key set.
    pub unpublished_key: bool,
    /// `issuer` in the discovery document.
    pub discovery_issuer: Option<String>,
    /// Answer of the token endpoint instead of tokens.
    pub token_reply: Option<(u16, String)>,
    /// How long tokens last, in seconds.
    pub lifetime: u64,
    /// Whether there are refresh tokens. Each is good for one use.
    pub refresh_tokens: bool,
    /// `sub` of userinfo instead of the ID token's.
    pub userinfo_sub: Option<String>,
    /// Bytes of white space in front of each JSON document.
    pub padding: usize,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            claims: json!({ "sub": "id-developer", "email": "developer@example.com", "email_verified": true, "name": "Developer" }),
            overrides: json!({}),
            algorithm: "ES256",
            unpublished_key: false,
            discovery_issuer: None,
            token_reply: None,
            lifetime: 3600,
            refresh_tokens: false,
            userinfo_sub: None,
            padding: 0,
        }
    }
}

struct State {
    script: Script,
    key: KeyPair,
    generation: u32,
    issuer: String,
    nonce: Option<String>,
    audience: String,
    /// Requests to each endpoint.
    seen: Vec<String>,
    refreshes: Refreshes,
}

/// What became of refresh tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refreshes {
    /// How often one was exchanged for new tokens.
    pub done: u32,
    /// How often one came that had been exchanged before.
    pub spent: u32,
}

/// A running scripted provider on 127.0.0.1.
pub struct ScriptedIdp {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl ScriptedIdp {
    /// Starts a correct provider. Everyone who comes is signed in at once.
    ///
    /// # Errors
    /// No port, no randomness.
    pub async fn start() -> Result<ScriptedIdp> {
        let state = Arc::new(Mutex::new(State {
            script: Script::default(),
            key: KeyPair::generate()?,
            generation: 1,
            issuer: String::new(),
            nonce: None,
            audience: String::new(),
            seen: Vec::new(),
            refreshes: Refreshes::default(),
        }));
        let shared = Arc::clone(&state);
        let server = serve(None, move |request| respond(Arc::clone(&shared), request)).await?;
        state.lock().issuer = format!("http://{}", server.address);
        Ok(ScriptedIdp { server, state })
    }

    /// The issuer, also the base URL.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Changes the script.
    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.state.lock().script);
    }

    /// A new signing key replaces the old one in the key set.
    ///
    /// # Errors
    /// No randomness.
    pub fn rotate_key(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.key = KeyPair::generate()?;
        state.generation += 1;
        Ok(())
    }

    /// Paths that were asked for, in order.
    pub fn seen(&self) -> Vec<String> {
        self.state.lock().seen.clone()
    }

    /// What became of refresh tokens so far.
    pub fn refreshes(&self) -> Refreshes {
        self.state.lock().refreshes
    }
}

async fn respond(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut state = state.lock();
    state.seen.push(path.clone());
    match path.as_str() {
        "/.well-known/openid-configuration" => state.document(&state.discovery()),
        "/jwks" => state.document(&json!({ "keys": [jwk(&state.key, state.generation)] })),
        "/authorize" => state.authorize(&query),
        "/token" => state.token(&String::from_utf8_lossy(&body)),
        "/userinfo" => state.userinfo(),
        _ => answer(404, "text/plain", path),
    }
}

impl State {
    fn document(&self, value: &Value) -> Response<Body> {
        answer(
            200,
            "application/json",
            format!("{}{value}", " ".repeat(self.script.padding)),
        )
    }

    fn discovery(&self) -> Value {
        let base = &self.issuer;
        json!({
            "issuer": self.script.discovery_issuer.as_ref().unwrap_or(base),
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "userinfo_endpoint": format!("{base}/userinfo"),
            "jwks_uri": format!("{base}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
        })
    }

    fn authorize(&mut self, query: &str) -> Response<Body> {
        self.nonce = parameter(query, "nonce");
        self.audience = parameter(query, "client_id").unwrap_or_default();
        let target = parameter(query, "redirect_uri").unwrap_or_default();
        let given = query
            .split('&')
            .find(|pair| pair.starts_with("state="))
            .unwrap_or("state=");
        let location = format!("{target}?code=the-code&{given}");
        Response::builder()
            .status(302)
            .header("location", location)
            .body(full(""))
            .unwrap()
    }

    fn token(&mut self, form: &str) -> Response<Body> {
        if let Some((status, body)) = &self.script.token_reply {
            return answer(*status, "application/json", body.clone());
        }
        if !self.is_good(form) {
            return answer(400, "application/json", r#"{"error":"invalid_grant"}"#);
        }
        let mut tokens = json!({
            "access_token": "the-access-token",
            "token_type": "Bearer",
            "expires_in": self.script.lifetime,
            "id_token": self.id_token(),
        });
        if self.script.refresh_tokens {
            tokens["refresh_token"] = self.refresh_token().into();
        }
        self.document(&tokens)
    }

    /// Whether there are tokens for this code or refresh token; the latter is spent by it.
    fn is_good(&mut self, form: &str) -> bool {
        if parameter(form, "grant_type").as_deref() != Some("refresh_token") {
            return parameter(form, "code").as_deref() == Some("the-code");
        }
        let good = parameter(form, "refresh_token") == Some(self.refresh_token());
        match good {
            true => self.refreshes.done += 1,
            false => self.refreshes.spent += 1,
        }
        good
    }

    /// The one that is good now.
    fn refresh_token(&self) -> String {
        format!("refresh-token-{}", self.refreshes.done)
    }

    fn userinfo(&self) -> Response<Body> {
        let mut claims = self.script.claims.clone();
        if let Some(sub) = &self.script.userinfo_sub {
            claims["sub"] = sub.clone().into();
        }
        self.document(&claims)
    }

    fn id_token(&self) -> String {
        let now = now();
        let mut claims = json!({ "iss": self.issuer, "aud": self.audience, "iat": now, "exp": now + self.script.lifetime });
        if let Some(nonce) = &self.nonce {
            claims["nonce"] = nonce.clone().into();
        }
        for extra in [&self.script.claims, &self.script.overrides] {
            for (name, value) in extra.as_object().into_iter().flatten() {
                claims[name] = value.clone();
            }
        }
        sign(self, &claims)
    }
}

fn sign(state: &State, claims: &Value) -> String {
    let kid = format!("key-{}", state.generation);
    match state.script.algorithm {
        "none" => {
            let header = json!({ "alg": "none", "typ": "JWT", "kid": kid }).to_string();
            format!(
                "{}.{}.",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(claims.to_string())
            )
        }
        "HS256" => {
            let secret = state.key.public_key_pem();
            let header = Header {
                kid: Some(kid),
                ..Header::new(Algorithm::HS256)
            };
            jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
        }
        _ => {
            let other = KeyPair::generate().unwrap();
            let key = if state.script.unpublished_key {
                &other
            } else {
                &state.key
            };
            let header = Header {
                kid: Some(kid),
                ..Header::new(Algorithm::ES256)
            };
            let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
            jsonwebtoken::encode(&header, claims, &key).unwrap()
        }
    }
}

fn jwk(key: &KeyPair, generation: u32) -> Value {
    // An uncompressed point: 0x04, then x and y of 32 bytes each.
    let point = key.der_bytes();
    json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": format!("key-{generation}"),
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
        "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
    })
}

fn parameter(form: &str, name: &str) -> Option<String> {
    form.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.replace('+', " ");
        (key == name).then(|| {
            percent_encoding::percent_decode_str(&value)
                .decode_utf8_lossy()
                .into_owned()
        })
    })
}

#[allow(clippy::disallowed_methods, reason = "tokens for a process with a real clock")]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_secs())
        .unwrap_or_default()
}
