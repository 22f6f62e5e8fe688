//! Paths that the proxy answers itself, first on every host (spec proxy.md 4.3).

/// A path of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InternalPath {
    /// `/ping`, `/healthz`.
    Health,
    /// `/.pomerium` and what lies under it.
    Pomerium,
    /// `/.well-known/pomerium` and what lies under it.
    WellKnown,
    /// `/`, `/robots.txt` and `/oauth2/callback` of the authenticate service.
    Authenticate,
}

impl InternalPath {
    /// What `path` is, if it is internal. `authenticate` says whether the host is the authenticate service.
    pub fn of(path: &str, authenticate: bool) -> Option<Self> {
        match path {
            "/ping" | "/healthz" => return Some(Self::Health),
            "/" | "/robots.txt" | "/oauth2/callback" if authenticate => return Some(Self::Authenticate),
            _ => {}
        }
        let under = |root: &str| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !path.starts_with("/.") {
            None
        } else if under("/.pomerium") {
            Some(Self::Pomerium)
        } else if under("/.well-known/pomerium") {
            Some(Self::WellKnown)
        } else {
            None
        }
    }

    /// Whether `path` asks for a session before the control plane sees it (policy.md 8.1).
    pub fn needs_session(path: &str) -> bool {
        matches!(
            path,
            "/.pomerium/jwt"
                | "/.pomerium/user"
                | "/.pomerium/webauthn"
                | "/.pomerium/routes"
                | "/.pomerium/api/v1/routes"
        )
    }
}
