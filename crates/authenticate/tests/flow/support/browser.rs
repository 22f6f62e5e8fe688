//! A browser as far as sign-in can tell one: a cookie jar, fetch-metadata headers, redirects, forms.

use http::{HeaderMap, Method};
use pomerium_crypto::query::Query;

use super::world::{Reply, World};

/// One cookie.
#[derive(Debug, Clone)]
pub struct Cookie {
    pub name: String,
    pub value: String,
    pub host: String,
    pub host_only: bool,
    pub path: String,
}

pub struct Browser<'w> {
    pub world: &'w World,
    pub jar: Vec<Cookie>,
    /// Drops every cookie whose name ends so, as a browser with a strict setting would.
    pub refuses: Option<&'static str>,
    /// Every URL visited, in order.
    pub visited: Vec<String>,
    pub extra: Vec<(&'static str, String)>,
}

impl<'w> Browser<'w> {
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            jar: Vec::new(),
            refuses: None,
            visited: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// One request, no redirect followed.
    pub async fn fetch(&mut self, method: Method, url: &str, site: &str, form: Option<&Query>) -> Reply {
        self.visited.push(url.to_owned());
        let (host, path) = split(url);
        let mut headers = vec![
            ("accept", "text/html,application/xhtml+xml,*/*;q=0.8".to_owned()),
            ("sec-fetch-mode", "navigate".to_owned()),
            ("sec-fetch-site", site.to_owned()),
        ];
        for (name, value) in &self.extra {
            headers.retain(|(known, _)| known != name);
            headers.push((name, value.clone()));
        }
        let cookies = self.cookies_for(&host, &path);
        if !cookies.is_empty() {
            headers.push(("cookie", cookies));
        }
        let body = form.map(Query::encode);
        if body.is_some() {
            headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
        }
        let reply = self
            .world
            .send(method, url, &headers, body.unwrap_or_default())
            .await;
        self.store(&host, &reply.headers);
        reply
    }

    /// A GET without following.
    pub async fn get(&mut self, url: &str) -> Reply {
        self.fetch(Method::GET, url, "none", None).await
    }

    /// A GET, and every redirect after it.
    pub async fn open(&mut self, url: &str) -> Reply {
        let reply = self.get(url).await;
        self.follow(reply).await
    }

    /// Goes where a reply sends the browser, until it sends nowhere.
    pub async fn follow(&mut self, mut reply: Reply) -> Reply {
        for _ in 0..20 {
            let Some(next) = reply.next() else { return reply };
            let next = absolute(&reply.url, &next);
            reply = self.fetch(Method::GET, &next, "cross-site", None).await;
        }
        panic!("redirected without end: {:#?}", self.visited);
    }

    /// Fills in the form on a page and sends it.
    pub async fn submit(&mut self, page: &Reply, fields: &[(&str, &str)]) -> Reply {
        let (action, mut form) = page.form();
        for (name, value) in fields {
            form.set(name, value);
        }
        let action = absolute(&page.url, &action);
        self.fetch(Method::POST, &action, "same-origin", Some(&form))
            .await
    }

    /// Signs in at the built-in provider and comes back to `url`.
    pub async fn sign_in(&mut self, url: &str, user: &str, password: &str) -> Reply {
        let page = self.open(url).await;
        assert!(
            page.body.contains("type=\"password\""),
            "no sign-in form: {} {}",
            page.status,
            page.body
        );
        let reply = self
            .submit(&page, &[("username", user), ("password", password)])
            .await;
        self.follow(reply).await
    }

    pub fn cookie(&self, name: &str, host: &str) -> Option<&Cookie> {
        self.jar
            .iter()
            .find(|cookie| cookie.name == name && cookie.host == host)
    }

    fn cookies_for(&self, host: &str, path: &str) -> String {
        let name = host.split(':').next().unwrap();
        let fits = |cookie: &&Cookie| {
            let host_fits =
                cookie.host == name || (!cookie.host_only && name.ends_with(&format!(".{}", cookie.host)));
            host_fits && path.starts_with(cookie.path.as_str())
        };
        let list: Vec<_> = self
            .jar
            .iter()
            .filter(fits)
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        list.join("; ")
    }

    fn store(&mut self, host: &str, headers: &HeaderMap) {
        for line in headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            assert!(line.contains("; Secure"), "every cookie is Secure: {line}");
            assert!(line.contains("; HttpOnly"), "every cookie is HttpOnly: {line}");
            let mut parts = line.split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let attribute = |wanted: &str| {
                line.split("; ")
                    .skip(1)
                    .filter_map(|part| part.split_once('='))
                    .find(|(key, _)| *key == wanted)
                    .map(|(_, v)| v)
            };
            let own = host.split(':').next().unwrap();
            let domain = attribute("Domain").map(|domain| domain.trim_start_matches('.').to_owned());
            if domain
                .as_ref()
                .is_some_and(|domain| own != domain && !own.ends_with(&format!(".{domain}")))
            {
                continue;
            }
            let cookie = Cookie {
                name: name.to_owned(),
                value: value.to_owned(),
                host: domain.clone().unwrap_or_else(|| own.to_owned()),
                host_only: domain.is_none(),
                path: attribute("Path").unwrap_or("/").to_owned(),
            };
            self.jar
                .retain(|old| old.name != cookie.name || old.host != cookie.host || old.path != cookie.path);
            let refused = self.refuses.is_some_and(|suffix| name.ends_with(suffix));
            if attribute("Max-Age") != Some("-1") && !refused {
                self.jar.push(cookie);
            }
        }
    }
}

/// `host[:port]` and path of a URL.
pub fn split(url: &str) -> (String, String) {
    let rest = url
        .strip_prefix("https://")
        .unwrap_or_else(|| panic!("not https: {url}"));
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let path = rest[at..].split('?').next().unwrap_or("/");
    (
        rest[..at].to_owned(),
        if path.is_empty() {
            "/".to_owned()
        } else {
            path.to_owned()
        },
    )
}

fn absolute(base: &str, target: &str) -> String {
    if target.starts_with('/') {
        format!("https://{}{target}", split(base).0)
    } else {
        target.to_owned()
    }
}
