//! The cookies of this room: names, attributes, lives (spec authentication.md 6).
//!
//! Two kinds. *Session* cookies follow the `cookie_*` settings. *Helper* cookies live on the authenticate host
//! only, are short-lived, always `HttpOnly`, and must come back on the way from the identity provider: for them
//! `SameSite=Strict` is lowered to `Lax`.

use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use pomerium_config::settings::{CookieSettings, SameSite};
use pomerium_web::cookies::{self, CookieOptions, Lifetime, SetCookie};

use crate::Error;

/// Session handle on the authenticate host.
pub const AUTHENTICATE: &str = "_authenticate";
/// CSRF token.
pub const CSRF: &str = "_csrf";
/// Logins under way.
pub const LOGIN: &str = "_login";
/// Loop breaker.
pub const ROUNDS: &str = "_login_rounds";
/// Sign-in at the built-in provider.
pub const IDP: &str = "_idp";

/// Writes cookies under one version of the settings.
#[derive(Debug, Clone)]
pub struct CookieWriter {
    options: CookieOptions,
}

impl CookieWriter {
    /// Takes the settings over.
    pub fn new(settings: &CookieSettings) -> Self {
        Self {
            options: CookieOptions {
                name: settings.name.clone(),
                domain: settings.domain.clone(),
                http_only: settings.http_only,
                same_site: settings.same_site.map(same_site),
                expire: settings.expire,
            },
        }
    }

    /// The full name of a cookie; an empty suffix names the session cookie of route hosts.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.options.name)
    }

    /// Sets a session cookie.
    pub fn session(&self, suffix: &str, value: &str, now: Timestamp) -> Result<HeaderValue, Error> {
        cookies::set(&self.options, &self.name(suffix), value, now).map_err(Error::Cookie)
    }

    /// Removes a session cookie.
    pub fn clear_session(&self, suffix: &str, now: Timestamp) -> Result<HeaderValue, Error> {
        cookies::clear(&self.options, &self.name(suffix), now).map_err(Error::Cookie)
    }

    /// Sets a helper cookie for `seconds`.
    pub fn helper(
        &self,
        suffix: &str,
        path: &str,
        value: &str,
        seconds: i64,
        now: Timestamp,
    ) -> Result<HeaderValue, Error> {
        let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.write_helper(suffix, path, value, Lifetime::MaxAge(life), now)
    }

    /// Removes a helper cookie.
    pub fn clear_helper(&self, suffix: &str, path: &str, now: Timestamp) -> Result<HeaderValue, Error> {
        self.write_helper(suffix, path, "", Lifetime::Cleared, now)
    }

    /// Whether session cookies stay away from navigations that another site began.
    pub fn is_strict(&self) -> bool {
        self.options.same_site == Some(cookies::SameSite::Strict)
    }

    fn write_helper(
        &self,
        suffix: &str,
        path: &str,
        value: &str,
        lifetime: Lifetime,
        now: Timestamp,
    ) -> Result<HeaderValue, Error> {
        let same_site = match self.options.same_site {
            Some(cookies::SameSite::None) => cookies::SameSite::None,
            _ => cookies::SameSite::Lax,
        };
        let name = self.name(suffix);
        SetCookie {
            name: &name,
            value,
            path,
            domain: None,
            http_only: true,
            same_site: Some(same_site),
            lifetime,
        }
        .to_header(now)
        .map_err(Error::Cookie)
    }
}

fn same_site(value: SameSite) -> cookies::SameSite {
    match value {
        SameSite::Strict => cookies::SameSite::Strict,
        SameSite::Lax => cookies::SameSite::Lax,
        SameSite::None => cookies::SameSite::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(same_site: Option<SameSite>) -> CookieWriter {
        CookieWriter::new(&CookieSettings {
            name: "_pomerium".into(),
            domain: Some("example.com".into()),
            http_only: true,
            expire: Duration::from_secs(3600),
            same_site,
        })
    }

    #[test]
    fn session_cookies_follow_the_settings() {
        let text = writer(None).session("", "v", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            text,
            "_pomerium=v; Path=/; Domain=example.com; Expires=Thu, 01 Jan 1970 01:00:00 GMT; HttpOnly; Secure"
        );
        let strict = writer(Some(SameSite::Strict))
            .session(AUTHENTICATE, "v", Timestamp::UNIX_EPOCH)
            .unwrap();
        assert!(strict.to_str().unwrap().ends_with("; SameSite=Strict"));
    }

    #[test]
    fn helper_cookies_stay_on_their_host_and_survive_the_way_back() {
        for (setting, written) in [
            (None, "Lax"),
            (Some(SameSite::Strict), "Lax"),
            (Some(SameSite::None), "None"),
        ] {
            let header = writer(setting)
                .helper(LOGIN, "/", "v", 60, Timestamp::UNIX_EPOCH)
                .unwrap();
            let text = header.to_str().unwrap();
            assert!(
                text.starts_with("_pomerium_login=v; Path=/; ") && !text.contains("Domain"),
                "{text}"
            );
            assert!(
                text.contains("; HttpOnly; Secure") && text.ends_with(&format!("SameSite={written}")),
                "{text}"
            );
        }
    }
}
