//! Policy cases, with what the rooms beside `authorize` contribute: reading YAML and the form of the answer.

use anyhow::Result;
use http::request::Parts;
use http::{HeaderValue, header};
use pomerium_authorize::conformance::{self, CaseOutcome, Edge, Reply};
use pomerium_authorize::{Decision, Outcome};
use pomerium_config::spec::format::parse_yaml;
use pomerium_web::canonical::{self, Connection, Rules};
use pomerium_web::negotiate::{self, ClientKind};
use serde_json::Value;

use crate::{Verdict, Weight};

/// Runs the cases of a file.
pub(crate) fn run(text: &str) -> Result<Vec<Verdict>> {
    let verdicts = conformance::run(text, &Product)?.into_iter().map(|case| Verdict {
        name: case.name,
        weight: match (case.enterprise, case.unsure) {
            (true, _) => Weight::Enterprise,
            (_, true) => Weight::Unsure,
            _ => Weight::Counted,
        },
        differences: match case.outcome {
            CaseOutcome::Pass => Vec::new(),
            CaseOutcome::Fail(lines) => lines,
            CaseOutcome::NotBuilt(what) => vec![format!("not built yet: {what}")],
        },
    });
    Ok(verdicts.collect())
}

/// The loader's YAML and the proxy's way of answering.
struct Product;

impl Edge for Product {
    fn yaml(&self, text: &str) -> Result<Value, String> {
        parse_yaml(text)
            .map(|node| node.to_json())
            .map_err(|error| error.message)
    }

    fn decoded_path(&self, raw_path: &str) -> String {
        canonical::path::decode(raw_path).into_owned()
    }

    fn reply(&self, decision: &Decision, request: &Parts) -> Reply {
        let status = match decision.outcome {
            Outcome::Allow => {
                return Reply {
                    status: 200,
                    upstream: true,
                    redirect: None,
                };
            }
            Outcome::Login | Outcome::Device | Outcome::StepUp => 401,
            Outcome::Denied { status, .. } => status,
        };
        let refused = |status| Reply {
            status,
            upstream: false,
            redirect: None,
        };
        let mut parts = request.clone();
        parts
            .headers
            .entry(header::HOST)
            .or_insert(HeaderValue::from_static("app.example.com"));
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
        if status == 401 && negotiate::redirect_allowed(&canonical, &parts.headers) {
            return Reply {
                status: 302,
                upstream: false,
                redirect: Some("login"),
            };
        }
        refused(status)
    }
}
