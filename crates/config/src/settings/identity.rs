//! Sign-in: the authenticate service, identity providers, cookies, identity headers.

use std::time::Duration;

use super::Secret;

/// The authenticate service.
#[derive(Debug, Clone)]
pub struct AuthenticateSettings {
    /// Public origin, for instance `https://authenticate.example.com` (no path, no trailing slash).
    pub url: Origin,
    /// Origin under which other services reach it; equals `url` unless set.
    pub internal_url: Origin,
    /// Where people go after signing out.
    pub signout_redirect_url: Option<String>,
    /// The identity provider; absent when none is configured.
    pub idp: Option<IdpSettings>,
    /// Users of the built-in provider.
    pub local_idp: LocalIdpSettings,
    /// `programmatic_redirect_domain_whitelist`.
    pub programmatic_domains: Vec<String>,
}

/// Scheme and authority of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https` or `http`.
    pub scheme: String,
    /// Host, lower case, without port.
    pub host: String,
    /// Port, if it is written.
    pub port: Option<u16>,
}

impl Origin {
    /// `host[:port]`; an IPv6 address stands in brackets (RFC 3986 section 3.2.2).
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') && !self.host.starts_with('[') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// `scheme://host[:port]`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }
}

/// Which provider protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdpKind {
    /// Any compliant OpenID Connect provider.
    Oidc,
    /// The built-in provider.
    Local,
}

/// One identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdpSettings {
    /// Names this configuration in sessions and URLs (authentication.md 1, "IdP id").
    pub id: String,
    /// Kind.
    pub kind: IdpKind,
    /// Issuer, exactly as configured; for the built-in one derived from the authenticate URL.
    pub issuer: String,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: Secret,
    /// Scopes, defaults filled in.
    pub scopes: Vec<String>,
    /// Extra parameters of the authorization request.
    pub request_params: Vec<(String, String)>,
}

/// The built-in identity provider.
#[derive(Debug, Clone, Default)]
pub struct LocalIdpSettings {
    /// Users of the config and of `users_file`, by e-mail (lower case).
    pub users: Vec<LocalUser>,
    /// Where `pomerium user add` writes.
    pub users_file: Option<std::path::PathBuf>,
}

/// A user of the built-in provider.
#[derive(Debug, Clone)]
pub struct LocalUser {
    /// E-mail, lower case; also the login name.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Group names.
    pub groups: Vec<String>,
    /// Argon2id hash, PHC string.
    pub password_hash: Secret,
}

/// `SameSite` attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// `Strict`.
    Strict,
    /// `Lax`.
    Lax,
    /// `None`.
    None,
}

/// Session and helper cookies.
#[derive(Debug, Clone)]
pub struct CookieSettings {
    /// Base name.
    pub name: String,
    /// `Domain`, or host-only.
    pub domain: Option<String>,
    /// `HttpOnly`.
    pub http_only: bool,
    /// Lifetime of cookie and session.
    pub expire: Duration,
    /// `SameSite`, omitted when unset.
    pub same_site: Option<SameSite>,
}

/// `iss` of the assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IssuerFormat {
    /// `app.example.com`
    #[default]
    HostOnly,
    /// `https://app.example.com/`
    Uri,
}

/// Who gets Google identity tokens for upstreams (`google_cloud_serverless_authentication_service_account`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleAccount {
    /// Its e-mail, the issuer of what it signs.
    pub email: String,
    /// Id of the key, as Google knows it; may be empty.
    pub key_id: String,
    /// RSA key, PEM.
    pub key: Secret,
    /// Where a signed request is traded for a token.
    pub token_uri: String,
}

/// Which claims go to the upstream in headers of their own.
#[derive(Debug, Clone, Default)]
pub struct IdentityHeaderSettings {
    /// Header name (lower case) and claim name.
    pub claims: Vec<(http::HeaderName, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let origin = |host: &str, port| Origin {
            scheme: "https".into(),
            host: host.into(),
            port,
        };
        assert_eq!(origin("::1", Some(5443)).url(), "https://[::1]:5443");
        assert_eq!(origin("::1", None).authority(), "[::1]");
        assert_eq!(origin("a.example.com", Some(1)).authority(), "a.example.com:1");
    }
}
