//! One version of everything a request is served by. Built aside, swapped in whole, never changed.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use pomerium_api::synced::Parts;
use pomerium_authorize::{ClaimHeaders, GeoIp, GeoIpError};
use pomerium_config::settings::{
    Action, Codec, EscapedSlashAction, HttpSettings, RateLimit, RouteKind, RouteOptions, RouteSettings,
    Settings, Timeouts, UnderscoreAction,
};
use pomerium_config::spec::re2;
use pomerium_web::canonical::{EscapedSlashes, ManagedHeaders, Rules, Underscores};
use pomerium_web::cookies::OwnCookies;
use regex::Regex;

use crate::access_log::LogPlan;
use crate::body::Limits;
use crate::client_tls::ClientTrusts;
use crate::decision::{DecisionError, DecisionPlan, Reading};
use crate::flow::reply::Pages;
use crate::parts;
use crate::route::{HeaderPlan, Route};
use crate::router::{PatternError, RouteTable};
use crate::throttle::Throttles;
use crate::upstream::{Cluster, Clusters, Roots, TlsError, UpstreamSettings};

/// Why settings make no snapshot. The settings were validated; what is left are texts that only the
/// engines here read.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A host or path pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// One route, by its id; the others may be fine.
    #[error("{source}")]
    Route {
        /// `id` of the route.
        id: String,
        /// What is wrong.
        source: Box<BuildError>,
    },
    /// A rewrite pattern.
    #[error("route {route}: the pattern {pattern:?} cannot be used: {source}")]
    Rewrite {
        /// `from` of the route.
        route: String,
        /// The pattern.
        pattern: String,
        /// What the engine says.
        source: Box<regex::Error>,
    },
    /// A host that cannot stand in a header.
    #[error("route {route}: {host:?} is no host")]
    Host {
        /// `from` of the route.
        route: String,
        /// The host.
        host: String,
    },
    /// An action that cannot be carried out.
    #[error("route {route}: its action cannot be carried out")]
    Action {
        /// `from` of the route.
        route: String,
    },
    /// TLS to an upstream.
    #[error("route {route}: {source}")]
    Tls {
        /// `from` of the route.
        route: String,
        /// What is wrong.
        source: TlsError,
    },
    /// Client certificates.
    #[error(transparent)]
    ClientTrust(#[from] pomerium_certs::client::TrustError),
    /// The listener for other proxies.
    #[error("decision_listener: {0}")]
    Decision(#[from] DecisionError),
    /// The GeoIP database.
    #[error(transparent)]
    GeoIp(#[from] GeoIpError),
    /// A global response header that cannot be sent.
    #[error("set_response_headers: {0:?} cannot be sent as a header")]
    ResponseHeader(String),
}

impl BuildError {
    pub(crate) fn regex(route: &str, pattern: &str) -> Result<Regex, Self> {
        re2::compile(pattern).map_err(|source| Self::Rewrite {
            route: route.to_owned(),
            pattern: pattern.to_owned(),
            source: Box::new(source),
        })
    }
}

/// Routes, rules and limits of one configuration.
pub struct Snapshot {
    /// Routes in order of evaluation.
    pub routes: Vec<Arc<Route>>,
    /// Which of them answers.
    pub table: RouteTable,
    /// Protocols offered to clients.
    pub codec: Codec,
    /// Downstream timeouts.
    pub timeouts: Timeouts,
    /// Plain HTTP on the main listener.
    pub(crate) insecure: bool,
    /// HTTP/3 is served beside TCP.
    pub(crate) http3: bool,
    /// The port that clients are told for HTTP/3, where it is another one than the socket's.
    pub(crate) http3_port: Option<u16>,
    /// Connections begin with a PROXY protocol header.
    pub(crate) proxy_protocol: bool,
    pub(crate) rules: Rules,
    pub(crate) own_cookies: OwnCookies,
    pub(crate) cookie_name: String,
    pub(crate) access_log: LogPlan,
    pub(crate) authorize_log: crate::flow::record::AuthorizePlan,
    pub(crate) response_headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) pages: Pages,
    /// The listener for other proxies, when there is one.
    pub(crate) decision: Option<DecisionPlan>,
    /// How what other services of the installation ask about is read; absent where they cannot ask.
    pub(crate) services_reading: Option<Reading>,
    /// Client certificates, when any host asks for them.
    pub(crate) clients: Option<ClientTrusts>,
    pub(crate) upstreams: UpstreamSettings,
    /// Where addresses are.
    pub(crate) geoip: Option<Arc<GeoIp>>,
    /// The claim that names groups where the directory does not know somebody.
    pub(crate) groups_claim: String,
    /// Routes that name no provider take sessions of any: this process does not sign people in and does not know
    /// how that is done.
    pub(crate) any_provider: bool,
    /// Whether this process forwards requests of its own listeners.
    pub(crate) forwards: bool,
    session_parts: Parts,
    claim_headers: ClaimHeaders,
    rate_limit: Option<RateLimit>,
    roots: Arc<Roots>,
    throttles: Arc<Throttles>,
}

/// The routes that this process answers for. One that only signs people in knows routes for their names alone.
fn routes(settings: &Settings) -> &[Arc<RouteSettings>] {
    let asked = settings.decision.is_some() || settings.internal.listener.is_some();
    let judges = settings.services.authorize && asked;
    if settings.services.proxy || judges {
        &settings.routes
    } else {
        &[]
    }
}

impl Snapshot {
    /// Compiles `settings`. `previous` lends what has not changed, so that upstream connections of
    /// untouched routes live on.
    ///
    /// Errors name the route; the running snapshot is not touched by a failed build.
    pub fn build(settings: &Settings, previous: Option<&Self>) -> Result<Self, BuildError> {
        let authenticate: Vec<_> = if settings.services.authenticate {
            vec![
                settings.authenticate.url.clone(),
                settings.authenticate.internal_url.clone(),
            ]
        } else {
            Vec::new()
        };
        let any_port = settings.runtime_flags.match_any_incoming_port;
        let running = previous.map(|previous| &previous.table);
        let table = RouteTable::rebuild(running, routes(settings), &authenticate, any_port)?;
        let known_clients = previous.and_then(|previous| previous.clients.as_ref());
        let clients = ClientTrusts::build(settings, known_clients)?;
        let known_geoip = previous.and_then(|previous| previous.geoip.as_ref());
        let geoip = settings
            .geoip_database
            .as_deref()
            .map(|path| GeoIp::open(path, known_geoip))
            .transpose()?;
        let claim_headers: ClaimHeaders = settings.identity_headers.claims.clone().into();
        let rules = rules(&settings.http, &claim_headers);
        let decision = decision(settings, &rules, &claim_headers, previous)?;
        let services_reading = (settings.services.authorize && settings.internal.listener.is_some())
            .then(|| Reading::of_services(&rules, &claim_headers));
        let throttles = previous.map_or_else(Arc::default, |previous| previous.throttles.clone());
        let previous = previous.filter(|previous| previous.roots.extra == settings.extra_roots);
        let roots = previous.map_or_else(
            || Arc::new(Roots::new(&settings.extra_roots)),
            |previous| previous.roots.clone(),
        );
        let alike = previous.filter(|previous| {
            previous.claim_headers == claim_headers && previous.rate_limit == settings.rate_limit
        });
        warn_of_unverified(&settings.routes);
        let kept = Kept::new(alike.map_or(&[], |alike| &alike.routes));
        let mut headers = HeaderPlans::default();
        let mut clusters = None;
        let mut routes = Vec::with_capacity(settings.routes.len());
        for (index, route) in settings.routes.iter().enumerate() {
            if let Some(same) = kept.same(index, route) {
                routes.push(same.clone());
                continue;
            }
            let clusters = clusters.get_or_insert_with(|| {
                let running = previous.into_iter().flat_map(Self::clusters);
                Clusters::new(&roots, running)
            });
            let throttle = throttles.of_route(&route.id, route.rate_limit, settings.rate_limit);
            let built = cluster(route, clusters).and_then(|cluster| {
                let headers = headers.of(route, &claim_headers)?;
                Route::build(route, headers, cluster, throttle)
            });
            let built = built.map_err(|source| BuildError::Route {
                id: route.id.to_string(),
                source: Box::new(source),
            })?;
            routes.push(Arc::new(built));
        }
        drop(clusters);
        Ok(Self {
            session_parts: parts::of_all(routes.iter().map(Arc::as_ref), &settings.log.authorize_fields),
            routes,
            table,
            codec: settings.listener.codec,
            timeouts: settings.timeouts.clone(),
            insecure: settings.listener.insecure,
            http3: serves_http3(settings),
            http3_port: settings.listener.http3_port,
            proxy_protocol: settings.listener.proxy_protocol,
            rules,
            decision,
            services_reading,
            own_cookies: OwnCookies::new(&settings.cookie.name),
            cookie_name: settings.cookie.name.clone(),
            access_log: LogPlan::new(&settings.log),
            authorize_log: crate::flow::record::AuthorizePlan::new(&settings.log),
            response_headers: response_headers(&settings.response_headers)?,
            pages: Pages::new(settings),
            clients,
            upstreams: UpstreamSettings {
                dns: settings.dns.clone(),
                bind: settings.upstream_bind,
            },
            geoip,
            groups_claim: settings.groups_claim.clone(),
            forwards: settings.services.proxy,
            any_provider: !settings.services.authenticate && settings.authenticate.idp.is_none(),
            claim_headers,
            rate_limit: settings.rate_limit,
            roots,
            throttles,
        })
    }

    /// What requests read of sessions, beyond what every decision looks at.
    pub fn session_parts(&self) -> Parts {
        self.session_parts
    }

    /// The upstreams of all routes.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.routes.iter().filter_map(|route| route.cluster())
    }

    /// How pages look; sign-in shows the same ones.
    pub fn site(&self) -> Arc<pomerium_web::pages::Site> {
        self.pages.site.clone()
    }

    /// Limits of a request before its route is known.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            request: self.timeouts.read,
            total: self.timeouts.write,
            response: None,
            idle: None,
        }
    }
}

