//! Chromium, driven by `tests/node/browser.mjs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::Mutex;

use crate::{Network, Program, tools};

/// A running browser. Pages of different people share the process and nothing else.
#[derive(Debug, Clone)]
pub struct Browser {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: Program,
    stdin: Mutex<ChildStdin>,
    next: AtomicU64,
    _steady: Network,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Width of the window in CSS pixels.
    pub width: u32,
    /// Dark colour scheme.
    pub dark: bool,
    /// Whether scripts run.
    pub scripts: bool,
}

impl Look {
    /// A desktop window, light.
    pub const DESKTOP: Look = Look {
        width: 1280,
        dark: false,
        scripts: true,
    };
    /// A phone, light.
    pub const PHONE: Look = Look {
        width: 390,
        dark: false,
        scripts: true,
    };

    /// The four looks that every page is judged in.
    pub const ALL: [Look; 4] = [
        Look::DESKTOP,
        Look {
            dark: true,
            ..Look::DESKTOP
        },
        Look::PHONE,
        Look {
            dark: true,
            ..Look::PHONE
        },
    ];

    /// A name for files: `390-dark`.
    pub fn name(self) -> String {
        format!("{}-{}", self.width, if self.dark { "dark" } else { "light" })
    }
}

/// One window of one person.
#[derive(Debug)]
pub struct Page {
    browser: Browser,
    id: u64,
}

impl Browser {
    /// Starts Chromium.
    ///
    /// # Errors
    /// Node, its packages or Chromium are missing.
    pub async fn start() -> Result<Browser> {
        Self::start_with(Value::Null).await
    }

    /// Starts Chromium for HTTP/3: `origins` (`host:port`, separated by commas) are asked over QUIC and nothing
    /// else. `spki` is the SHA-256 of the key of their certificate, in base64: over QUIC no other is accepted.
    ///
    /// # Errors
    /// Node, its packages or Chromium are missing.
    pub async fn start_with_http3(origins: &str, spki: &str) -> Result<Browser> {
        Self::start_with(json!({ "origins": origins, "spki": spki })).await
    }

    async fn start_with(quic: Value) -> Result<Browser> {
        let options = json!({ "chromium": tools::find("chromium")?, "patience": 20_000, "quic": quic });
        let steady = Network::steady().await?;
        let mut command = tools::node("browser.mjs")?;
        command.env("BROWSER_OPTIONS", options.to_string());
        let mut program = Program::start(command)?;
        let stdin = Mutex::new(program.take_stdin().context("no standard input")?);
        program
            .output()
            .wait_json(0, "the browser's start", |line| line["ready"] == true)
            .await?;
        Ok(Browser {
            inner: Arc::new(Inner {
                program,
                stdin,
                next: AtomicU64::new(1),
                _steady: steady,
            }),
        })
    }

    /// Opens a window for a new person.
    ///
    /// # Errors
    /// The browser has ended.
    pub async fn open(&self, look: Look) -> Result<Page> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let page = Page {
            browser: self.clone(),
            id,
        };
        let height = if look.width < 600 { 844 } else { 800 };
        page.ask(
            "open",
            json!({ "width": look.width, "height": height, "dark": look.dark, "scripts": look.scripts }),
        )
        .await?;
        Ok(page)
    }

    async fn ask(&self, mut request: Value) -> Result<Value> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        request["id"] = id.into();
        let mark = self.inner.program.output().mark();
        self.inner
            .stdin
            .lock()
            .await
            .write_all(format!("{request}\n").as_bytes())
            .await?;
        let answer = self
            .inner
            .program
            .output()
            .wait_json(mark, "the browser's answer", |line| line["id"] == id)
            .await?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{}: {error}", request["do"]);
        }
        Ok(answer["value"].clone())
    }
}

impl Page {
    async fn ask(&self, action: &str, mut request: Value) -> Result<Value> {
        request["do"] = action.into();
        request["page"] = self.id.into();
        self.browser.ask(request).await
    }

