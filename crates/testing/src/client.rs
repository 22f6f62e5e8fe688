//! An HTTP client as a person's browser without scripts: cookies, redirects, forms; every host is
//! 127.0.0.1.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

mod form;
mod jar;

use form::Form;
use jar::Jar;

/// How a [`Client`] is set up.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// The authority to trust, PEM; none means no TLS.
    pub authority_pem: Option<String>,
    /// Speak HTTP/1.1 only; otherwise HTTP/2 when offered.
    pub http1_only: bool,
    /// The local address to connect from.
    pub source: Option<IpAddr>,
    /// The port behind URLs that name none.
    pub port: Option<u16>,
    /// Take any certificate.
    pub trust_anyone: bool,
    /// A new connection for each request.
    pub connection_each: bool,
}

/// A client with a cookie jar. Redirects are only followed by [`Client::follow`].
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    jar: Mutex<Jar>,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Where it came from.
    pub url: Url,
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// The redirects that led here, each a URL asked for, in order.
    pub hops: Vec<Url>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Location`, resolved against the URL.
    pub fn location(&self) -> Option<Url> {
        self.url.join(self.header("location")?).ok()
    }
}

/// Every name is this machine; the port counts where the URL names none.
#[derive(Debug)]
struct Loopback(u16);

impl Resolve for Loopback {
    fn resolve(&self, _name: Name) -> Resolving {
        let address: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], self.0))));
        Box::pin(std::future::ready(Ok(address)))
    }
}

impl Client {
    /// A client with an empty jar.
    ///
    /// # Errors
    /// The authority is not PEM.
    pub fn new(options: &ClientOptions) -> Result<Client> {
        crate::install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Loopback(options.port.unwrap_or(0))))
            .local_address(options.source)
            .timeout(crate::PATIENCE);
        if options.http1_only {
            builder = builder.http1_only().http1_title_case_headers();
        }
        if options.connection_each {
            builder = builder.http1_only().pool_max_idle_per_host(0);
        }
        let roots = options
            .authority_pem
            .as_deref()
            .map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()));
        builder = builder
            .tls_certs_only(roots.transpose()?)
            .danger_accept_invalid_certs(options.trust_anyone);
        Ok(Client {
            http: builder.build()?,
            jar: Mutex::default(),
        })
    }

    /// Asks once; cookies are sent and kept, redirects are not followed.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, url: &str) -> Result<Reply> {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }

    /// As [`Client::get`], with headers.
    ///
    /// # Errors
    /// No answer.
    pub async fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    /// Any request; cookies are sent and kept.
    ///
    /// # Errors
    /// No answer.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<Reply> {
        let url = Url::parse(url).with_context(|| format!("not a URL: {url}"))?;
        let mut request = self.http.request(method, url.clone()).body(body);
        if let Some(cookies) = self.jar.lock().header(&url) {
            request = request.header("cookie", cookies);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("no answer from {url}"))?;
        let (status, headers) = (response.status(), response.headers().clone());
        self.jar.lock().keep(&url, &headers);
        let body = response
            .bytes()
            .await
            .with_context(|| format!("the answer of {url} broke off"))?;
        Ok(Reply {
            url,
            status,
            headers,
            body,
            hops: Vec::new(),
        })
    }

    /// Asks as a browser that navigates, and follows redirects to the end.
    ///
    /// # Errors
    /// No answer, or more than 20 redirects.
    pub async fn follow(&self, url: &str) -> Result<Reply> {
        let reply = self.navigate(Method::GET, url, Bytes::new()).await?;
        self.follow_from(reply).await
    }

    /// Follows the redirects of an answer to the end.
    ///
    /// # Errors
    /// No answer, or more than 20 redirects.
    pub async fn follow_from(&self, mut reply: Reply) -> Result<Reply> {
        let mut hops = vec![reply.url.clone()];
        while reply.status.is_redirection() {
            let next = reply
                .location()
                .with_context(|| format!("{} leads nowhere", reply.url))?;
            if hops.len() > 20 {
                bail!("too many redirects: {hops:?}");
            }
            hops.push(next.clone());
            reply = self.navigate(Method::GET, next.as_str(), Bytes::new()).await?;
        }
        reply.hops = hops;
        Ok(reply)
    }

    /// Fills in the form of a page and sends it: the password goes into the password field, the user
    /// into the text field. Follows redirects.
    ///
    /// # Errors
    /// The page has no such form, or there is no answer.
    pub async fn sign_in(&self, page: &Reply, user: &str, password: &str) -> Result<Reply> {
        let mut form = Form::with_password(&page.text()).with_context(|| {
            format!(
                "no sign-in form at {} ({}):\n{}",
                page.url,
                page.status,
                page.text()
            )
        })?;
        form.fill_credentials(user, password);
        self.submit(page, &form).await
    }

    /// Sends the form of a page whose action contains `action`. Follows redirects.
    ///
    /// # Errors
    /// The page has no such form, or there is no answer.
    pub async fn submit_form(&self, page: &Reply, action: &str) -> Result<Reply> {
        let form = Form::all(&page.text())
            .into_iter()
            .find(|form| form.action.contains(action))
            .with_context(|| format!("no form to {action} at {}:\n{}", page.url, page.text()))?;
        self.submit(page, &form).await
    }

    async fn submit(&self, page: &Reply, form: &Form) -> Result<Reply> {
        let target = page.url.join(&form.action)?;
        let reply = if form.method == "get" {
            let mut target = target;
            target.query_pairs_mut().clear().extend_pairs(&form.fields);
            self.navigate(Method::GET, target.as_str(), Bytes::new()).await?
        } else {
            let body = form.encoded();
            let origin = page.url.origin().ascii_serialization();
            let headers = [
                ("content-type", "application/x-www-form-urlencoded"),
                ("origin", origin.as_str()),
            ];
            self.send(
                Method::POST,
                target.as_str(),
                &[&headers[..], NAVIGATION].concat(),
                body,
            )
            .await?
        };
        self.follow_from(reply).await
    }

    async fn navigate(&self, method: Method, url: &str, body: Bytes) -> Result<Reply> {
        self.send(method, url, NAVIGATION, body).await
    }

    /// The value of a cookie that would be sent to `url`.
    pub fn cookie(&self, url: &str, name: &str) -> Option<String> {
        self.jar.lock().value(&Url::parse(url).ok()?, name)
    }

    /// Sets a cookie for the host of `url`.
    ///
    /// # Errors
    /// Not a URL.
    pub fn set_cookie(&self, url: &str, name: &str, value: &str) -> Result<()> {
        self.jar.lock().set(&Url::parse(url)?, name, value);
        Ok(())
    }

    /// Forgets all cookies.
    pub fn forget(&self) {
        *self.jar.lock() = Jar::default();
    }
}

/// What a browser sends along when a person follows a link.
const NAVIGATION: &[(&str, &str)] = &[
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-site", "same-origin"),
];
