//! Routes: what matches, where it goes, who may.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Balance, IdpSettings, IssuerFormat, Origin, RateLimit, RouteId, Secret};

/// One route: what is its own. There may be many thousands, so what most of them have in common stands in `options`,
/// which those that are alike share, and whose fields are those of the route as well.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// What names it in logs and metrics, for good.
    pub id: RouteId,
    /// Display name, may be empty.
    pub name: Box<str>,
    /// The record it comes from; absent for routes of the file.
    pub record: Option<Box<str>>,
    /// `from` as written.
    pub from: Box<str>,
    /// What kind of traffic.
    pub kind: RouteKind,
    /// Host patterns that match (proxy.md 4.2).
    pub hosts: HostMatch,
    /// Path matcher.
    pub path: PathMatch,
    /// What happens to an allowed request.
    pub action: Action,
    /// Who may: the generated rules and PPL, merged and compiled.
    pub policy: pomerium_policy::Program,
    /// Path rewriting.
    pub path_rewrite: Option<Box<PathRewrite>>,
    /// Everything else.
    pub options: Arc<RouteOptions>,
}

impl RouteSettings {
    /// The name of its upstream in logs and metrics, `<name or "route">-<id>`.
    pub fn cluster(&self) -> String {
        let name = if self.name.is_empty() { "route" } else { &self.name };
        format!("{name}-{}", self.id)
    }
}

impl std::ops::Deref for RouteSettings {
    type Target = RouteOptions;

    fn deref(&self) -> &RouteOptions {
        &self.options
    }
}

/// What routes have in common, as a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteOptions {
    /// Text for the portal.
    pub description: String,
    /// Icon for the portal.
    pub logo_url: String,
    /// Whether the page tells the person which policy denied.
    pub show_error_details: bool,
    /// On routes with `show_error_details`, the policies of `sub_policies`, each by itself.
    pub told_policies: Option<Arc<[pomerium_policy::Part]>>,
    /// More hosts of the login redirect chain.
    pub depends_on: Vec<String>,
    /// The provider that signs people in for this route; absent when none is configured.
    pub idp: Option<Arc<IdpSettings>>,
    /// Host header to the upstream.
    pub host_rewrite: HostRewrite,
    /// Request headers to set, values with templates (policy.md 12); names lower case.
    pub set_request_headers: Vec<(http::HeaderName, String)>,
    /// Request headers to remove.
    pub remove_request_headers: Vec<http::HeaderName>,
    /// Response headers to set: global, defaults and the route's own, merged and sorted by name.
    pub set_response_headers: Arc<[(http::HeaderName, http::HeaderValue)]>,
    /// Response header prefixes to rewrite.
    pub rewrite_response_headers: Vec<RewriteResponseHeader>,
    /// Whether the assertion and claim headers reach the upstream.
    pub pass_identity_headers: bool,
    /// `iss` of the assertion.
    pub jwt_issuer_format: IssuerFormat,
    /// `jwt_groups_filter` of the route and of all: ids of groups that are kept in the assertion, sorted; `None` keeps
    /// all.
    pub groups_filter: Option<Arc<[String]>>,
    /// Set for a route to a Kubernetes API server: the token it is shown, in place of the person's.
    pub kubernetes_token: Option<KubernetesToken>,
    /// Audience of the Google identity token that the upstream is sent, `https://` and its host.
    pub google_audience: Option<String>,
    /// Upgrade tokens that are let through, lower case (`websocket`, `spdy/3.1`, …).
    pub upgrades: Vec<String>,
    /// Whole response time; `None` is off.
    pub timeout: Option<Duration>,
    /// No bytes either way; `None` is off.
    pub idle_timeout: Option<Duration>,
    /// TLS to the upstream.
    pub upstream_tls: Arc<UpstreamTls>,
    /// How several endpoints are used, their health and limits.
    pub balance: Arc<Balance>,
    /// Token bucket: the route's own, else the global one.
    pub rate_limit: Option<RateLimit>,
    /// Whether it leads to the authenticate service, which is another process: everybody gets there, and all that is
    /// asked of its host goes there (proxy.md 4.3).
    pub leads_to_sign_in: bool,
    /// `tls_downstream_server_name`: one more host that answers internal paths.
    pub downstream_server_name: Option<String>,
    /// `tls_downstream_client_ca`: trust anchors (PEM) that replace the global ones for this route.
    pub downstream_ca: Option<Vec<u8>>,
}

/// Where the token for a Kubernetes API server comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubernetesToken {
    /// `kubernetes_service_account_token`
    Inline(Secret),
    /// `kubernetes_service_account_token_file`, read again and again: the cluster replaces it.
    File(std::path::PathBuf),
}

/// Kind of a route, by the scheme of `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// `https://`, `http://`
    Http,
    /// `tcp+https://` (refused at start until tunnels are built)
    Tcp,
    /// `udp+https://` (refused at start until tunnels are built)
    Udp,
    /// `ssh://` (refused at start until SSH is built)
    Ssh,
}

fn ends_open(pattern: &str) -> bool {
    let (_, fixed) = pattern.rsplit_once('*').unwrap_or(("", pattern));
    let fixed = fixed.split_once(':').map_or(fixed, |(host, _)| host);
    // What stands before the first dot goes on in the name that fits.
    let Some((_, domain)) = fixed.split_once('.') else {
        return true;
    };
    // A suffix that the list does not know, `lan` for instance, is registered with nobody; nor is anything below the one for
    // networks at home (RFC 8375).
    let public = |suffix: psl::Suffix<'_>| {
        suffix.is_known() && suffix.as_bytes() == domain.as_bytes() && domain != "home.arpa"
    };
    domain.is_empty() || psl::suffix(domain.as_bytes()).is_some_and(public)
}

