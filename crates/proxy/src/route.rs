//! A route, compiled: everything that can be worked out before a request comes.

use std::sync::{Arc, OnceLock};

use http::HeaderName;
use http::header::HeaderMap;
use pomerium_api::synced::Parts;
use pomerium_authorize::ClaimHeaders;
use pomerium_authorize::template::Template;
use pomerium_config::settings::{Action, IssuerFormat, Redirect, RouteSettings};
use pomerium_policy::Depends;

use crate::body::Limits;
use crate::headers::host::HostRewriter;
use crate::headers::path::PathRewriter;
use crate::parts;
use crate::snapshot::BuildError;
use crate::throttle::Throttle;
use crate::upstream::Cluster;

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// The settings it was made from.
    pub settings: Arc<RouteSettings>,
    checksum: OnceLock<u64>,
    pub(crate) action: RouteAction,
    pub(crate) path: PathRewriter,
    pub(crate) headers: Arc<HeaderPlan>,
    /// Its policy or its headers look at the client certificate.
    pub(crate) needs_certificate: bool,
    /// What its policy looks at beyond the request and the person.
    pub(crate) depends: Depends,
    /// What its policy or its headers look at of a session, beyond what every decision does.
    pub(crate) session_parts: Parts,
    /// How often it may be asked.
    pub(crate) throttle: Option<Box<Throttle>>,
}

/// What becomes of the headers of a request. Routes with the same options share it.
#[derive(Debug)]
pub(crate) struct HeaderPlan {
    pub(crate) host: HostRewriter,
    pub(crate) templates: Vec<(HeaderName, Template)>,
    pub(crate) needs_assertion: bool,
    pub(crate) forwarded_host: bool,
    pub(crate) claim_headers: ClaimHeaders,
}

/// What an allowed request gets.
#[derive(Debug)]
pub(crate) enum RouteAction {
    Forward(Arc<Cluster>),
    Redirect(Box<Redirect>),
    Respond(Box<(http::StatusCode, bytes::Bytes)>),
}

impl HeaderPlan {
    /// The plan of a route and of all others with its options.
    pub(crate) fn build(settings: &RouteSettings, claim_headers: &ClaimHeaders) -> Result<Self, BuildError> {
        let templates = templates(settings);
        Ok(Self {
            host: HostRewriter::build(settings)?,
            needs_assertion: settings.pass_identity_headers
                || settings.kubernetes_token.is_some()
                || templates.iter().any(|(_, template)| template.uses_assertion()),
            forwarded_host: !settings
                .remove_request_headers
                .iter()
                .any(|name| name == "x-forwarded-host"),
            claim_headers: claim_headers.clone(),
            templates,
        })
    }
}

/// The request headers that a route sets.
pub(crate) fn templates(settings: &RouteSettings) -> Vec<(HeaderName, Template)> {
    settings
        .set_request_headers
        .iter()
        .map(|(name, value)| (name.clone(), Template::parse(value)))
        .collect()
}

impl Route {
    pub(crate) fn build(
        settings: &Arc<RouteSettings>,
        headers: Arc<HeaderPlan>,
        cluster: Option<Arc<Cluster>>,
        throttle: Option<Throttle>,
    ) -> Result<Self, BuildError> {
        let action = match (&settings.action, cluster) {
            (Action::Redirect(redirect), _) => RouteAction::Redirect(redirect.clone()),
            (Action::Respond { status, body }, _) => {
                let status = http::StatusCode::from_u16(*status).map_err(|_| BuildError::Action {
                    route: settings.from.to_string(),
                })?;
                RouteAction::Respond(Box::new((status, bytes::Bytes::copy_from_slice(body.as_bytes()))))
            }
            (Action::Forward(_), Some(cluster)) => RouteAction::Forward(cluster),
            (Action::Forward(_), None) => {
                return Err(BuildError::Action {
                    route: settings.from.to_string(),
                });
            }
        };
        let shown = |(_, template): &(HeaderName, Template)| template.uses_certificate();
        let depends = settings.policy.depends();
        Ok(Self {
            action,
            path: PathRewriter::build(settings)?,
            session_parts: parts::of_route(&headers.templates, depends),
            depends,
            needs_certificate: settings.policy.needs_certificate() || headers.templates.iter().any(shown),
            headers,
            throttle: throttle.map(Box::new),
            checksum: OnceLock::new(),
            settings: settings.clone(),
        })
    }

    /// Changes when anything about the route changes; for the logs, which seldom ask: worked out then.
    pub(crate) fn checksum(&self) -> u64 {
        // Over the printed form, in which secrets are placeholders.
        *self
            .checksum
            .get_or_init(|| xxhash_rust::xxh3::xxh3_64(format!("{:?}", self.settings).as_bytes()))
    }

    /// Where it forwards to.
    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.action {
            RouteAction::Forward(cluster) => Some(cluster),
            RouteAction::Redirect(_) | RouteAction::Respond(_) => None,
        }
    }

    pub(crate) fn cluster_name(&self) -> &str {
        match &self.action {
            RouteAction::Forward(cluster) => &cluster.name,
            RouteAction::Redirect(_) | RouteAction::Respond(_) => "",
        }
    }

    /// `jwt_issuer_format: uri`.
    pub(crate) fn issuer_is_uri(&self) -> bool {
        self.settings.jwt_issuer_format == IssuerFormat::Uri
    }

    /// The identity provider a session must belong to.
    pub(crate) fn idp_id(&self) -> Option<&str> {
        self.settings.idp.as_ref().map(|idp| idp.id.as_str())
    }

    /// Whether it admits the same people for the same requests as `other`, by what both say.
    pub(crate) fn admits_like(&self, other: &Self) -> bool {
        let (one, two) = (&self.settings, &other.settings);
        self.idp_id() == other.idp_id()
            && one.downstream_ca == two.downstream_ca
            && format!("{:?}", one.policy) == format!("{:?}", two.policy)
    }

    /// Whether an upgrade to `protocol` (lower case) is let through.
    pub(crate) fn upgrades_to(&self, protocol: &str) -> bool {
        self.settings.upgrades.iter().any(|allowed| allowed == protocol)
    }

    pub(crate) fn limits(&self, defaults: Limits) -> Limits {
        Limits {
            response: self.settings.timeout,
            idle: self.settings.idle_timeout,
            ..defaults
        }
    }

    /// Sets the response headers of the route.
    pub(crate) fn set_response_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in self.settings.set_response_headers.iter() {
            headers.insert(name.clone(), value.clone());
        }
    }
}