    /// Goes to a URL and follows redirects; returns the status and the URL of where it ends.
    ///
    /// # Errors
    /// Nothing loads.
    pub async fn goto(&self, url: &str) -> Result<(u16, String)> {
        let reached = self.ask("goto", json!({ "url": url })).await?;
        let status = reached["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or_default();
        Ok((status, reached["url"].as_str().unwrap_or_default().to_owned()))
    }

    /// Types into the first field that matches.
    ///
    /// # Errors
    /// There is none.
    pub async fn fill(&self, selector: &str, value: &str) -> Result<()> {
        self.ask("fill", json!({ "selector": selector, "value": value }))
            .await
            .map(drop)
    }

    /// Clicks the first element that matches.
    ///
    /// # Errors
    /// There is none.
    pub async fn click(&self, selector: &str) -> Result<()> {
        self.ask("click", json!({ "selector": selector })).await.map(drop)
    }

    /// Clicks, waits for the page that it leads to, returns its URL.
    ///
    /// # Errors
    /// There is no such element, or nothing loads.
    pub async fn follow(&self, selector: &str) -> Result<String> {
        self.ask("follow", json!({ "selector": selector }))
            .await
            .map(text)
    }

    /// Fills in the sign-in form of the page and sends it.
    ///
    /// # Errors
    /// The page has no such form.
    pub async fn sign_in(&self, user: &str, password: &str) -> Result<String> {
        self.fill("input[autocomplete~=username]", user).await?;
        self.fill("input[type=password]", password).await?;
        self.follow("form:has(input[type=password]) button[type=submit]")
            .await
    }

    /// Waits until the URL contains a text.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn wait_for_url(&self, contains: &str) -> Result<String> {
        self.ask("waitForUrl", json!({ "contains": contains }))
            .await
            .map(text)
    }

    /// Waits until an element is there.
    ///
    /// # Errors
    /// It does not come.
    pub async fn wait_for(&self, selector: &str) -> Result<()> {
        self.ask("waitFor", json!({ "selector": selector }))
            .await
            .map(drop)
    }

    /// The text of the first element that matches, as it is shown.
    ///
    /// # Errors
    /// There is none.
    pub async fn text(&self, selector: &str) -> Result<String> {
        self.ask("text", json!({ "selector": selector })).await.map(text)
    }

    /// How many elements match.
    ///
    /// # Errors
    /// The browser has ended.
    pub async fn count(&self, selector: &str) -> Result<u64> {
        Ok(self
            .ask("count", json!({ "selector": selector }))
            .await?
            .as_u64()
            .unwrap_or_default())
    }

    /// The current URL.
    ///
    /// # Errors
    /// The browser has ended.
    pub async fn url(&self) -> Result<String> {
        self.ask("url", json!({})).await.map(text)
    }

    /// Runs a script in the page; promises are awaited.
    ///
    /// # Errors
    /// It throws.
    pub async fn evaluate(&self, script: &str) -> Result<Value> {
        self.ask("evaluate", json!({ "script": script })).await
    }

    /// Every cookie of this person.
    ///
    /// # Errors
    /// The browser has ended.
    pub async fn cookies(&self) -> Result<Vec<Value>> {
        Ok(self
            .ask("cookies", json!({}))
            .await?
            .as_array()
            .cloned()
            .unwrap_or_default())
    }

    /// Errors of scripts and of the content security policy since the last call.
    ///
    /// # Errors
    /// The browser has ended.
    pub async fn messages(&self) -> Result<Vec<String>> {
        let found = self.ask("messages", json!({})).await?;
        Ok(found
            .as_array()
            .into_iter()
            .flatten()
            .cloned()
            .map(text)
            .collect())
    }

    /// Gives the page a device that answers at once: a key that is carried around, or one `inside` the device.
    /// `credentials` are keys it holds already, from [`Page::credentials`] of another page.
    ///
    /// # Errors
    /// The browser has none.
    pub async fn add_authenticator(&self, inside: bool, credentials: &[Value]) -> Result<()> {
        let request = json!({ "inside": inside, "credentials": credentials });
        self.ask("addAuthenticator", request).await.map(drop)
    }

    /// The keys that the page's device holds.
    ///
    /// # Errors
    /// The page has no device.
    pub async fn credentials(&self) -> Result<Vec<Value>> {
        let found = self.ask("credentials", json!({})).await?;
        Ok(found.as_array().cloned().unwrap_or_default())
    }

    /// Keeps a picture of the whole page as `tests/artifacts/<name>.png`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn screenshot(&self, name: &str) -> Result<()> {
        let path = tools::artifacts()?.join(format!("{name}.png"));
        self.ask("screenshot", json!({ "path": path })).await.map(drop)
    }

    /// What axe finds, one line each; empty is good.
    ///
    /// # Errors
    /// axe does not run.
    pub async fn axe(&self) -> Result<Vec<String>> {
        let found = self.ask("axe", json!({})).await?;
        Ok(found
            .as_array()
            .into_iter()
            .flatten()
            .cloned()
            .map(text)
            .collect())
    }

    /// How many pixels have to be scrolled sideways.
    ///
    /// # Errors
    /// The browser has ended.
    pub async fn overflow(&self) -> Result<u64> {
        Ok(self
            .ask("overflow", json!({}))
            .await?
            .as_u64()
            .unwrap_or_default())
    }

    /// Closes the window and forgets the person.
    ///
    /// # Errors
    /// The browser has ended.
    pub async fn close(self) -> Result<()> {
        self.ask("close", json!({})).await.map(drop)
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