/// Routes of the running snapshot that serve the next one as they are: those whose settings are the same
/// object, which the loader sees to where nothing was written differently.
struct Kept<'a> {
    routes: &'a [Arc<Route>],
    /// Where they are not at their old position.
    moved: OnceCell<HashMap<*const RouteSettings, &'a Arc<Route>>>,
}

impl<'a> Kept<'a> {
    fn new(routes: &'a [Arc<Route>]) -> Self {
        Self {
            routes,
            moved: OnceCell::new(),
        }
    }

    fn same(&self, index: usize, settings: &Arc<RouteSettings>) -> Option<&'a Arc<Route>> {
        let here = self.routes.get(index);
        if let Some(here) = here.filter(|here| Arc::ptr_eq(&here.settings, settings)) {
            return Some(here);
        }
        let moved = self.moved.get_or_init(|| {
            let routes = self.routes.iter();
            routes
                .map(|route| (Arc::as_ptr(&route.settings), route))
                .collect()
        });
        moved.get(&Arc::as_ptr(settings)).copied()
    }
}

/// Plans by the options of their routes, which stay where they are while a snapshot is built.
#[derive(Default)]
struct HeaderPlans(HashMap<*const RouteOptions, Arc<HeaderPlan>>);

impl HeaderPlans {
    fn of(&mut self, route: &RouteSettings, claims: &ClaimHeaders) -> Result<Arc<HeaderPlan>, BuildError> {
        let key = Arc::as_ptr(&route.options);
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let plan = Arc::new(HeaderPlan::build(route, claims)?);
        self.0.insert(key, plan.clone());
        Ok(plan)
    }
}

