//! What the rest of this room reads from the settings: resolved once per reload, nothing left to interpret.

use std::sync::Arc;

use pomerium_config::settings::{
    CookieSettings, HostMatch, IdpSettings, RouteSettings, RuntimeFlags, Settings,
};

use crate::BuildError;

/// One version of the settings, as sign-in sees it.
#[derive(Clone)]
pub struct Options {
    /// `host[:port]` of the authenticate service, as browsers see it.
    pub authority: String,
    /// `host[:port]` under which other services reach it.
    pub internal_authority: String,
    /// Whether this process answers on the authenticate host.
    pub serves_authenticate: bool,
    /// Signs URLs and session handles, seals handles on their way to a route.
    pub shared: [u8; 32],
    /// Seals what travels through the browser during a login.
    pub cookie_secret: [u8; 32],
    /// Cookie settings.
    pub cookie: CookieSettings,
    /// This process signs people in and knows no routes: where they go then is what other processes signed.
    pub goes_by_signatures: bool,
    /// Where people go after signing out.
    pub signout_redirect_url: Option<String>,
    /// `programmatic_redirect_domain_whitelist`.
    pub programmatic_domains: Vec<String>,
    /// The claim that names groups where the directory does not know somebody.
    pub groups_claim: Arc<str>,
    /// Provider of everything that names none.
    pub idp: Option<Arc<IdpSettings>>,
    /// Feature switches.
    pub flags: RuntimeFlags,
    /// Routes, for the portal and for the names of applications.
    pub routes: Vec<Arc<RouteSettings>>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Reads the settings. Errors when a secret is not 32 bytes.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        let key = |bytes: &[u8], name| bytes.try_into().map_err(|_| BuildError::Secret(name));
        Ok(Self {
            authority: settings.authenticate.url.authority(),
            internal_authority: settings.authenticate.internal_url.authority(),
            serves_authenticate: settings.services.authenticate,
            shared: key(settings.secrets.shared.expose(), "shared_secret")?,
            cookie_secret: key(settings.secrets.cookie.expose(), "cookie_secret")?,
            cookie: settings.cookie.clone(),
            goes_by_signatures: settings.services.authenticate
                && !settings.services.proxy
                && settings.routes.is_empty(),
            signout_redirect_url: settings.authenticate.signout_redirect_url.clone(),
            programmatic_domains: settings.authenticate.programmatic_domains.clone(),
            groups_claim: settings.groups_claim.as_str().into(),
            idp: settings.authenticate.idp.clone().map(Arc::new),
            flags: settings.runtime_flags.clone(),
            routes: settings.routes.clone(),
        })
    }

    /// Every provider that some sign-in may use: the default one and those of routes, each once.
    pub fn idps(&self) -> Vec<Arc<IdpSettings>> {
        let mut all: Vec<Arc<IdpSettings>> = Vec::new();
        for idp in self
            .idp
            .iter()
            .chain(self.routes.iter().filter_map(|route| route.idp.as_ref()))
        {
            if all.iter().all(|known| known.id != idp.id) {
                all.push(idp.clone());
            }
        }
        all
    }

    /// The name of the application at `host[:port]`; empty when it has none of its own.
    pub fn application_name(&self, authority: &str) -> String {
        let host = host_of(authority);
        let answers = |route: &&Arc<RouteSettings>| match &route.hosts {
            HostMatch::Exact { domains, .. } => domains.contains(authority) || domains.contains(host),
            HostMatch::Wildcard { .. } => false,
        };
        let named = self
            .routes
            .iter()
            .filter(answers)
            .find(|route| !route.name.is_empty());
        named.map(|route| route.name.to_string()).unwrap_or_default()
    }

    /// Whether `authority` is the authenticate host, under its public or its internal name.
    pub fn is_authenticate(&self, authority: &str) -> bool {
        self.serves_authenticate
            && [&self.authority, &self.internal_authority]
                .iter()
                .any(|own| same_authority(own, authority))
    }

    /// An absolute URL on the authenticate host; always https, as every link of ours.
    pub fn authenticate_url(&self, path_and_query: &str) -> String {
        format!("https://{}{path_and_query}", self.authority)
    }
}

/// Whether two authorities are one: `host` and `host:443` are.
pub fn same_authority(a: &str, b: &str) -> bool {
    let plain = |authority: &str| {
        authority
            .strip_suffix(":443")
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    plain(a) == plain(b)
}

/// The host of an authority, without its port.
pub fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(authority, |(host, _)| host);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        assert!(same_authority("auth.example.com", "AUTH.example.com:443"));
        assert!(!same_authority("auth.example.com", "auth.example.com:8443"));
        assert!(!same_authority(
            "auth.example.com",
            "auth.example.com.evil.example"
        ));
        assert_eq!(host_of("app.example.com:8443"), "app.example.com");
        assert_eq!(host_of("app.example.com"), "app.example.com");
        assert_eq!(host_of("[2001:db8::1]:8443"), "2001:db8::1");
        assert_eq!(host_of("[2001:db8::1]"), "2001:db8::1");
    }
}
