//! Registering a device, or showing one that was registered before. The browser asks the device, which takes a
//! script; without one the page says so.

use askama::Template;
use http::StatusCode;
use serde_json::Value;

use super::{Forms, Frame, Texts, data, render};
use crate::Response;

/// The page's content. The form is posted to `action` with the answer of the browser in a field.
#[derive(Debug, Clone, Copy)]
pub struct DevicePage<'a> {
    /// The application that asks: its name, or its host.
    pub application: &'a str,
    /// Where the form is posted.
    pub action: &'a str,
    /// What the browser is given for a new key.
    pub creation: &'a Value,
    /// What it is given for a key that it has; none when the person has registered no device of this type.
    pub request: Option<&'a Value>,
    /// Whether the key has to stay in the device itself.
    pub own_device: bool,
}

#[derive(Template)]
#[template(path = "device.html")]
struct Page<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    page: &'a DevicePage<'a>,
    creation: String,
    request: Option<String>,
}

pub(super) fn page(page: &DevicePage<'_>, frame: &Frame<'_>) -> Response {
    let page = Page {
        frame,
        t: &frame.site.texts,
        page,
        creation: data::inert(&page.creation.to_string()),
        request: page.request.map(|request| data::inert(&request.to_string())),
    };
    render(&page, StatusCode::OK, Forms::Onward)
}
