//! The provider itself: what it knows and which of its parts answers which path.
//!
//! Two ways lead in. The *back channel* (discovery, keys, token, userinfo) is a request in, a reply out,
//! called in process by our own sign-in and over HTTPS by anything else. The *front channel* (authorize, the
//! sign-in form, end of session) shows pages and is in [`super::front`].

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use pomerium_api::databroker::Databroker;
use pomerium_config::settings::{IdpKind, IdpSettings, Settings};
use pomerium_crypto::jwt::SigningKey;
use pomerium_crypto::kdf;
use pomerium_crypto::query::Query;

use super::client::{Client, Clients};
use super::codes::UsedCodes;
use super::limits::SignInLimits;
use super::users::{PasswordChecker, Users};
use super::{discovery, token, userinfo};
use crate::once::OnceSet;
use crate::sealed::Sealer;

/// Browsers keep no cookie longer, seconds; what is withdrawn is remembered that long.
pub(super) const LONGEST: i64 = 400 * 24 * 3600;

/// What outlives a reload of the settings.
#[derive(Debug)]
pub struct LocalState {
    /// Codes that were used.
    pub codes: UsedCodes,
    /// How often passwords may be tried.
    pub limits: SignInLimits,
    /// Where passwords are checked.
    pub checker: PasswordChecker,
    /// Sign-ins that were ended, by id.
    pub ended: OnceSet,
}

impl Default for LocalState {
    fn default() -> Self {
        Self {
            codes: UsedCodes::default(),
            limits: SignInLimits::default(),
            checker: PasswordChecker::default(),
            ended: OnceSet::new(LONGEST, 100_000),
        }
    }
}

/// The built-in identity provider, for one version of the settings.
#[derive(Debug)]
pub struct LocalProvider {
    /// Issuer, exactly as clients compare it.
    pub(crate) issuer: String,
    /// Issuer without a trailing slash; endpoints follow it.
    pub(crate) base: String,
    /// Path of `base`.
    pub(crate) path: String,
    pub(crate) clients: Clients,
    pub(crate) users: Users,
    pub(crate) key: SigningKey,
    /// Sign-in cookies.
    pub(crate) sign_ins: Sealer,
    /// Access tokens.
    pub(crate) access: Sealer,
    /// Authorization codes.
    pub(crate) codes: Sealer,
    /// Authorization requests on their way through the sign-in form.
    pub(crate) requests: Sealer,
    /// Life of tokens and of the sign-in cookie, seconds.
    pub(crate) lifetime: i64,
    pub(crate) state: Arc<LocalState>,
}

/// A request to the back channel.
#[derive(Debug, Clone, Copy)]
pub struct BackCall<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path, with the provider's own prefix.
    pub path: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Body.
    pub body: &'a [u8],
    /// Unix seconds.
    pub now: i64,
}

impl LocalProvider {
    /// The provider of these settings; `None` when no identity provider in them is the built-in one.
    pub fn new(settings: &Settings, state: Arc<LocalState>) -> Option<Self> {
        let idps = local_idps(settings);
        let issuer = idps.first()?.issuer.clone();
        let base = issuer.trim_end_matches('/').to_owned();
        let path = path_of(&base).to_owned();
        let shared = key_bytes(settings.secrets.shared.expose())?;
        Some(Self {
            clients: Clients::new(idps.iter().map(|idp| client(settings, idp))),
            users: Users::new(&settings.authenticate.local_idp.users),
            key: SigningKey::derived(&kdf::derive(
                &shared,
                "pomerium local identity provider: signing key",
            )),
            sign_ins: Sealer::new(&shared, "pomerium local identity provider: sign-in cookie"),
            access: Sealer::new(&shared, "pomerium local identity provider: access token"),
            codes: Sealer::new(&shared, "pomerium local identity provider: authorization code"),
            requests: Sealer::new(&shared, "pomerium local identity provider: authorization request"),
            lifetime: i64::try_from(settings.cookie.expire.as_secs())
                .unwrap_or(i64::MAX / 4)
                .max(60),
            issuer,
            base,
            path,
            state,
        })
    }

    /// Whether `path` belongs to the provider.
    pub fn owns(&self, path: &str) -> bool {
        path.strip_prefix(&self.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Answers a back-channel request; `None` for a path that is not one. What all replicas have to know is asked of
    /// `broker`.
    pub async fn back_channel(&self, broker: &dyn Databroker, call: BackCall<'_>) -> Option<Response<Bytes>> {
        let rest = call.path.strip_prefix(&self.path)?;
        let (methods, endpoint): (&[Method], Endpoint) = match rest {
            "/.well-known/openid-configuration" => (&[Method::GET], Endpoint::Discovery),
            "/jwks.json" => (&[Method::GET], Endpoint::Keys),
            "/token" => (&[Method::POST], Endpoint::Token),
            "/userinfo" => (&[Method::GET, Method::POST], Endpoint::Userinfo),
            _ => return None,
        };
        if !methods.contains(call.method) {
            return Some(json(
                StatusCode::METHOD_NOT_ALLOWED,
                &serde_json::json!({"error": "invalid_request"}),
            ));
        }
        Some(match endpoint {
            Endpoint::Discovery => discovery::document(self),
            Endpoint::Keys => discovery::keys(self),
            Endpoint::Token => token::answer(self, broker, call).await,
            Endpoint::Userinfo => userinfo::answer(self, broker, call).await,
        })
    }

    /// Form parameters of a call.
    pub(crate) fn form(call: BackCall<'_>) -> Query {
        Query::parse(&String::from_utf8_lossy(call.body))
    }
}

#[derive(Clone, Copy)]
enum Endpoint {
    Discovery,
    Keys,
    Token,
    Userinfo,
}

/// A JSON reply that nobody keeps.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    headers.insert(
        http::header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        http::header::X_CONTENT_TYPE_OPTIONS,
        http::HeaderValue::from_static("nosniff"),
    );
    response
}

fn local_idps(settings: &Settings) -> Vec<&IdpSettings> {
    let of_routes = settings.routes.iter().filter_map(|route| route.idp.as_deref());
    settings
        .authenticate
        .idp
        .iter()
        .chain(of_routes)
        .filter(|idp| idp.kind == IdpKind::Local)
        .collect()
}

fn client(settings: &Settings, idp: &IdpSettings) -> Client {
    let origin = format!("https://{}", settings.authenticate.url.authority());
    let signed_out = format!("{origin}/.pomerium/signed_out");
    Client {
        id: idp.client_id.clone(),
        secret: idp.client_secret.clone(),
        redirect_uris: vec![format!("{origin}/oauth2/callback")],
        post_logout_uris: [signed_out]
            .into_iter()
            .chain(settings.authenticate.signout_redirect_url.clone())
            .collect(),
    }
}

fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| &rest[at..])
}

fn key_bytes(secret: &[u8]) -> Option<[u8; 32]> {
    secret.try_into().ok()
}