/// Which authorities a route answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    /// Exact domains: `host` (any port when the flag is on) or `host:port`.
    Exact {
        /// The domains, lower case.
        domains: Domains,
        /// Whether a domain without port answers for every port.
        any_port: bool,
    },
    /// A pattern with `*`; the whole authority must match this regular expression.
    Wildcard {
        /// As written, lower case.
        pattern: Box<str>,
        /// Anchored regular expression.
        regex: Box<str>,
    },
}

impl HostMatch {
    /// Whether what is asked of `origin` comes here by its exact name.
    pub(crate) fn reaches(&self, origin: &Origin) -> bool {
        let Self::Exact { domains, any_port } = self else {
            return false;
        };
        domains.contains(&origin.authority()) || *any_port && domains.contains(&origin.host)
    }

    /// Whether it fits hosts that anybody can register: a pattern that ends in `*`, or in what is no more than a public
    /// suffix, such as `*`, `app.*`, `*.com` and `*example.com`. Who asks under such a name says nothing about whose the
    /// name is, so that nobody is sent there with a session.
    pub fn is_open_ended(&self) -> bool {
        match self {
            Self::Exact { .. } => false,
            Self::Wildcard { pattern, .. } => ends_open(pattern),
        }
    }
}

/// Exact domains of a route, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domains {
    /// A host, and the same with the port of its scheme written out: `h` and `h:443`.
    Host(Arc<str>, u16),
    /// As they are.
    Listed(Box<[Box<str>]>),
}

impl Domains {
    /// The domains; a host without port before the one with it.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let (host, listed) = match self {
            Self::Host(host, port) => (Some((host, *port)), [].as_slice()),
            Self::Listed(listed) => (None, &**listed),
        };
        let host = host.into_iter().flat_map(|(host, port)| {
            let with_port = format!("{host}:{port}");
            [Cow::Borrowed(&**host), Cow::Owned(with_port)]
        });
        host.chain(listed.iter().map(|domain| Cow::Borrowed(&**domain)))
    }

    /// Whether `authority` is one of them.
    pub fn contains(&self, authority: &str) -> bool {
        self.iter().any(|domain| domain == authority)
    }
}

/// Path matcher of a route; exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// Every path.
    Any,
    /// String prefix, not segment aware.
    Prefix(Arc<str>),
    /// The whole path.
    Exact(Arc<str>),
    /// The whole path must match.
    Regex(Arc<str>),
}

/// What happens to an allowed request.
#[derive(Debug, Clone)]
pub enum Action {
    /// Forward.
    Forward(Box<[Destination]>),
    /// Redirect.
    Redirect(Box<Redirect>),
    /// Answer.
    Respond {
        /// Status.
        status: u16,
        /// Body.
        body: Box<str>,
    },
}

/// Scheme of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum UpstreamScheme {
    Http,
    Https,
    H2c,
    Tcp,
    Udp,
    Ssh,
    Unix,
    HttpsUnix,
}

/// One upstream endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Scheme.
    pub scheme: UpstreamScheme,
    /// Port to dial (default of the scheme filled in).
    pub port: u16,
    /// Weight, 1 unless given.
    pub weight: u32,
    /// `host[:port]` exactly as written: the default Host header. Empty for UNIX sockets.
    pub authority: Box<str>,
    /// Path of the URL, or of the UNIX socket.
    pub path: Box<str>,
}

impl Destination {
    /// Host without port and brackets; empty for UNIX sockets.
    pub fn host(&self) -> &str {
        crate::spec::go_url::split_host_port(&self.authority).0
    }
}

/// Redirect action (proxy.md 4.7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme to https; when set, even to false, `scheme` is ignored.
    pub https: Option<bool>,
    /// New scheme.
    pub scheme: Option<String>,
    /// New host.
    pub host: Option<String>,
    /// New port.
    pub port: Option<u16>,
    /// New path.
    pub path: Option<String>,
    /// Swap of the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Drop the query.
    pub strip_query: bool,
}

/// How the path changes on its way up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// Replaces the matched prefix (prefix and any), or the whole path (path and regex).
    Prefix(String),
    /// Replaces every match of the pattern; `\1` groups.
    Regex {
        /// RE2 pattern.
        pattern: String,
        /// Substitution with `\N`.
        substitution: String,
    },
}

/// Host header to the upstream (proxy.md 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostRewrite {
    /// The authority of the chosen destination.
    #[default]
    Upstream,
    /// As it came.
    Preserve,
    /// A literal.
    Literal(String),
    /// The value of a request header.
    Header(http::HeaderName),
    /// From the path, by pattern and substitution.
    PathRegex {
        /// RE2 pattern.
        pattern: String,
        /// Substitution with `\N`.
        substitution: String,
    },
}

/// `rewrite_response_headers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewriteResponseHeader {
    /// Header.
    pub header: http::HeaderName,
    /// Prefix that is replaced; empty prepends.
    pub prefix: String,
    /// Replacement.
    pub value: String,
}

/// TLS to the upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Accept any chain and name.
    pub skip_verify: bool,
    /// SNI and name to verify; the destination host when absent.
    pub server_name: Option<String>,
    /// Roots (PEM) that replace the default ones.
    pub custom_ca: Option<Vec<u8>>,
    /// Client certificate: PEM chain and key.
    pub client_certificate: Option<(Vec<u8>, Secret)>,
}

impl UpstreamTls {
    /// Whether nothing is asked for.
    pub(crate) fn is_plain(&self) -> bool {
        !self.skip_verify
            && self.server_name.is_none()
            && self.custom_ca.is_none()
            && self.client_certificate.is_none()
    }
}
