//! The configuration file of a case.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::case::Case;
use crate::Authority;

/// Where the program of a case runs.
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) authority: &'a Authority,
    pub(super) port: u16,
    pub(super) health: u16,
    /// The identity provider, for routes that are not public.
    pub(super) issuer: &'a str,
}

impl Place<'_> {
    /// The case's options and `routes`, with what every configuration needs.
    ///
    /// Routes that stand in records come back beside it.
    pub(super) fn config(&self, case: &Case, routes: &[Map<String, Value>]) -> Result<(Value, Vec<Value>)> {
        let mut config = case.options.clone();
        add(
            &mut config,
            &json!({
                "address": format!("127.0.0.1:{}", self.port),
                "health_check_addr": format!("127.0.0.1:{}", self.health),
                "data_dir": self.folder.join("data"),
                "shared_secret": "dGVzdHMgb25seTogdGhlIHNoYXJlZCBzZWNyZXQgISE=",
                "cookie_secret": "dGVzdHMgb25seTogdGhlIGNvb2tpZSBzZWNyZXQgISE=",
                "log_level": "debug",
            }),
        );
        self.certificates(&mut config)?;
        let mut lists: [Vec<Value>; 3] = Default::default();
        let mut protected = false;
        for (index, route) in routes.iter().enumerate() {
            let (list, route, public) = numbered(index, route)?;
            protected |= !public;
            lists[list].push(route);
        }
        let [policy, routes, records] = lists;
        config.insert("routes".into(), routes.into());
        if !policy.is_empty() {
            config.insert("policy".into(), policy.into());
        }
        if protected {
            add(
                &mut config,
                &json!({
                    "authenticate_service_url": "https://authenticate.example.org",
                    "idp_provider": "oidc",
                    "idp_provider_url": self.issuer,
                    "idp_client_id": "pomerium",
                    "idp_client_secret": "secret",
                }),
            );
        }
        Ok((config.into(), records))
    }

    fn certificates(&self, config: &mut Map<String, Value>) -> Result<()> {
        std::fs::write(self.folder.join("ca.pem"), self.authority.pem())?;
        add(
            config,
            &json!({ "certificate_authority_file": self.folder.join("ca.pem") }),
        );
        if config.remove("static_certificate") == Some(Value::Bool(false)) {
            return Ok(());
        }
        let leaf = self.authority.issue(&["*.example.com"])?;
        std::fs::write(self.folder.join("server.pem"), leaf.certificate_pem)?;
        std::fs::write(self.folder.join("server.key"), leaf.key_pem)?;
        add(
            config,
            &json!({
                "certificate_file": self.folder.join("server.pem"),
                "certificate_key_file": self.folder.join("server.key"),
            }),
        );
        Ok(())
    }
}

/// The list that a route stands in, the route with a name to know it by, and whether it is public.
fn numbered(index: usize, route: &Map<String, Value>) -> Result<(usize, Value, bool)> {
    let mut route = route.clone();
    let list = match route.remove("list").as_ref().map(Value::as_str) {
        None | Some(Some("routes")) => 1,
        Some(Some("policy")) => 0,
        Some(Some("databroker")) => 2,
        Some(list) => bail!("there is no list of routes called {}", list.unwrap_or("?")),
    };
    route.insert("name".into(), format!("route-{index}").into());
    let public = route
        .entry("allow_public_unauthenticated_access")
        .or_insert(Value::Bool(true));
    let public = public == &Value::Bool(true);
    Ok((list, route.into(), public))
}

fn add(config: &mut Map<String, Value>, more: &Value) {
    config.extend(more.as_object().cloned().unwrap_or_default());
}
