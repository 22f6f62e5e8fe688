//! The applications a person may open: `/.pomerium/routes` and its JSON twin (spec authentication.md 13).
//!
//! What is shown follows from the policies by a static reading: only rules that hold for the person whatever
//! they request count, those of `sub_policies` among them. A rule about paths or methods neither shows nor hides, nor
//! does a script that allows: what it would say about other requests is not known. A route that a `deny` rule or script
//! keeps the person out of is not shown.

use http::{Method, StatusCode};
use jiff::Timestamp;
use pomerium_authorize::Principal;
use pomerium_config::settings::{HostMatch, PathMatch, RouteKind, RouteSettings};
use pomerium_policy::explain::GroupTree;
use pomerium_policy::ppl::Operator;
use pomerium_policy::{HttpInput, Input, NoHeaders};
use pomerium_web::Response;
use pomerium_web::pages::{self, Portal, PortalRoute};
use serde_json::{Value, json};

use crate::call::Call;
use crate::{Authenticate, Error, reply, service};

/// Criteria that can be judged without a request.
const ABOUT_PEOPLE: [&str; 7] = [
    "accept",
    "authenticated_user",
    "claim",
    "domain",
    "email",
    "groups",
    "user",
];

impl Authenticate {
    /// The page.
    pub(crate) fn portal(&self, call: &Call) -> Result<Response, Error> {
        let routes = self.visible(call)?;
        let routes = routes.into_iter().map(|route| PortalRoute {
            name: display_name(route),
            description: route.description.clone(),
            host: host(route),
            url: Some(address(route)),
            logo_url: Some(route.logo_url.clone()).filter(|url| !url.is_empty()),
            connect_command: None,
        });
        let search = call.query.get("q").unwrap_or_default();
        Ok(pages::portal(
            &Portal {
                search,
                routes: routes.collect(),
            },
            &self.signed_in_frame(call),
        ))
    }

    /// The same as JSON.
    pub(crate) fn portal_json(&self, call: &Call) -> Result<Response, Error> {
        let routes = self.visible(call)?;
        let routes: Vec<Value> = routes.into_iter().map(entry).collect();
        Ok(reply::json(StatusCode::OK, &json!({ "routes": routes })))
    }

    fn visible(&self, call: &Call) -> Result<Vec<&RouteSettings>, Error> {
        if !self.options.flags.routes_portal {
            return Err(Error::NotFound);
        }
        service::only(call, &[Method::GET, Method::HEAD])?;
        let principal = self.require(call)?;
        let shown = |route: &&RouteSettings| opens_in_browser(route) && may_open(route, principal, call.now);
        Ok(self
            .options
            .routes
            .iter()
            .map(AsRef::as_ref)
            .filter(shown)
            .collect())
    }
}

fn opens_in_browser(route: &RouteSettings) -> bool {
    route.kind == RouteKind::Http && matches!(route.hosts, HostMatch::Exact { .. })
}

/// Whether some `allow` rule about people lets the person in and no `deny` rule keeps them out.
fn may_open(route: &RouteSettings, principal: &Principal, now: Timestamp) -> bool {
    let host = host(route);
    let http = HttpInput {
        method: "GET",
        path: "/",
        raw_path: "/",
        query: "",
        host: &host,
        headers: &NoHeaders,
        client_ip: None,
        client_certificate: pomerium_policy::ClientCertificate::default(),
    };
    let tree = route
        .policy
        .explain(&Input::new(Some(&principal.subject), http, now));
    tree.allow.groups.iter().any(lets_in) && !tree.deny.value
}

fn lets_in(group: &GroupTree) -> bool {
    let readable = match group.operator {
        Operator::Or => true,
        Operator::And => group.criteria.len() == 1,
        Operator::Not | Operator::Nor => false,
    };
    let about_people = |name: &str| ABOUT_PEOPLE.contains(&name.split('/').next().unwrap_or(name));
    readable
        && group
            .criteria
            .iter()
            .any(|criterion| about_people(&criterion.criterion) && criterion.holds)
}

fn entry(route: &RouteSettings) -> Value {
    json!({
        "id": route.id,
        "name": display_name(route),
        "type": "http",
        "from": address(route),
        "description": route.description,
        "logo_url": route.logo_url,
    })
}

/// `host[:port]` as in `from`.
fn host(route: &RouteSettings) -> String {
    crate::return_to::authority_of(&route.from).unwrap_or_default()
}

/// Where the application opens: its host, and the path it lives under if that is a fixed one.
fn address(route: &RouteSettings) -> String {
    let origin = route.from.trim_end_matches('/');
    match &route.path {
        PathMatch::Prefix(path) | PathMatch::Exact(path) if path.starts_with('/') => {
            format!("{origin}{path}")
        }
        _ => origin.to_owned(),
    }
}

/// The configured name, or one made from the first label of the host.
fn display_name(route: &RouteSettings) -> String {
    if !route.name.is_empty() {
        return route.name.to_string();
    }
    let host = host(route);
    let label = host.split(['.', ':']).next().unwrap_or_default();
    let mut letters = label.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
