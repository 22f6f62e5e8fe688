//! The authorization request (RFC 6749 4.1.1, OpenID Connect Core 3.1.2.1): what is accepted, what is refused,
//! and whether the refusal may travel to the client.

use pomerium_crypto::query::Query;
use serde::{Deserialize, Serialize};

use super::client::Clients;
use super::pkce;

/// A request that passed every check; from here on it travels sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizeRequest {
    /// A client we know.
    pub client_id: String,
    /// One of that client's redirect URIs.
    pub redirect_uri: String,
    /// Scopes, space separated; holds `openid`.
    pub scope: String,
    /// Given back untouched.
    pub state: String,
    /// Echoed in the ID token.
    pub nonce: Option<String>,
    /// S256 challenge.
    pub code_challenge: String,
    /// What `prompt` and `max_age` ask for.
    pub freshness: Freshness,
    /// Login name to fill in.
    pub login_hint: Option<String>,
    /// Which application the person is on the way to, as our own sign-in says (never a stranger).
    pub application: Option<Application>,
}

/// An application, for the page that names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its name; may be empty.
    pub name: String,
    /// Its host.
    pub host: String,
}

/// How fresh the sign-in must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// `prompt=login`: the password is asked for again.
    pub login: bool,
    /// `prompt=none`: no page may be shown.
    pub none: bool,
    /// `max_age`: seconds since the password was typed.
    pub max_age: Option<i64>,
}

/// The one authentication context class there is here: a password was typed.
pub const ACR: &str = "pwd";

impl Freshness {
    /// Whether a sign-in at `auth_time` is good enough at `now` (Unix seconds).
    pub fn accepts(&self, auth_time: i64, now: i64) -> bool {
        !self.login && self.max_age.is_none_or(|age| now - auth_time <= age)
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The client or its redirect URI is not known: nothing is sent anywhere, the person sees it.
    Page(&'static str),
    /// The client is told.
    Redirect {
        /// Validated redirect URI.
        redirect_uri: String,
        /// `state`, if one was sent.
        state: Option<String>,
        /// OAuth error code.
        error: &'static str,
        /// Text for the log of the client.
        description: &'static str,
    },
}

/// Longest `state` or `nonce` in bytes: the state of our own sign-in holds the address a person comes from.
const MAX_VALUE: usize = 16 * 1024;
const ONCE: [&str; 12] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "max_age",
    "acr_values",
    "response_mode",
];

/// Judges a request.
pub fn parse(query: &Query, clients: &Clients) -> Result<AuthorizeRequest, Refusal> {
    if query.is_malformed() || ONCE.iter().any(|name| query.count(name) > 1) {
        return Err(Refusal::Page(
            "a parameter of the request is repeated or cannot be read",
        ));
    }
    let client = query
        .get("client_id")
        .and_then(|id| clients.find(id))
        .ok_or(Refusal::Page("the application that asks is not known here"))?;
    let redirect_uri = query
        .get("redirect_uri")
        .filter(|uri| client.redirect_uris.iter().any(|known| known == uri))
        .ok_or(Refusal::Page("the return address is not the registered one"))?;
    let refuse = |error, description| Refusal::Redirect {
        redirect_uri: redirect_uri.to_owned(),
        state: query
            .get("state")
            .filter(|state| state.len() <= MAX_VALUE)
            .map(str::to_owned),
        error,
        description,
    };
    check_shape(query).map_err(|(error, description)| refuse(error, description))?;
    let freshness =
        freshness(query).ok_or_else(|| refuse("invalid_request", "prompt or max_age cannot be read"))?;
    if !offers_class(query) {
        return Err(refuse(
            "unmet_authentication_requirements",
            "none of the acr_values is offered; there is only pwd",
        ));
    }
    Ok(AuthorizeRequest {
        client_id: client.id.clone(),
        redirect_uri: redirect_uri.to_owned(),
        scope: query.get("scope").unwrap_or_default().to_owned(),
        state: query.get("state").unwrap_or_default().to_owned(),
        nonce: query.get("nonce").map(str::to_owned),
        code_challenge: query.get("code_challenge").unwrap_or_default().to_owned(),
        freshness,
        login_hint: query
            .get("login_hint")
            .filter(|hint| hint.len() <= 320)
            .map(str::to_owned),
        application: None,
    })
}

fn check_shape(query: &Query) -> Result<(), (&'static str, &'static str)> {
    if query.get("request").is_some() {
        return Err(("request_not_supported", "request objects are not supported"));
    }
    if query.get("request_uri").is_some() {
        return Err(("request_uri_not_supported", "request objects are not supported"));
    }
    if query.get("response_type") != Some("code") {
        return Err(("unsupported_response_type", "only the code flow is offered"));
    }
    if query.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(("invalid_request", "only response_mode=query is offered"));
    }
    if !query
        .get("scope")
        .unwrap_or_default()
        .split(' ')
        .any(|scope| scope == "openid")
    {
        return Err(("invalid_scope", "the scope openid is missing"));
    }
    if query.get("code_challenge_method") != Some("S256") {
        return Err(("invalid_request", "PKCE with S256 is required"));
    }
    if !pkce::valid_challenge(query.get("code_challenge").unwrap_or_default()) {
        return Err(("invalid_request", "the code_challenge is not an S256 challenge"));
    }
    if ["state", "nonce"]
        .iter()
        .any(|name| query.get(name).is_some_and(|value| value.len() > MAX_VALUE))
    {
        return Err(("invalid_request", "state or nonce is too long"));
    }
    Ok(())
}