/// Says so at each load, also of routes that have not changed.
fn warn_of_unverified(routes: &[Arc<RouteSettings>]) {
    for route in routes {
        if route.upstream_tls.skip_verify && matches!(route.action, Action::Forward(_)) {
            tracing::warn!(
                route = route.from,
                "tls_skip_verify: the upstream of this route is not verified; anyone between here and there can read and change its traffic"
            );
        }
    }
}

fn cluster(route: &RouteSettings, clusters: &mut Clusters<'_>) -> Result<Option<Arc<Cluster>>, BuildError> {
    let Action::Forward(destinations) = &route.action else {
        return Ok(None);
    };
    if route.kind != RouteKind::Http {
        return Err(BuildError::Action {
            route: route.from.to_string(),
        });
    }
    clusters
        .intern(route, destinations)
        .map(Some)
        .map_err(|source| BuildError::Tls {
            route: route.from.to_string(),
            source,
        })
}

fn decision(
    settings: &Settings,
    rules: &Rules,
    claims: &ClaimHeaders,
    previous: Option<&Snapshot>,
) -> Result<Option<DecisionPlan>, DecisionError> {
    let previous = previous.and_then(|previous| previous.decision.as_ref());
    let build = |settings| DecisionPlan::build(settings, rules, claims, previous);
    settings.decision.as_ref().map(build).transpose()
}

fn rules(http: &HttpSettings, claim_headers: &ClaimHeaders) -> Rules {
    Rules {
        underscores: match http.underscores {
            UnderscoreAction::Allow => Underscores::Allow,
            UnderscoreAction::Reject => Underscores::Reject,
            UnderscoreAction::Drop => Underscores::Drop,
        },
        merge_slashes: http.merge_slashes,
        normalize_path: http.normalize_path,
        escaped_slashes: match http.escaped_slashes {
            EscapedSlashAction::Keep => EscapedSlashes::Keep,
            EscapedSlashAction::Reject => EscapedSlashes::Reject,
            EscapedSlashAction::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            EscapedSlashAction::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
        skip_xff_append: http.skip_xff_append,
        xff_trusted_hops: http.xff_trusted_hops as usize,
        trusted: http.trusted_proxies.clone(),
        managed: ManagedHeaders::new(claim_headers.iter().map(|(name, _)| name.as_str())),
        ..Rules::default()
    }
}

fn response_headers(settings: &[(String, String)]) -> Result<Vec<(HeaderName, HeaderValue)>, BuildError> {
    let header = |(name, value): &(String, String)| {
        let refused = || BuildError::ResponseHeader(name.clone());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        Ok((name, HeaderValue::from_str(value).map_err(|_| refused())?))
    };
    settings.iter().map(header).collect()
}

/// HTTP/3 needs TLS.
fn serves_http3(settings: &Settings) -> bool {
    let listener = &settings.listener;
    listener.codec == Codec::Http3 && !listener.insecure
}
