//! The applications somebody may open.

use askama::Template;
use http::StatusCode;

use super::{Forms, Frame, Texts, account::initial, href, image, render};
use crate::Response;

/// One application.
#[derive(Debug, Clone, Default)]
pub struct PortalRoute {
    /// Its name.
    pub name: String,
    /// A sentence about it, may be empty.
    pub description: String,
    /// `host` or `host:port`.
    pub host: String,
    /// Where it opens in a browser; none for tunnels.
    pub url: Option<String>,
    /// Its logo.
    pub logo_url: Option<String>,
    /// The command that opens a tunnel.
    pub connect_command: Option<String>,
}

/// The page's content: only what the person may know of.
#[derive(Debug, Clone, Default)]
pub struct Portal<'a> {
    /// What was searched for, may be empty.
    pub search: &'a str,
    /// All applications of this person; the page keeps those that match.
    pub routes: Vec<PortalRoute>,
}

#[derive(Template)]
#[template(path = "portal.html")]
struct Page<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    search: &'a str,
    any: bool,
    routes: Vec<Row<'a>>,
}

struct Row<'a> {
    route: &'a PortalRoute,
    url: Option<&'a str>,
    logo: Option<&'a str>,
    initial: String,
}

pub(super) fn page(page: &Portal<'_>, frame: &Frame<'_>) -> Response {
    let wanted = page.search.trim().to_lowercase();
    let routes = page
        .routes
        .iter()
        .filter(|route| matches(route, &wanted))
        .map(row)
        .collect();
    let any = !page.routes.is_empty();
    let page = Page {
        frame,
        t: &frame.site.texts,
        search: page.search,
        any,
        routes,
    };
    render(&page, StatusCode::OK, Forms::Here)
}

fn row(route: &PortalRoute) -> Row<'_> {
    Row {
        route,
        url: route.url.as_deref().and_then(href),
        logo: route.logo_url.as_deref().and_then(image),
        initial: initial(&route.name),
    }
}

fn matches(route: &PortalRoute, wanted: &str) -> bool {
    let texts = [&route.name, &route.description, &route.host];
    wanted.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(wanted))
}
