//! Signing in at the built-in provider, signing out, and pages that only say something.

use askama::Template;
use http::StatusCode;

use super::{Forms, Frame, Texts, href, render};
use crate::{Response, problem::Action};

/// A hidden field of a form.
#[derive(Debug, Clone, Copy)]
pub struct Hidden<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
}

/// The sign-in form. Fields `username` and `password`, posted to `action`.
#[derive(Debug, Clone, Default)]
pub struct SignIn<'a> {
    /// The application that asks: its name, may be empty.
    pub application: &'a str,
    /// The application's host, may be empty.
    pub host: &'a str,
    /// Where the form is posted.
    pub action: &'a str,
    /// What was typed last time.
    pub username: &'a str,
    /// Why the last try failed, in words that do not say which field was wrong.
    pub error: Option<&'a str>,
    /// More fields: the way back, the form token.
    pub hidden: Vec<Hidden<'a>>,
    /// 200, or the status of a failed try (401, 429).
    pub status: Option<u16>,
}

/// The question before signing out; posted to `action`.
#[derive(Debug, Clone, Default)]
pub struct SignOutConfirm<'a> {
    /// Who is signed in, may be empty.
    pub signed_in_as: &'a str,
    /// Where the form is posted.
    pub action: &'a str,
    /// Where "cancel" leads.
    pub cancel: &'a str,
    /// More fields.
    pub hidden: Vec<Hidden<'a>>,
}

/// The end of a session.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignedOut<'a> {
    /// Where to sign in again, when there is such a place.
    pub sign_in_url: Option<&'a str>,
}

/// A heading, some sentences, perhaps actions.
#[derive(Debug, Clone, Default)]
pub struct Message<'a> {
    /// The heading.
    pub title: &'a str,
    /// Sentences, one paragraph each.
    pub paragraphs: Vec<&'a str>,
    /// What to do next; the first is the main one.
    pub actions: Vec<Action>,
    /// 200 unless set.
    pub status: Option<u16>,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    page: &'a SignIn<'a>,
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOutPage<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    page: &'a SignOutConfirm<'a>,
    cancel: &'a str,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    sign_in: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    page: &'a Message<'a>,
}

pub(super) fn sign_in(page: &SignIn<'_>, frame: &Frame<'_>) -> Response {
    let status = code(page.status);
    render(
        &SignInPage {
            frame,
            t: &frame.site.texts,
            page,
        },
        status,
        Forms::Onward,
    )
}

pub(super) fn sign_out_confirm(page: &SignOutConfirm<'_>, frame: &Frame<'_>) -> Response {
    let cancel = href(page.cancel).unwrap_or("/.pomerium/");
    render(
        &SignOutPage {
            frame,
            t: &frame.site.texts,
            page,
            cancel,
        },
        StatusCode::OK,
        Forms::Onward,
    )
}

pub(super) fn signed_out(page: &SignedOut<'_>, frame: &Frame<'_>) -> Response {
    let sign_in = page.sign_in_url.and_then(href);
    render(
        &SignedOutPage {
            frame,
            t: &frame.site.texts,
            sign_in,
        },
        StatusCode::OK,
        Forms::Here,
    )
}

pub(super) fn message(page: &Message<'_>, frame: &Frame<'_>) -> Response {
    render(
        &MessagePage {
            frame,
            t: &frame.site.texts,
            page,
        },
        code(page.status),
        Forms::Here,
    )
}

fn code(status: Option<u16>) -> StatusCode {
    status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::OK)
}
