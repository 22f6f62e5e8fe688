//! The pages people see: server-rendered, without inline script or style, readable with scripts off.
//!
//! A page is a small struct with a template in `templates/`; [`render`] turns it into a response with the
//! headers every page carries. Start with [`Frame`]. Words are in `texts`, refusals in [`crate::problem`].

mod account;
mod assets;
mod branding;
mod color;
mod data;
mod device;
mod links;
mod markdown;
mod portal;
mod simple;
mod texts;

use askama::Template;
use http::{HeaderValue, StatusCode, header};

pub use account::{Claim, ClaimValue, Device, Devices, Group, SessionFacts, UserInfo};
pub use assets::{Assets, PREFIX as ASSETS_PREFIX};
pub use branding::Branding;
pub use color::{Color, ColorError};
pub use device::DevicePage;
pub use links::{Span, href, image, prose};
pub use portal::{Portal, PortalRoute};
pub use simple::{Hidden, Message, SignIn, SignOutConfirm, SignedOut};
pub use texts::{EN, Texts};

use crate::{
    body::{self, Response},
    problem::{Outcome, Problem},
};

/// What all pages of one configuration have in common. Made once, shared.
#[derive(Debug)]
pub struct Site {
    /// Name, colours, logo.
    pub branding: Branding,
    /// Stylesheets, script and icon.
    pub assets: Assets,
    /// The language.
    pub texts: Texts,
}

impl Site {
    /// A site in English.
    pub fn new(branding: Branding) -> Self {
        Self {
            assets: Assets::new(&branding),
            branding,
            texts: EN,
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new(Branding::default())
    }
}

/// What is around the content of one page.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Brand, files and words.
    pub site: &'a Site,
    /// Shown small at the foot, for whoever asks for help.
    pub request_id: &'a str,
    /// Links at the top.
    pub nav: Nav,
}

/// The links at the top of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nav {
    /// None: nobody is signed in, or the page is about signing in or out.
    #[default]
    None,
    /// Account and sign out, and applications where the portal is on.
    SignedIn {
        /// The portal is on.
        portal: bool,
    },
}

impl<'a> Frame<'a> {
    /// A frame without links.
    pub fn new(site: &'a Site, request_id: &'a str) -> Self {
        Self {
            site,
            request_id,
            nav: Nav::None,
        }
    }

    /// A frame for somebody who is signed in.
    pub fn signed_in(site: &'a Site, request_id: &'a str, portal: bool) -> Self {
        Self {
            site,
            request_id,
            nav: Nav::SignedIn { portal },
        }
    }

    fn logo(&self) -> Option<&str> {
        self.site.branding.logo_url.as_deref().and_then(image)
    }

    fn icon(&self) -> &str {
        let own = self.site.branding.favicon_url.as_deref().and_then(image);
        own.unwrap_or_else(|| self.site.assets.icon())
    }

    fn portal(&self) -> bool {
        self.nav == Nav::SignedIn { portal: true }
    }

    fn is_signed_in(&self) -> bool {
        self.nav != Nav::None
    }
}

/// Where the forms of a page may lead, redirects of the answer included (browsers check those too).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    /// The page has none that leave this host.
    Here,
    /// Signing in or out goes on to other hosts over TLS.
    Onward,
}

/// The content security policy, with the targets that forms may have.
macro_rules! csp {
    ($forms:literal) => {
        concat!(
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data: https:; form-action ",
            $forms,
            "; frame-ancestors 'none'; base-uri 'none'"
        )
    };
}

/// Renders a page into a response.
pub fn render(page: &dyn askama::DynTemplate, status: StatusCode, forms: Forms) -> Response {
    match page.dyn_render() {
        Ok(html) => respond(status, html, forms),
        // Writing to a string: only a formatter that reports an error by itself gets here.
        Err(_) => body::response(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=UTF-8",
            "Internal error\n",
        ),
    }
}

fn respond(status: StatusCode, html: String, forms: Forms) -> Response {
    let mut response = body::response(status, "text/html; charset=UTF-8", html);
    let headers = response.headers_mut();
    let policy = match forms {
        Forms::Here => csp!("'self'"),
        Forms::Onward => csp!("'self' https:"),
    };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-pomerium-intercepted-response",
        HeaderValue::from_static("true"),
    );
    response
}

/// The page of a refusal or failure.
#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    problem: &'a Problem,
    notice: Vec<Vec<Span<'a>>>,
    traces: Vec<Trace<'a>>,
    data: String,
}

/// A policy's own words, ready for the page.
struct Trace<'a> {
    id: &'a str,
    outcome: Outcome,
    /// HTML of ours.
    explanation: String,
    remediation: String,
}

/// The policies that somebody can be told about: those that have a name or words.
fn traces(problem: &Problem) -> Vec<Trace<'_>> {
    let told = problem
        .traces
        .iter()
        .filter(|trace| !(trace.id.is_empty() && trace.explanation.is_empty()));
    told.map(|trace| Trace {
        id: &trace.id,
        outcome: trace.outcome(),
        explanation: markdown::html(&trace.explanation),
        // There is nothing to mend about a policy that lets people in.
        remediation: match trace.outcome() {
            Outcome::Allows => String::new(),
            Outcome::Denies | Outcome::NotMet => markdown::html(&trace.remediation),
        },
    })
    .collect()
}

/// A refusal as a page, in the status it has.
pub fn error(problem: &Problem, frame: &Frame<'_>) -> Response {
    let notice = frame
        .site
        .branding
        .error_paragraph
        .as_deref()
        .map(prose)
        .unwrap_or_default();
    let page = ErrorPage {
        frame,
        t: &frame.site.texts,
        problem,
        notice,
        traces: traces(problem),
        data: data::of(problem, frame),
    };
    render(&page, problem.status_code(), Forms::Here)
}

/// Who am I (`/.pomerium/`).
pub fn user_info(page: &UserInfo<'_>, frame: &Frame<'_>) -> Response {
    account::page(page, frame)
}

/// Registering or showing a device (`/.pomerium/webauthn`).
pub fn device(page: &DevicePage<'_>, frame: &Frame<'_>) -> Response {
    device::page(page, frame)
}

/// The applications somebody may open (`/.pomerium/routes`).
pub fn portal(page: &Portal<'_>, frame: &Frame<'_>) -> Response {
    portal::page(page, frame)
}

/// The form of the built-in identity provider.
pub fn sign_in(page: &SignIn<'_>, frame: &Frame<'_>) -> Response {
    simple::sign_in(page, frame)
}

/// Sign out: are you sure?
pub fn sign_out_confirm(page: &SignOutConfirm<'_>, frame: &Frame<'_>) -> Response {
    simple::sign_out_confirm(page, frame)
}

/// Signed out.
pub fn signed_out(page: &SignedOut<'_>, frame: &Frame<'_>) -> Response {
    simple::signed_out(page, frame)
}

/// A heading, some sentences, perhaps an action.
pub fn message(page: &Message<'_>, frame: &Frame<'_>) -> Response {
    simple::message(page, frame)
}

#[cfg(test)]
mod tests;
