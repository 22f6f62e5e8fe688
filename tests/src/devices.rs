//! The page that asks for a device, as a program reads it, and records of devices.

use anyhow::{Context, Result, ensure};
use http::Method;
use pomerium_api::databroker::Record;
use pomerium_api::pb::device::Enrollment;
use pomerium_api::records::to_record;
use pomerium_crypto::query::Query;
use pomerium_testing::{Answering, Client, Reply, SoftKey};
use serde_json::Value;

/// What the page asks.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Where the answer goes, absolute.
    pub action: String,
    /// For a new key.
    pub creation: Value,
    /// For a key that is known.
    pub request: Option<Value>,
}

impl Asked {
    /// Reads the page.
    pub fn of(page: &Reply) -> Result<Asked> {
        ensure!(page.status == 200, "{}: {}", page.status, page.text());
        let html = page.text();
        let form = between(&html, "<form id=\"device\"", ">").context("no form")?;
        let action = between(form, "action=\"", "\"")
            .context("no action")?
            .replace("&#38;", "&");
        let block = |id: &str| between(&html, &format!("id=\"device-{id}\">"), "</script>");
        let request = block("authenticate").map(serde_json::from_str);
        Ok(Asked {
            action: page.url.join(&action)?.to_string(),
            creation: serde_json::from_str(block("register").context("no options")?)?,
            request: request.transpose()?,
        })
    }

    /// Posts an answer, as the page does.
    pub async fn post(&self, client: &Client, act: &str, answer: &Value) -> Result<Reply> {
        let field = if act == "register" {
            "register_response"
        } else {
            "authenticate_response"
        };
        post(
            client,
            &self.action,
            &[("action", act), (field, &answer.to_string())],
        )
        .await
    }

    /// Registers `key` as the page would.
    pub async fn register(&self, client: &Client, key: &SoftKey) -> Result<Reply> {
        let answer = key.create(&self.creation, &Answering::at(&origin(&self.action)))?;
        self.post(client, "register", &answer).await
    }

    /// Shows `key` as the page would.
    pub async fn show(&self, client: &Client, key: &SoftKey) -> Result<Reply> {
        let request = self.request.as_ref().context("the page knows no device")?;
        let answer = key.get(request, &Answering::at(&origin(&self.action)))?;
        self.post(client, "authenticate", &answer).await
    }
}

/// Posts a form to a page of ours, as a browser on that page.
pub async fn post(client: &Client, url: &str, fields: &[(&str, &str)]) -> Result<Reply> {
    let mut form = Query::new();
    for (name, value) in fields {
        form.set(name, value);
    }
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "text/html"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-site", "same-origin"),
        ("user-agent", "Browser of a test"),
    ];
    client.send(Method::POST, url, &headers, form.encode()).await
}

/// Scheme and authority of a URL.
pub fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// An enrollment that an administrator made for somebody.
pub fn enrollment(id: &str, user_id: &str, type_id: &str, approved_by: &str) -> Record {
    to_record(&Enrollment {
        id: id.into(),
        user_id: user_id.into(),
        type_id: type_id.into(),
        approved_by: approved_by.into(),
        ..Enrollment::default()
    })
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}