/// Whether one of the classes asked for is ours. A password that is of no use is not asked for.
fn offers_class(query: &Query) -> bool {
    let mut asked = query
        .get("acr_values")
        .unwrap_or_default()
        .split(' ')
        .filter(|class| !class.is_empty())
        .peekable();
    asked.peek().is_none() || asked.any(|class| class == ACR)
}

fn freshness(query: &Query) -> Option<Freshness> {
    let prompts: Vec<&str> = query
        .get("prompt")
        .unwrap_or_default()
        .split(' ')
        .filter(|p| !p.is_empty())
        .collect();
    let none = prompts.contains(&"none");
    if none && prompts.len() > 1 {
        return None;
    }
    let max_age = match query.get("max_age") {
        None => None,
        Some(text) => Some(text.parse().ok().filter(|age| *age >= 0)?),
    };
    // There is one account per browser, so choosing an account is signing in again.
    let login = prompts.contains(&"login") || prompts.contains(&"select_account");
    Some(Freshness { login, none, max_age })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::client::Client;
    use pomerium_config::settings::Secret;

    const GOOD: &str = "client_id=pomerium&redirect_uri=https%3A%2F%2Fauth.example.com%2Foauth2%2Fcallback\
        &response_type=code&scope=openid+email&state=s&nonce=n&code_challenge_method=S256\
        &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn judge(query: &str) -> Result<AuthorizeRequest, Refusal> {
        let clients = Clients::new([Client {
            id: "pomerium".into(),
            secret: Secret::new(*b"secret"),
            redirect_uris: vec!["https://auth.example.com/oauth2/callback".into()],
            post_logout_uris: vec![],
        }]);
        parse(&Query::parse(query), &clients)
    }

    #[test]
    fn a_whole_request_passes() {
        let request = judge(GOOD).unwrap();
        assert_eq!(request.state, "s");
        assert_eq!(request.nonce.as_deref(), Some("n"));
        assert_eq!(request.freshness, Freshness::default());
    }

    #[test]
    fn a_wrong_client_or_redirect_uri_is_never_redirected() {
        for (from, to) in [
            ("client_id=pomerium", "client_id=other"),
            ("client_id=pomerium&", ""),
            ("callback", "callback%2F"),
            ("callback", "callback%3Fx%3D1"),
            ("callback", "Callback"),
            ("callback", "callback%2F..%2Fx"),
            ("https%3A", "http%3A"),
            ("auth.example.com", "auth.example.com.evil.example"),
            ("auth.example.com", "auth.example.com%40evil.example"),
            ("auth.example.com", "auth.example.com%3A443"),
            ("redirect_uri", "redirect_url"),
            ("client_id", "client_id=pomerium&client_id"),
            ("state=s", "state=%zz"),
            (
                "redirect_uri",
                "redirect_uri=https%3A%2F%2Fevil.example&redirect_uri",
            ),
        ] {
            let query = GOOD.replacen(from, to, 1);
            assert!(matches!(judge(&query), Err(Refusal::Page(_))), "{query}");
        }
    }

    #[test]
    fn other_faults_go_back_to_the_client() {
        for (from, to, expected) in [
            (
                "response_type=code",
                "response_type=token",
                "unsupported_response_type",
            ),
            ("response_type=code", "x=y", "unsupported_response_type"),
            ("scope=openid", "scope=profile", "invalid_scope"),
            ("=S256", "=plain", "invalid_request"),
            ("&code_challenge_method=S256", "", "invalid_request"),
            ("E9Mel", "", "invalid_request"),
            ("state=s", "state=s&response_mode=fragment", "invalid_request"),
            ("state=s", "state=s&prompt=none+login", "invalid_request"),
            ("state=s", "state=s&max_age=-1", "invalid_request"),
            ("state=s", "state=s&request=x", "request_not_supported"),
        ] {
            let query = GOOD.replacen(from, to, 1);
            match judge(&query) {
                Err(Refusal::Redirect { error, state, .. }) => {
                    assert_eq!((error, state.as_deref()), (expected, Some("s")), "{query}");
                }
                other => panic!("{query}: {other:?}"),
            }
        }
    }

    #[test]
    fn prompt_and_max_age_decide_whether_an_old_sign_in_will_do() {
        let fresh = |extra: &str| judge(&format!("{GOOD}{extra}")).unwrap().freshness;
        assert!(fresh("").accepts(0, 1_000_000));
        assert!(!fresh("&prompt=login").accepts(100, 100));
        assert!(!fresh("&prompt=select_account").accepts(100, 100));
        assert!(fresh("&max_age=60").accepts(100, 160));
        assert!(!fresh("&max_age=60").accepts(100, 161));
        assert!(!fresh("&max_age=0").accepts(100, 101));
        assert!(fresh("&prompt=none").none);
    }
}
