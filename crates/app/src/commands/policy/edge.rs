//! What the rooms beside `authorize` contribute to a policy case: reading YAML, the routes of a configuration, and the
//! form of the answer.

use http::request::Parts;
use http::{HeaderValue, Method, header};
use pomerium_authorize::conformance::{Edge, Reply};
use pomerium_authorize::{Decision, Outcome};
use pomerium_config::spec::format::parse_yaml;
use pomerium_policy::Program;
use pomerium_web::canonical::{self, Connection, Rules};
use pomerium_web::negotiate::{self, ClientKind};
use serde_json::Value;

use super::source::Routes;

/// The loader's YAML and the proxy's way of answering.
#[derive(Default)]
pub struct Product<'a> {
    /// The routes that cases can name.
    pub routes: Option<&'a Routes>,
}

impl Edge for Product<'_> {
    fn route(&self, name: &str) -> Result<Program, String> {
        let Some(routes) = self.routes else {
            return Err(format!(
                "the case names the route {name:?}, and no configuration was given: add --config FILE"
            ));
        };
        routes
            .find(name)
            .map(|found| Program::clone(&found.route.settings.policy))
    }

    fn yaml(&self, text: &str) -> Result<Value, String> {
        parse_yaml(text)
            .map(|node| node.to_json())
            .map_err(|error| error.message)
    }

    fn decoded_path(&self, raw_path: &str) -> String {
        canonical::path::decode(raw_path).into_owned()
    }

    fn reply(&self, decision: &Decision, request: &Parts, mcp: bool) -> Reply {
        if mcp {
            return mcp_reply(decision, request);
        }
        let (status, redirect) = match decision.outcome {
            Outcome::Allow => return FORWARDED,
            Outcome::Login => (401, Some("login")),
            Outcome::StepUp => (401, Some("step-up")),
            Outcome::Device => (401, Some("webauthn")),
            Outcome::Denied { status, .. } => (status, None),
        };
        let mut parts = request.clone();
        let host = request
            .uri
            .authority()
            .map_or("app.example.com", |at| at.as_str());
        if let Ok(host) = HeaderValue::from_str(host) {
            parts.headers.entry(header::HOST).or_insert(host);
        }
        let connection = Connection {
            peer: ([203, 0, 113, 7], 50_000).into(),
            tls: true,
            local: ([127, 0, 0, 1], 443).into(),
        };
        let canonical = canonical::canonicalize(&mut parts, &connection, &Rules::default(), &mut || {
            "request".into()
        });
        let Ok(canonical) = canonical else {
            return refused(400);
        };
        let kind = negotiate::wants(&canonical, &parts.headers);
        if kind == ClientKind::RobotsTxt {
            return refused(200);
        }
        if redirect.is_some() && negotiate::redirect_allowed(&canonical, &parts.headers) {
            return Reply {
                status: 302,
                upstream: false,
                redirect,
            };
        }
        refused(status)
    }
}

/// Let through.
const FORWARDED: Reply = Reply {
    status: 200,
    upstream: true,
    redirect: None,
};

fn refused(status: u16) -> Reply {
    Reply {
        status,
        upstream: false,
        redirect: None,
    }
}

/// The route of an MCP server (spec policy.md 8.1, 8.3, 8.6, 18): a preflight is answered before anything is judged,
/// nobody is redirected, and a denial of a call is an answer in JSON-RPC.
fn mcp_reply(decision: &Decision, request: &Parts) -> Reply {
    if request.method == Method::OPTIONS {
        return refused(204);
    }
    match decision.outcome {
        Outcome::Allow => FORWARDED,
        Outcome::Login | Outcome::StepUp | Outcome::Device => refused(401),
        Outcome::FORBIDDEN => refused(200),
        Outcome::Denied { status, .. } => refused(status),
    }
}
